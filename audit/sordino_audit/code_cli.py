"""`sordino audit self-test|replay|infer`: audits of code and models, away from any run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sordino_audit.report_output import (
    ConfigOption,
    HtmlOption,
    OutputOption,
    ReportsOption,
    SiteOption,
    tell_document,
    write_page,
)
from sordino_protocols.terminal import Output

JobArgument = Annotated[
    Path, typer.Argument(help="A job's TOML, or a run's directory on the server.")
]
SchemaOption = Annotated[
    Path | None, typer.Option(help="A dataset.toml; records are made up from it.")
]
DataOption = Annotated[
    Path | None, typer.Option(help="A directory with dataset.toml and its public files.")
]
DesignOption = Annotated[Path | None, typer.Option(help="A replay.toml.")]


class ReplayBackend(StrEnum):
    """Where federations run."""

    LOCAL = "local"
    RAY = "ray"


def self_test(
    site: SiteOption = None,
    html: HtmlOption = None,
    reports: ReportsOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Test the code of this installation on synthetic records, in seconds.

    With --site, under that site's settings, and the vault starts only where this passed. Exit code
    0: every check passed; 9: one failed.
    """
    from sordino_audit.audit_code import tested_installation
    from sordino_audit.audit_config import load_config

    _only_warnings()
    settings = load_config(config, reports=reports)
    made = tested_installation(site, settings)
    write_page(made.document, html)
    tell_document(made.document, output)
    raise typer.Exit(made.exit_code)


def replay(
    job: JobArgument,
    out: Annotated[Path, typer.Option(help="The replay's directory; the same again resumes it.")],
    *,
    schema: SchemaOption = None,
    data: DataOption = None,
    design: DesignOption = None,
    runs: Annotated[int | None, typer.Option(help="Federations, in place of the design's.")] = None,
    backend: Annotated[
        ReplayBackend, typer.Option(help="ray needs the extra `ray`.")
    ] = ReplayBackend.LOCAL,
    workers: Annotated[int, typer.Option(help="Processes at a time.")] = 1,
    html: HtmlOption = None,
    reports: ReportsOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run whole federations again, with and without canaries, and attack what they release.

    JOB is a job's TOML file, or the directory of a run at the server. Records are made up from
    --schema, or public ones from --data. What was run is kept in --out, so a replay that was
    stopped goes on. Exit codes as `sordino audit run`.
    """
    from sordino_audit.audit_code import Execution, replayed
    from sordino_audit.audit_config import load_config
    from sordino_audit.replay.plan import read_plan

    _only_warnings()
    settings = load_config(config, reports=reports)
    plan = read_plan(job, schema=schema, data=data, design=design, runs=runs)
    made = replayed(plan, Execution(out, backend.value, workers), settings)
    write_page(made.document, html)
    tell_document(made.document, output)
    raise typer.Exit(made.exit_code)


def infer(
    job: JobArgument,
    column: Annotated[str, typer.Option(help="A category among the job's features.")],
    *,
    word: Annotated[
        str | None,
        typer.Option(help="Whether this word is common at a site, instead of each record's."),
    ] = None,
    schema: SchemaOption = None,
    data: DataOption = None,
    design: DesignOption = None,
    html: HtmlOption = None,
    reports: ReportsOption = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Measure how much better a column is guessed with the job's model than without it.

    JOB is a job's TOML file, or the directory of a run at the server. Records are made up from
    --schema, or public ones from --data. Differential privacy does not forbid such guesses, so this
    is never a violation. Exit code 0: no more than acceptable; 10: more; 11: too few guesses.
    """
    from sordino_audit.audit_code import inferred
    from sordino_audit.audit_config import load_config
    from sordino_audit.replay.plan import read_plan

    _only_warnings()
    settings = load_config(config, reports=reports)
    plan = read_plan(job, schema=schema, data=data, design=design)
    made = inferred(plan, column, word, settings)
    write_page(made.document, html)
    tell_document(made.document, output)
    raise typer.Exit(made.exit_code)


def _only_warnings() -> None:
    """Of sites and servers that run for the audit alone, whatever goes wrong; to stderr."""
    from sordino_protocols.logs import configure_logging

    configure_logging(level="warning")
