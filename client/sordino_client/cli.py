"""`sordino site`: for the admin of a site, on its host."""

import datetime as dt
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from sordino_protocols.errors import UnreachableError
from sordino_protocols.standard_paths import default_config
from sordino_protocols.terminal import Output, SetOption, note, show_object

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The site's configuration.", envvar="SORDINO_SITE")
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]
DEFAULT_CONFIG = default_config("site")

site_app = typer.Typer(no_args_is_help=True, help="Run and look at a site.")


@site_app.command("vault")
def vault(config: ConfigOption = DEFAULT_CONFIG, settings: SetOption = None) -> None:
    """Run the process with the data and without a network."""
    from sordino_client.vault_process import main
    from sordino_protocols.configuration import settings_environment

    os.environ.update(settings_environment("site", settings or ()))
    raise typer.Exit(main([str(config)]))


@site_app.command("link")
def link(config: ConfigOption = DEFAULT_CONFIG, settings: SetOption = None) -> None:
    """Run the process with the network and without data."""
    from sordino_client.link_process import main
    from sordino_protocols.configuration import settings_environment

    os.environ.update(settings_environment("site", settings or ()))
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


@site_app.command("backup")
def backup(
    file: Annotated[Path, typer.Argument(help="The backup to write; there must be none yet.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Back up the site's state, whether the vault runs or not. Keep it as safe as the site itself.

    Ledger, outbox, admitted runs, approvals, audit log, witness and split key; not /etc/sordino.
    """
    from sordino_client.config import load_config
    from sordino_client.site_backup import back_up_site

    manifest = back_up_site(load_config(config), file, now=dt.datetime.now(dt.UTC))
    note(f"wrote {file}: {len(manifest.files)} files, {manifest.note}")


@site_app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Put a backup back, where no state lies. Stop the vault first.

    It gives no budget back: the server remembers a newer ledger and refuses this one, until
    `sordino ledger recover` has charged what the site may have released since.
    """
    from sordino_client.config import load_config
    from sordino_client.site_backup import restore_site

    manifest = restore_site(load_config(config), file, now=dt.datetime.now(dt.UTC))
    note(f"restored the state of {manifest.taken}: {manifest.note}")
    note("if the site answered anything since then: sordino ledger recover, then tell the server")


@site_app.command("metrics")
def metrics(
    config: ConfigOption = DEFAULT_CONFIG,
    local: Annotated[
        bool, typer.Option("--local", help="Those too that depend on records: for you alone.")
    ] = False,
) -> None:
    """Show the vault's metrics in Prometheus' text format."""
    from sordino_client.admin_client import AdminClient
    from sordino_client.config import load_config
    from sordino_client.vault_client import VaultClient

    loaded = load_config(config)
    if local:
        with AdminClient(loaded.admin_socket) as admin:
            text: str | None = admin.metrics()
    else:
        with VaultClient(loaded.site.socket) as vault_client:
            text = vault_client.metrics()
    if text is None:
        raise UnreachableError(
            f"{loaded.site.socket}: no vault answers; start it with: sordino site run"
        )
    typer.echo(text, nl=False)


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
