"""`sordino config` and `sordino paths`: what is configured, who says so, and where things lie."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.terminal import Output, SetOption, note, show, show_json

if TYPE_CHECKING:
    from sordino.configurations import Configuration
    from sordino_protocols.configuration import Setting

SiteOption = Annotated[Path | None, typer.Option("--site", help="A site.toml.")]
ServerOption = Annotated[Path | None, typer.Option("--server", help="A server.toml.")]
AuditOption = Annotated[Path | None, typer.Option("--audit", help="An audit.toml.")]
ProfileOption = Annotated[
    Path | None,
    typer.Option("--profile", "-p", help="A data scientist's profile."),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]

config_app = typer.Typer(no_args_is_help=True, help="Check and show what is configured.")


@config_app.command("check")
def check(
    site: SiteOption = None,
    server: ServerOption = None,
    audit: AuditOption = None,
    profile: ProfileOption = None,
    settings: SetOption = None,
) -> None:
    """Read configurations strictly, with drop-ins and environment; exit code 2 if one is wrong.

    Of a site, its policy and its data sets' declarations are read as well. Without an option, every
    configuration in its default place is checked. Whether what they name is there and works is
    `sordino doctor`'s to say.
    """
    from sordino.configurations import chosen, environment_with

    found = chosen(site=site, server=server, audit=audit, profile=profile)
    environ = environment_with(settings or (), found)
    for each in found:
        keys = each.settings(environ)
        if each.role == "site":
            _check_site_files(each.path, environ)
        said = sum(key.origin.layer != "default" for key in keys)
        note(f"{each.path}: sound; {said} keys are set, {len(keys) - said} are at their default")


@config_app.command("show")
def show_settings(
    *,
    site: SiteOption = None,
    server: ServerOption = None,
    audit: AuditOption = None,
    profile: ProfileOption = None,
    settings: SetOption = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value is from.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show every key as it counts, paths as they are used; with --origin, who says it.

    Flags (--set) go before the environment (SORDINO_SITE__LINK__SERVER), that before drop-ins
    (site.d/*.toml beside site.toml), those before the file, and that before defaults.
    """
    from sordino.configurations import chosen, environment_with

    found = chosen(site=site, server=server, audit=audit, profile=profile)
    environ = environment_with(settings or (), found)
    if output.is_json:
        rows = [_facts(each, setting) for each in found for setting in each.settings(environ)]
        show_json(rows, output=output)
        return
    for each in found:
        show(
            [_row(one, origin=origin) for one in each.settings(environ)],
            output=output,
            title=str(each.path),
        )


def paths(output: OutputOption = Output.TABLE) -> None:
    """Print where this user's files lie, unless a configuration says otherwise.

    For root, the system's directories; for anybody else, those of the XDG base directories.
    """
    from sordino_protocols.standard_paths import ROLES, default_config, standard_paths

    places = standard_paths()
    found = {f"{role}.toml": default_config(role) for role in ROLES}
    found |= {
        "configuration": places.configuration,
        "state of a site": places.state / "site",
        "state of the server": places.state / "server",
        "state of audits": places.state / "audit",
        "logs": places.logs,
        "sockets": places.runtime,
    }
    show(
        [
            {"what": what, "path": str(path), "exists": path.exists()}
            for what, path in found.items()
        ],
        output=output,
    )


def _check_site_files(path: Path, environ: Mapping[str, str]) -> None:
    from sordino_client.config import load_config
    from sordino_client.data.declaration import read_dataset
    from sordino_client.policy import load_policy
    from sordino_client.policy_summary import site_remarks

    config = load_config(path, environ)
    policy = load_policy(config.site.policy)
    if policy is None:
        note(f"warning: {config.site.policy}: no such file, so everything is refused")
        for declaration in sorted(config.site.datasets.glob("*.toml")):
            read_dataset(declaration)
        return
    for remark in site_remarks(policy, config):
        note(f"warning: {remark}")


def _facts(each: "Configuration", setting: "Setting") -> dict[str, object]:
    return {
        "file": str(each.path),
        "key": setting.key,
        "value": setting.value,
        "layer": setting.origin.layer,
        "origin": setting.origin.place,
    }


def _row(setting: "Setting", *, origin: bool) -> dict[str, object]:
    row: dict[str, object] = {"key": setting.key, "value": setting.value}
    if origin:
        said = setting.origin
        row["origin"] = f"{said.layer}: {said.place}" if said.place else said.layer
    return row
