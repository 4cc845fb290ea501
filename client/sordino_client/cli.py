"""`sordino site`, `sordino budget`, `sordino ledger`: for the admin of a site, on its host."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sordino_protocols.errors import NotFoundError, UnreachableError
from sordino_protocols.terminal import Output, show, show_object

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The site's configuration.", envvar="SORDINO_SITE")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
DEFAULT_CONFIG = Path("/etc/sordino/site.toml")

site_app = typer.Typer(no_args_is_help=True, help="Run and look at a site.")
budget_app = typer.Typer(no_args_is_help=True, help="What a site's data sets may still release.")
ledger_app = typer.Typer(no_args_is_help=True, help="What a site has released, and its proof.")


@site_app.command("vault")
def vault(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the process with the data and without a network."""
    from sordino_client.vault_process import main

    raise typer.Exit(main([str(config)]))


@site_app.command("link")
def link(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the process with the network and without data."""
    from sordino_client.link_process import main

    raise typer.Exit(main([str(config)]))


@site_app.command("status")
def status(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Show what the vault serves, and whether it is cut off from the network."""
    show_object(_status(config), output=output)


@budget_app.command("show")
def budget_show(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Show limit, spent, held and left of every data set, in epsilon by the Rényi filter."""
    budgets = _status(config)["budgets"]
    rows = [{"dataset": name, **facts} for name, facts in _objects(budgets).items()]
    show(rows, output=output)


@ledger_app.command("verify")
def ledger_verify(
    config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE
) -> None:
    """Check every entry of the ledger against its chain; exit code 8 if one does not hold."""
    from sordino_client.config import load_config
    from sordino_client.ledger import GENESIS, read_entries

    path = load_config(config).ledger_path
    if not path.exists():
        raise NotFoundError(f"{path}: no ledger; has the vault run yet?")
    entries = read_entries(path)
    head = entries[-1]["hash"] if entries else GENESIS
    show_object({"ledger": str(path), "entries": len(entries), "head": head}, output=output)


@ledger_app.command("show")
def ledger_show(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """List the ledger's entries, oldest first."""
    from sordino_client.config import load_config
    from sordino_client.ledger import read_entries

    entries = read_entries(load_config(config).ledger_path)
    if output is Output.JSON:
        sys.stdout.write(json.dumps(entries, indent=2) + "\n")
        return
    columns = ("seq", "at", "kind", "run_id", "step")
    show([{key: entry.get(key) for key in columns} for entry in entries], output=output)


def _status(config: Path) -> Mapping[str, object]:
    from sordino_client.config import load_config
    from sordino_client.vault_client import VaultClient

    socket = load_config(config).site.socket
    with VaultClient(socket) as vault_client:
        text = vault_client.status()
    if text is None:
        raise UnreachableError(f"{socket}: no vault answers; start it with: sordino site run")
    return _objects(json.loads(text))


def _objects(value: object) -> Mapping[str, Mapping[str, object]]:
    if not isinstance(value, dict):
        raise UnreachableError("the vault answered something that is no JSON object")
    return value
