"""Backups of a server: what is in them, and that runs go on from them."""

import datetime as dt
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from federation import Federation

from sordino_protocols.archives import Member
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.errors import InputError, NotFoundError, UnreachableError
from sordino_protocols.rounds import RunState
from sordino_server import server_backup
from sordino_server.config import ServerConfig, load_config
from sordino_server.coordinator import Coordinator
from sordino_server.runs import CERTIFICATE, STATEMENT, RunDirectory
from sordino_server.server_backup import back_up_server, restore_server
from sordino_server.state_location import heads_in, open_state, runs_in
from sordino_server.statement import Statement
from sordino_server.storage import DirectoryStorage

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class CrashError(Exception):
    """The server died here."""


def config_of(directory: Path, state: Path) -> ServerConfig:
    """A server whose state lies there."""
    path = directory / f"{state.name}.toml"
    keys = ("certificate", "private_key", "signing_key", "sites", "nodes", "submitters")
    lines = ['name = "server"', 'public = "localhost:1"', f'state = "{state}"']
    lines += [f'{key} = "{key}"' for key in keys]
    gateway = ['address = "localhost:2"', 'client_ca = "ca.crt"']
    path.write_text("\n".join(["[server]", *lines, "[gateway]", *gateway]) + "\n")
    return load_config(path)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    (tmp_path / "sites").mkdir()
    made = Federation(tmp_path / "sites", state=DirectoryStorage(tmp_path / "state"))
    yield made
    made.close()


@pytest.fixture
def config(tmp_path: Path) -> ServerConfig:
    return config_of(tmp_path, tmp_path / "state")


def died_after_a_round(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run whose second round was logged and never checkpointed."""
    run = federation.submit()
    save = RunDirectory.save_checkpoint
    saved: list[object] = []

    def crash(self: RunDirectory, state: object) -> None:
        if saved:
            raise CrashError
        saved.append(self)
        save(self, state)  # type: ignore[arg-type]  # it comes from the real caller

    with monkeypatch.context() as dying:
        dying.setattr(RunDirectory, "save_checkpoint", crash)
        with pytest.raises(CrashError):
            federation.coordinator(run).execute()
    return run


def test_a_run_goes_on_from_a_backup_and_nobody_pays_twice(
    federation: Federation,
    config: ServerConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = died_after_a_round(federation, monkeypatch)
    manifest = back_up_server(config, tmp_path / "server.tar", now=NOW)
    # The server goes on, and then its disk breaks.
    federation.coordinator(run).execute()
    receipts = run.read(STATEMENT, Statement).receipts
    released = run.sealed("receipts")

    restored = config_of(tmp_path, tmp_path / "restored")
    assert restore_server(restored, tmp_path / "server.tar") == manifest
    state = open_state(restored)
    again = runs_in(state).get(run.run_id)
    assert again.state() is RunState.TRAINING
    heads = heads_in(state, federation.trusted_sites)
    Coordinator(again, federation.strategy(), heads).execute()
    assert again.state() is RunState.DONE
    # The very bytes that the sites answered before.
    assert again.sealed("receipts") == released
    assert again.read(STATEMENT, Statement).receipts == receipts
    assert again.has(CERTIFICATE)


def test_everything_that_a_server_keeps_is_in_a_backup(
    federation: Federation, config: ServerConfig, tmp_path: Path
) -> None:
    federation.coordinator(federation.submit()).execute()
    state = config.server.state
    (state / "superlink").mkdir()
    with closing(sqlite3.connect(state / "superlink" / "superlink.db")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE nodes (name TEXT)")
        database.execute("INSERT INTO nodes VALUES ('cleveland')")
        database.commit()
        (state / "superlink" / "secret").write_text("secret")
        (state / "ports.json").write_text("{}")
        (state / ".aside.new").write_text("half")
        AuditLog(config.audit_log_path, now=lambda: NOW).record(
            actor="admin", action="enrolled", object="a", decision="", reason="", policy_sha256=None
        )
        kept = {each.relative_to(state).as_posix() for each in state.rglob("*") if each.is_file()}
        back_up_server(config, tmp_path / "server.tar", now=NOW)
    assert stat.S_IMODE((tmp_path / "server.tar").stat().st_mode) == 0o600
    restored = tmp_path / "restored"
    restore_server(config_of(tmp_path, restored), tmp_path / "server.tar")
    again = {each.relative_to(restored).as_posix() for each in restored.rglob("*")}
    assert {name for name in again if (restored / name).is_file()} == kept - {
        "ports.json",
        ".aside.new",
        "superlink/superlink.db-wal",
        "superlink/superlink.db-shm",
    }
    with closing(sqlite3.connect(restored / "superlink" / "superlink.db")) as database:
        assert database.execute("SELECT name FROM nodes").fetchall() == [("cleveland",)]
    for name in kept:
        if (restored / name).exists() and not name.endswith(".db"):
            assert (restored / name).read_bytes() == (state / name).read_bytes()


def test_a_run_that_moves_on_while_it_is_copied_is_copied_again(
    federation: Federation,
    config: ServerConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = federation.submit()
    files, moves = server_backup._files, 3

    def move_on(state: Path, folder: Path) -> Iterator[Member]:
        nonlocal moves
        yield from files(state, folder)
        if folder == run.path and moves:
            moves -= 1
            run.record("attempt", number=moves)

    monkeypatch.setattr(server_backup, "_files", move_on)
    back_up_server(config, tmp_path / "server.tar", now=NOW)
    with tarfile.open(tmp_path / "server.tar") as archive:
        content = archive.extractfile(f"runs/{run.run_id}/events.jsonl")
        assert content is not None
        assert content.read() == (run.path / "events.jsonl").read_bytes()
        assert len(set(archive.getnames())) == len(archive.getnames())
    moves = 1000
    with pytest.raises(UnreachableError, match="moves on faster"):
        back_up_server(config, tmp_path / "never.tar", now=NOW)
    assert not [each for each in tmp_path.iterdir() if "never" in each.name]


def test_nothing_is_overwritten_and_nothing_of_another_is_put_back(
    federation: Federation, config: ServerConfig, tmp_path: Path
) -> None:
    federation.submit()
    backup = tmp_path / "server.tar"
    back_up_server(config, backup, now=NOW)
    with pytest.raises(InputError, match="overwrites nothing"):
        back_up_server(config, backup, now=NOW)
    with pytest.raises(InputError, match="not empty"):
        restore_server(config, backup)
    shutil.rmtree(config.server.state)
    with pytest.raises(NotFoundError, match="has the server run yet"):
        back_up_server(config, tmp_path / "other.tar", now=NOW)
    restore_server(config, backup)
    assert len(runs_in(open_state(config)).all()) == 1
