"""`sordino audit`: for auditors and privacy officers, at the server, at a site, or anywhere."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_audit.code_cli import infer, replay, self_test
from sordino_audit.report_output import (
    ConfigOption,
    HtmlOption,
    OutputOption,
    ReportsOption,
    SiteOption,
    tell_document,
    write_page,
)
from sordino_audit.schedule import Scheduler
from sordino_audit.synthesis_cli import synthesis
from sordino_protocols.errors import InputError
from sordino_protocols.terminal import Output, note, show, show_object

if TYPE_CHECKING:
    from sordino_audit.audit_config import AuditConfig
    from sordino_audit.filing import Audited

audit_app = typer.Typer(
    no_args_is_help=True,
    help="Attack what was released, and say what that shows of the promise. "
    "Exit codes: 0 nothing found, 8 a file or ledger does not hold together, 9 violation, "
    "10 suspect, 11 inconclusive.",
)


ConfidenceOption = Annotated[
    float | None, typer.Option(help="Of every bound on epsilon; default: audit.toml's, or .95.")
]
HeadsOption = Annotated[
    Path | None,
    typer.Option(help="Where ledger heads are remembered; default: beside the runs."),
]


@audit_app.command("run")
def run(
    target: Annotated[
        Path | None,
        typer.Argument(
            help="A run's directory on the server; with --site a run's id; with --new the "
            "directory of all runs."
        ),
    ] = None,
    *,
    site: SiteOption = None,
    new: Annotated[
        bool, typer.Option("--new", help="Audit all finished runs that have no audit yet.")
    ] = False,
    html: HtmlOption = None,
    reports: ReportsOption = None,
    confidence: ConfidenceOption = None,
    heads: HeadsOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Audit a finished run: at the server by its canary lanes, at a site step by step.

    TARGET is a run's directory on the server; with --site, the id of a run that this site took part
    in; with --new, the directory of all runs. At the server, audit.json is written beside the run,
    a report is added to the series where one is kept, and a violation quarantines the model. At a
    site, the report stays below the site's state directory.

    Exit code 0: nothing found; 8: a site's ledger contradicts what was seen of it before; 9:
    violation; 10: suspect; 11: inconclusive.
    """
    from sordino_audit.audit_config import load_config

    settings = load_config(config, reports=reports, heads=heads, confidence=confidence)
    if new:
        if html is not None:
            raise InputError("--html is of one audit; after --new: sordino audit show --html FILE")
        raise typer.Exit(_run_new(target, site, settings, output))
    if target is None:
        raise InputError("name a run's directory; or all new ones: sordino audit run --new RUNS")
    made = _audit_target(target, site, settings)
    for each in made.notes:
        note(f"note: {each}")
    for finding in made.ledgers:
        note(f"{finding.severity.value}: {finding.message}")
    write_page(made.document, html)
    tell_document(made.document, output)
    raise typer.Exit(made.exit_code)


audit_app.command("self-test")(self_test)
audit_app.command("replay")(replay)
audit_app.command("infer")(infer)
audit_app.command("synthesis")(synthesis)


@audit_app.command("show")
def show_report(
    report: Annotated[
        str, typer.Argument(help="A document, its number in the series, latest, or all.")
    ] = "latest",
    html: HtmlOption = None,
    reports: ReportsOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a report; its hash is checked first. The exit code is 0 whatever the verdict was."""
    from sordino_audit.audit_config import load_config
    from sordino_audit.shelf import Shelf, current

    shelf = Shelf(load_config(config, reports=reports).reports)
    if report == "all":
        show(shelf.rows(), output=output, title="audits, oldest first")
        return
    found = shelf.find(report)
    if html is not None:
        write_page(current(found), html)
    if output.is_json:
        show_object(found.raw, output=output)
    elif found.document is None:
        show_object(found.old_facts(), output=output)
    else:
        tell_document(found.document, output)


@audit_app.command("verify")
def verify(
    target: Annotated[Path, typer.Argument(help="A directory of reports, or one document.")],
    head: Annotated[
        str | None, typer.Option(help="A hash noted earlier, which must be in the series.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check that no report was altered, dropped or slipped in. Exit code 8 if one was."""
    from sordino_audit.shelf import verified

    show_object(verified(target, head=head), output=output)


@audit_app.command("schedule")
def schedule(
    runs: Annotated[
        Path | None, typer.Argument(help="The server's directory of runs; default: audit.toml's.")
    ] = None,
    *,
    install: Annotated[Scheduler, typer.Option(help="Who starts the audits.")],
    every: Annotated[str, typer.Option(help="15m, 6h, daily, weekly, …")] = "daily",
    site: SiteOption = None,
    reports: ReportsOption = None,
    user: Annotated[
        bool, typer.Option("--user", help="Your own systemd, not the system's.")
    ] = False,
    run_as: Annotated[
        str | None, typer.Option(help="Who runs the audits; default: who owns the runs.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Where the files go; default: where the scheduler looks.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files only.")] = False,
    config: ConfigOption = None,
) -> None:
    """Install a periodic job that audits new runs and models.

    RUNS is the server's directory of runs; at a site, use --site instead. The job is the command
    `sordino audit run --new`, so after a violation its systemd unit has failed.
    """
    from sordino_audit.audit_config import load_config
    from sordino_audit.schedule import install as write_files
    from sordino_audit.schedule import next_steps, systemd_problems
    from sordino_audit.scheduling import Wish, plan

    wish = Wish(install, every, runs, site, config, user, run_as, directory)
    files = plan(wish, load_config(config, reports=reports))
    if dry_run:
        for each in files:
            sys.stdout.write(f"# {each.path}\n{each.content}\n")
        return
    write_files(files)
    for each in files:
        note(f"written: {each.path}")
    systemd_analyze = shutil.which("systemd-analyze")
    if install is Scheduler.SYSTEMD and systemd_analyze is not None:
        for problem in systemd_problems(files, systemd_analyze=systemd_analyze):
            note(f"note: {problem}")
    note(next_steps(install, is_user=user))


@audit_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a report."""
    from sordino_audit.audit_document import schema_json

    sys.stdout.write(schema_json())


def _run_new(
    target: Path | None, site: Path | None, settings: "AuditConfig", output: Output
) -> int:
    from sordino_audit.sweep import Outcome, sweep, worst

    def tell(outcome: Outcome) -> None:
        note(f"{outcome.run}: {outcome.verdict}. {outcome.message}")

    runs, audit = _new_at_site(site, settings) if site else _new_at_server(target, settings)
    outcomes = sweep(runs, audit, tell=tell)
    rows: list[Mapping[str, object]] = [
        {"run": each.run, "verdict": each.verdict, "exit_code": int(each.exit_code)}
        for each in outcomes
    ]
    if output.is_json or rows:
        show(rows, output=output)
    else:
        note("no new runs")
    return worst(outcomes)


def _new_at_server(
    target: Path | None, settings: "AuditConfig"
) -> "tuple[Sequence[str], Callable[[str], Audited]]":
    from sordino_audit.audit_runs import audit_one, new_runs, open_runs

    runs = {run.run_id: run for run in new_runs(open_runs(settings, target))}
    return list(runs), lambda name: audit_one(runs[name], settings)


def _new_at_site(
    site: Path, settings: "AuditConfig"
) -> "tuple[Sequence[str], Callable[[str], Audited]]":
    from sordino_audit.site_runs import audit_at_site, new_site_runs
    from sordino_client.config import load_config

    config = load_config(site)
    return new_site_runs(config), lambda run: audit_at_site(
        config, run, confidence=settings.confidence
    )


def _audit_target(target: Path, site: Path | None, settings: "AuditConfig") -> "Audited":
    if site is not None:
        from sordino_audit.site_runs import audit_at_site
        from sordino_client.config import load_config

        return audit_at_site(load_config(site), target.name, confidence=settings.confidence)
    from sordino_audit.audit_runs import audit_one, open_runs, run_at

    is_id = settings.state_url_file is not None and not target.exists()
    run = open_runs(settings).get(target.name) if is_id else run_at(target)
    return audit_one(run, settings)
