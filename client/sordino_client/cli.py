"""`sordino site`: for the admin of a site, on its host."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sordino_protocols.errors import UnreachableError
from sordino_protocols.terminal import Output, show_object

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The site's configuration.", envvar="SORDINO_SITE")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table or json.")]
DEFAULT_CONFIG = Path("/etc/sordino/site.toml")

site_app = typer.Typer(no_args_is_help=True, help="Run and look at a site.")


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


@site_app.command("mask-key")
def mask_key(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make this site's key pair for sums; hand the public half to the other sites' admins."""
    from sordino_client.config import load_config
    from sordino_client.synthesis.mask_keys import PUBLIC_SUFFIX, SECRET_SUFFIX, save_mask_keypair

    site = load_config(config).site
    keys = site.signing_key.parent
    save_mask_keypair(keys, site.name)
    typer.echo(f"made {keys / f'{site.name}{SECRET_SUFFIX}'}: name it as site.mask_key")
    typer.echo(f"hand {keys / f'{site.name}{PUBLIC_SUFFIX}'} to the other sites, for their `peers`")


@site_app.command("status")
def status(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Show what the vault serves, and whether it is cut off from the network."""
    show_object(_status(config), output=output)


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
