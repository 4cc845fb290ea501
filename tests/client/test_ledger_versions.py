"""Which version a ledger's tables are of, and copies of it."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from sordino_client.chain_store import MIGRATIONS, Row, open_store, read_rows
from sordino_protocols.errors import IntegrityError, NotFoundError, UnreachableError
from sordino_protocols.sqlite_copies import copy_database


def test_a_ledger_from_before_there_were_revisions_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(open_store(path)) as store:
        list(store.rows())
        store.append(Row(1, b"{}", "0" * 64))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE alembic_version")
        connection.commit()
    with closing(open_store(path)) as store:
        assert list(store.rows()) == [Row(1, b"{}", "0" * 64)]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (MIGRATIONS.head,)
        ]


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(open_store(path)) as store:
        list(store.rows())
        store.append(Row(1, b"{}", "0" * 64))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = path.read_bytes()
    with (
        closing(open_store(path)) as store,
        pytest.raises(IntegrityError, match="made by a newer version"),
    ):
        list(store.rows())
    assert path.read_bytes() == before


def test_a_copy_is_whole_whoever_writes_meanwhile(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    with closing(open_store(path)) as store:
        list(store.rows())
        for seq in range(1, 4):
            store.append(Row(seq, b"{}" * seq, f"{seq:064d}"))
        # What is in SQLite's log of writes, and not in the file yet, is copied too.
        assert path.with_name("ledger.db-wal").stat().st_size > 0
        copy_database(path, copy)
        store.append(Row(4, b"later", "4" * 64))
        assert [row.seq for row in read_rows(copy)] == [1, 2, 3]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.glob("*copy*")] == ["copy.db"]


def test_what_is_no_ledger_is_not_copied(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    with pytest.raises(NotFoundError):
        copy_database(path, copy)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(UnreachableError, match="cannot be copied"):
        copy_database(path, copy)
    assert os.listdir(tmp_path) == ["ledger.db"]  # noqa: PTH208
