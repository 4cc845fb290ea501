"""`sordino server`: for the operator, on the server's host."""

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import NotFoundError
from sordino_protocols.standard_paths import default_config
from sordino_protocols.terminal import Output, SetOption, note, show

if TYPE_CHECKING:
    from sordino_server.runs import RunDirectory

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The server's configuration.", envvar="SORDINO_SERVER"),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]
DEFAULT_CONFIG = default_config("server")

server_app = typer.Typer(no_args_is_help=True, help="Run and look at the server.")


@server_app.command("run")
def run(config: ConfigOption = DEFAULT_CONFIG, settings: SetOption = None) -> None:
    """Run the server: SuperLink, queue, gateway and metrics."""
    from sordino_protocols.configuration import settings_environment
    from sordino_server.server_process import main

    os.environ.update(settings_environment("server", settings or ()))
    raise typer.Exit(main([str(config)]))


@server_app.command("runs")
def runs(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """List all runs, oldest first."""
    from sordino_server.config import load_config
    from sordino_server.state_location import open_state, runs_in

    rows = [
        {
            "run_id": each.run_id,
            "state": each.state().value,
            "submitter": each.manifest().job.submitter,
            "created": each.manifest().created,
            "quarantine": _quarantine(each),
        }
        for each in runs_in(open_state(load_config(config))).all()
    ]
    show(rows, output=output)


@server_app.command("release")
def release(
    run_id: Annotated[str, typer.Argument(help="The run's id.")],
    reason: Annotated[str, typer.Option(help="Why its model may be used; kept in the run's log.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """End a run's quarantine: its model may be fetched and validated again.

    An audit that found a violation put it there. Read that audit first: sordino audit show.
    """
    from getpass import getuser

    from sordino_server.config import load_config
    from sordino_server.decisions import open_decisions
    from sordino_server.quarantine import release_run
    from sordino_server.quarantine_watch import note_quarantines
    from sordino_server.state_location import open_state, runs_in

    loaded = load_config(config)
    runs = runs_in(open_state(loaded))
    run_directory = runs.get(run_id)
    # First: the server may not have looked yet, or be stopped.
    note_quarantines(runs, loaded.audit_log_path)
    ended = release_run(run_directory, reason=reason, by=getuser())
    open_decisions(loaded.audit_log_path).released(run_id, by=getuser(), reason=reason)
    note(f"run {run_id} is released; it was in quarantine by audit {ended.audit_hash}")
    note(f"the audit said: {ended.reason}")


@server_app.command("heads")
def heads(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """List the newest ledger entry that the server remembers of every site."""
    from sordino_protocols.signing import load_trust
    from sordino_server.config import load_config
    from sordino_server.state_location import heads_in, open_state

    loaded = load_config(config)
    sites = load_trust(loaded.server.sites)
    store = heads_in(open_state(loaded), sites)
    remembered = {site: store.get(site) for site in sorted(sites.keys)}
    show(
        [
            {"site": site, "entries": head.length, "head": head.hash}
            for site, head in remembered.items()
            if head is not None
        ],
        output=output,
    )


@server_app.command("forget")
def forget(
    site: Annotated[str, typer.Argument(help="The site whose ledger was recovered.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    audit_log: Annotated[
        bool,
        typer.Option("--audit-log", help="Its audit log alone; its ledger stays remembered."),
    ] = False,
) -> None:
    """Begin anew with a site whose admin recovered its ledger and explained what happened.

    What was remembered of it stays beside, as SITE.forgotten.json.
    """
    from getpass import getuser

    from sordino_protocols.signing import check_name, load_trust
    from sordino_server.config import load_config
    from sordino_server.decisions import open_decisions
    from sordino_server.state_location import heads_in, open_state

    loaded = load_config(config)
    decisions = open_decisions(loaded.audit_log_path)
    if audit_log:
        decisions.audit_log_forgotten(check_name(site), by=getuser())
        note(f"what {site} shows of its audit log counts from now on")
        return
    store = heads_in(open_state(loaded), load_trust(loaded.server.sites))
    remembered = store.get(site)
    if remembered is None:
        raise NotFoundError(f"no head of a site {site!r} is remembered")
    store.forget(site)
    decisions.forgotten(site, by=getuser(), entries=remembered.length)
    note(f"forgotten: entry {remembered.length} of {site}, hash {remembered.hash}")


@server_app.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write; there must be none yet.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Back up the server's state, whether it runs or not.

    Runs with their models, remembered heads, audit log, the SuperLink's database; not /etc/sordino.
    """
    from sordino_server.config import load_config
    from sordino_server.server_backup import back_up_server

    manifest = back_up_server(load_config(config), file, now=dt.datetime.now(dt.UTC))
    note(f"wrote {file}: {len(manifest.files)} files, {manifest.note}")


@server_app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Put a backup back, where no state lies. Stop the server first."""
    from sordino_server.config import load_config
    from sordino_server.server_backup import restore_server

    manifest = restore_server(load_config(config), file)
    note(f"restored the state of {manifest.taken}: {manifest.note}")


def _quarantine(run: "RunDirectory") -> str:
    """Which audit quarantined a run; empty where none did."""
    from sordino_protocols.errors import IntegrityError
    from sordino_server.quarantine import quarantine_of

    try:
        lasting = quarantine_of(run)
    except IntegrityError:
        return "its record cannot be read"
    return "" if lasting is None else f"audit {lasting.audit_hash[:12]}"
