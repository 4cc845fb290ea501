"""`sordino server heads`: what an operator sees of the sites' ledgers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.errors import IntegrityError, NotFoundError
from sordino_protocols.heads import sign_head
from sordino_protocols.signing import load_signer, load_trust, save_keypair
from sordino_server.cli import server_app
from sordino_server.config import load_config
from sordino_server.heads import HeadStore

CONFIG = """
[server]
name = "server"
state = "state"
public = "127.0.0.1:1"
certificate = "server.crt"
private_key = "server.key"
signing_key = "server.key"
sites = "sites"
nodes = "nodes"
submitters = "submitters"
[gateway]
address = "127.0.0.1:2"
client_ca = "ca.crt"
"""


def test_the_operator_sees_the_newest_entry_of_every_site_and_may_forget_it(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text(CONFIG)
    (tmp_path / "sites").mkdir()
    for site in ("cleveland", "va"):
        save_keypair(tmp_path / "keys", site)
        public = tmp_path / "keys" / f"{site}.pub"
        (tmp_path / "sites" / public.name).write_bytes(public.read_bytes())
    config = load_config(tmp_path / "server.toml")
    store = HeadStore(config.heads_directory, load_trust(config.server.sites))
    signer = load_signer(tmp_path / "keys" / "va.key", "va")
    for length in (3, 7):
        store.note("va", sign_head(signer, length=length, hash=f"{length:064x}"))

    asked = ["heads", "--config", str(config.path), "--output", "json"]
    shown = CliRunner().invoke(server_app, asked)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout) == [{"site": "va", "entries": 7, "head": f"{7:064x}"}]

    other = sign_head(signer, length=7, hash=f"{8:064x}")
    with pytest.raises(IntegrityError, match="sordino server forget va"):
        store.note("va", other)
    forgotten = CliRunner().invoke(server_app, ["forget", "va", "--config", str(config.path)])
    assert forgotten.exit_code == 0, forgotten.output
    assert f"{7:064x}" in forgotten.stderr
    store.note("va", other)
    assert store.get("va") == other
    log = CliRunner().invoke(
        server_app, ["forget", "va", "--audit-log", "--config", str(config.path)]
    )
    assert log.exit_code == 0, log.output
    assert store.get("va") == other
    decided = read_audit_log(config.audit_log_path)
    assert [(each.action, each.object) for each in decided] == [
        ("forgotten", "va"),
        ("audit_log_forgotten", "va"),
    ]
    again = CliRunner().invoke(server_app, ["forget", "cleveland", "--config", str(config.path)])
    assert isinstance(again.exception, NotFoundError)
