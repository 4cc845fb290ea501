"""`sordino server`: for the operator, on the server's host."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.terminal import Output, note, show

if TYPE_CHECKING:
    from sordino_server.runs import RunDirectory

ConfigOption = Annotated[
    Path,
    typer.Option("--config", "-c", help="The server's configuration.", envvar="SORDINO_SERVER"),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
DEFAULT_CONFIG = Path("/etc/sordino/server.toml")

server_app = typer.Typer(no_args_is_help=True, help="Run and look at the server.")


@server_app.command("run")
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the server: SuperLink, queue, gateway and metrics."""
    from sordino_server.server_process import main

    raise typer.Exit(main([str(config)]))


@server_app.command("runs")
def runs(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """List all runs, oldest first."""
    from sordino_server.config import load_config
    from sordino_server.runs import Runs

    rows = [
        {
            "run_id": each.run_id,
            "state": each.state().value,
            "submitter": each.manifest().job.submitter,
            "created": each.manifest().created,
            "quarantine": _quarantine(each),
        }
        for each in Runs(load_config(config).runs_directory).all()
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
    from sordino_server.quarantine import release_run
    from sordino_server.runs import Runs

    run_directory = Runs(load_config(config).runs_directory).get(run_id)
    ended = release_run(run_directory, reason=reason, by=getuser())
    note(f"run {run_id} is released; it was in quarantine by audit {ended.audit_hash}")
    note(f"the audit said: {ended.reason}")


@server_app.command("heads")
def heads(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """List the newest ledger entry that the server remembers of every site."""
    from sordino_protocols.signing import load_trust
    from sordino_server.config import load_config
    from sordino_server.heads import HeadStore

    loaded = load_config(config)
    sites = load_trust(loaded.server.sites)
    store = HeadStore(loaded.heads_directory, sites)
    remembered = {site: store.get(site) for site in sorted(sites.keys)}
    show(
        [
            {"site": site, "entries": head.length, "head": head.hash}
            for site, head in remembered.items()
            if head is not None
        ],
        output=output,
    )


def _quarantine(run: "RunDirectory") -> str:
    """Which audit quarantined a run; empty where none did."""
    from sordino_protocols.errors import IntegrityError
    from sordino_server.quarantine import quarantine_of

    try:
        lasting = quarantine_of(run)
    except IntegrityError:
        return "its record cannot be read"
    return "" if lasting is None else f"audit {lasting.audit_hash[:12]}"
