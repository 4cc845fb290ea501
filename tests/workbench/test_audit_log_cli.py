"""`sordino audit-log`: reads either side's log, and compares the two."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from one_site import OneSite
from server_host import make_federation

from sordino.audit_log_cli import audit_log_app
from sordino_protocols.audit_heads import note_head
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.terminal import run_command
from sordino_server.config import ServerConfig, load_config
from sordino_server.decisions import Decisions, open_decisions


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerConfig]:
    federation = make_federation(tmp_path / "federation", ("cleveland",))
    config = load_config(tmp_path / "federation" / "server" / "server.toml")
    config.server.state.mkdir()
    yield config
    federation.close()


@pytest.fixture
def site(tmp_path: Path) -> OneSite:
    made = OneSite(tmp_path / "site")
    made.prepare()
    return made


def run(*arguments: object) -> int:
    app = typer.main.get_command(audit_log_app)
    words = [str(each) for each in arguments]
    return run_command(lambda: app.main(args=words, standalone_mode=False))


def site_log(site: OneSite) -> AuditLog:
    return AuditLog(site.config.audit_log_path, now=lambda: site.now)


def test_lists_and_verifies_what_the_server_decided(
    server: ServerConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    decisions = open_decisions(server.audit_log_path)
    decisions.members({"cleveland", "zurich"})
    decisions.members({"cleveland"})
    decisions.members({"cleveland"})
    assert run("show", "--server", server.path, "-o", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["action"], row["object"]) for row in rows] == [
        ("site_enrolled", "cleveland"),
        ("site_enrolled", "zurich"),
        ("site_shut_out", "zurich"),
    ]
    assert run("verify", "--server", server.path, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 3
    text = server.audit_log_path.read_bytes()
    server.audit_log_path.write_bytes(text.replace(b"zurich", b"munich"))
    assert run("verify", "--server", server.path) == 8


def test_each_sides_file_proves_what_the_other_was(
    server: ServerConfig, site: OneSite, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = site_log(site), AuditLog(server.audit_log_path, now=lambda: site.now)
    Decisions(ours).members({"cleveland"})
    note_head(theirs, peer="server", head=(ours.length, ours.head), is_fresh=True)
    note_head(ours, peer="cleveland", head=(theirs.length, theirs.head), is_fresh=True)
    log = site.config.audit_log_path
    of_site = ("verify", "--server", server.path, "--against", log)
    of_server = ("verify", "--site", site.directory / "site.toml", "--against")
    assert run(*of_site, "--of", "cleveland", "-o", "json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["heads_of_theirs"], facts["heads_of_ours"]) == (1, 1)
    assert run(*of_server, server.audit_log_path, "-o", "json") == 0
    assert run(*of_site) == 2  # whose log it is must be said
    # The server's history is written anew, and would pass by itself.
    for path in (server.audit_log_path, Path(f"{server.audit_log_path}.head")):
        path.unlink()
    open_decisions(server.audit_log_path).members({"somebody-else"})
    assert run("verify", "--server", server.path) == 0
    assert run(*of_server, server.audit_log_path) == 8


def test_asks_which_host_is_meant(server: ServerConfig, site: OneSite) -> None:
    both = ("--site", site.directory / "site.toml", "--server", server.path)
    assert run("verify", *both) == 2
