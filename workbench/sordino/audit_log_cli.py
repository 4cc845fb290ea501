"""`sordino audit-log`: who decided what at a site or at the server, and whether that was rewritten.

One log a host. Each keeps the heads that the other side showed, so either of the two files proves
what the other one was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sordino_protocols.errors import InputError
from sordino_protocols.standard_paths import default_config
from sordino_protocols.terminal import Output, show, show_object

if TYPE_CHECKING:
    from sordino_protocols.audit_log import AuditEntry

audit_log_app = typer.Typer(
    no_args_is_help=True, help="Show and verify who decided what, at a site or at the server."
)

SiteOption = Annotated[
    Path | None, typer.Option("--site", help="A site's configuration: its log is read.")
]
ServerOption = Annotated[
    Path | None,
    typer.Option("--server", help="The server's configuration: its log is read."),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="table, json or jsonl.")]


@dataclass(frozen=True, slots=True)
class _Host:
    """Whose log is read.

    Attributes:
        name: the site's or the server's.
        log: the file.
        peer: whose heads are in it, where that can be one only; a server has many.
    """

    name: str
    log: Path
    peer: str | None


@audit_log_app.command("show")
def show_log(
    site: SiteOption = None, server: ServerOption = None, output: OutputOption = Output.TABLE
) -> None:
    """List every decision, oldest first; exit code 8 if an entry was changed."""
    from sordino_protocols.audit_log import read_audit_log

    rows = [entry.model_dump() for entry in read_audit_log(_host(site, server).log)]
    shown = ("seq", "ts", "actor", "action", "object", "decision", "reason")
    narrow = [{key: row[key] for key in shown} for row in rows]
    show(rows if output.is_json else narrow, output=output)


@audit_log_app.command("verify")
def verify_log(
    site: SiteOption = None,
    server: ServerOption = None,
    against: Annotated[
        Path | None, typer.Option(help="The other side's audit log, as its owner sent it.")
    ] = None,
    of: Annotated[
        str | None, typer.Option(help="Whose log that is; a site's server need not be named.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check that no entry was changed, removed or reordered; exit code 8 if one was.

    With --against, each log must go through every head of it that the other one has on record:
    then neither side has rewritten its history.
    """
    from sordino_protocols.audit_heads import contradictions
    from sordino_protocols.audit_log import read_audit_log
    from sordino_protocols.heads import GENESIS

    host = _host(site, server)
    entries = read_audit_log(host.log)
    facts: dict[str, object] = {
        "audit_log": str(host.log),
        "entries": len(entries),
        "head": entries[-1].hash if entries else GENESIS,
        "contradicted": sorted(contradictions(entries)),
    }
    if against is not None:
        peer = of or host.peer
        if peer is None:
            raise InputError(f"--of: whose log is {against}? Name the site")
        facts |= _crossed(host, entries, peer=peer, theirs=read_audit_log(against))
    show_object(facts, output=output)


def _crossed(
    host: _Host,
    entries: "Sequence[AuditEntry]",
    *,
    peer: str,
    theirs: "Sequence[AuditEntry]",
) -> dict[str, object]:
    """Check both directions; how many heads held."""
    from sordino_protocols.audit_heads import check_heads, heads_shown

    of_theirs, of_ours = heads_shown(entries, peer), heads_shown(theirs, host.name)
    check_heads(theirs, of_theirs, whose=peer)
    check_heads(entries, of_ours, whose=host.name)
    return {"against": peer, "heads_of_theirs": len(of_theirs), "heads_of_ours": len(of_ours)}


def _host(site: Path | None, server: Path | None) -> _Host:
    """The host that was named; if none was, the one that this machine is configured to be."""
    if site is None and server is None:
        found = {role: default_config(role) for role in ("site", "server")}
        site, server = (path if path.exists() else None for path in found.values())
    match site, server:
        case Path(), None:
            from sordino_client.config import load_config as load_site

            here = load_site(site)
            return _Host(here.site.name, here.audit_log_path, here.site.server_key.stem)
        case None, Path():
            from sordino_server.config import load_config as load_server

            there = load_server(server)
            return _Host(there.server.name, there.audit_log_path, None)
        case _:
            raise InputError("give one of --site site.toml and --server server.toml")
