"""`sordino server`: for the operator, on the server's host."""

from pathlib import Path
from typing import Annotated

import typer

from sordino_protocols.terminal import Output, show

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
        }
        for each in Runs(load_config(config).runs_directory).all()
    ]
    show(rows, output=output)


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
