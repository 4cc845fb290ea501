import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from dead_line import break_the_line
from postgres import Cluster
from small_ledger import BUDGET, ROUND, execute, fill, hold, now, reserve

from sordino_client.chain_store import (
    Location,
    PostgresStore,
    read_rows,
)
from sordino_client.ledger import Ledger, read_entries
from sordino_protocols.databases import read_database_url
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError, UnreachableError

TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"


def test_the_disk_is_timed_for_every_entry(store: Location) -> None:
    seconds: list[float] = []
    ledger = Ledger(store, now=now, observe_fsync=seconds.append)
    fill(ledger)
    assert len(seconds) == ledger.length == 5
    assert all(each > 0 for each in seconds)
    ledger.close()


def test_sqlite_is_told_to_put_every_commit_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, now=now)
    hold(ledger)
    # What a process asked for is its own; what all share is in the file.
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ledger.close()


def test_postgres_commits_are_on_disk_whatever_the_database_prefers(postgres: Cluster) -> None:
    url = postgres.new_database()
    postgres.execute("postgres", f"ALTER DATABASE {url.database} SET synchronous_commit = off")
    store = PostgresStore(url)
    assert store._connection is not None
    assert store._connection.execute(sa.text("SHOW synchronous_commit")).scalar() == "on"
    store.close()


def test_a_postgres_that_does_not_flush_is_refused(postgres: Cluster) -> None:
    url = postgres.new_database()
    postgres.execute("postgres", "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        with pytest.raises(IntegrityError, match=r"fsync = off.*set it to on"):
            _until_refused(url)
    finally:
        postgres.execute("postgres", "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")


def _until_refused(url: sa.URL) -> None:
    # A session learns of the new setting a moment after it was told to reload.
    for _ in range(1000):
        Ledger(url, now=now).close()


def test_a_lost_connection_loses_no_entry_and_makes_none_twice(postgres: Cluster) -> None:
    url = postgres.new_database()
    ledger = Ledger(url, now=now)
    hold(ledger)
    reserve(ledger, "round-1")
    postgres.execute("postgres", TERMINATE.format(url.database))
    with pytest.raises(UnreachableError, match="did not take an entry"):
        reserve(ledger, "round-2")
    # The next request finds out what is there, under the lock that it took again.
    reserve(ledger, "round-2")
    assert ledger.charged("run-1") == (ROUND, ROUND)
    assert ledger.verify() == 3
    with pytest.raises(IntegrityError, match="another process"):
        Ledger(url, now=now)
    ledger.close()


def test_whoever_lost_the_lock_writes_no_more(postgres: Cluster) -> None:
    url = postgres.new_database()
    ledger = Ledger(url, now=now)
    hold(ledger)
    postgres.execute("postgres", TERMINATE.format(url.database))
    other = _open_when_free(url)
    reserve(other, "round-1")
    with pytest.raises(UnreachableError):
        reserve(ledger, "round-2")
    with pytest.raises(IntegrityError, match="another process"):
        reserve(ledger, "round-2")
    assert other.verify() == 2
    assert len(read_entries(url)) == 2
    ledger.close()
    other.close()


def _open_when_free(url: sa.URL) -> Ledger:
    while True:
        try:
            return Ledger(url, now=now)
        except IntegrityError:
            # The server has not noticed yet that the first session is gone.
            continue


@pytest.mark.parametrize("is_stored", [True, False])
def test_an_entry_that_was_not_confirmed_counts_once(ledger: Ledger, *, is_stored: bool) -> None:
    hold(ledger)
    break_the_line(ledger, is_stored=is_stored)
    with pytest.raises(UnreachableError):
        reserve(ledger, "round-1")
    reserve(ledger, "round-1")
    assert ledger.verify() == 2
    assert ledger.charged("run-1") == (ROUND,)


def test_a_store_that_was_replaced_meanwhile_is_found(store: Location, ledger: Ledger) -> None:
    fill(ledger)
    break_the_line(ledger, is_stored=True)
    with pytest.raises(UnreachableError):
        hold(ledger, "run-3")
    execute(store, "DELETE FROM entries WHERE seq >= 3")
    for _ in range(2):
        with pytest.raises(IntegrityError, match="not the one that this process wrote"):
            hold(ledger, "run-4")


def test_a_row_that_somebody_else_wrote_is_not_written_over(store: Location) -> None:
    ledger = Ledger(store, now=now)
    hold(ledger)
    execute(store, "INSERT INTO entries VALUES (?, ?, ?)", (1, b"{}", "ab" * 32))
    with pytest.raises(IntegrityError, match="somebody else"):
        reserve(ledger, "round-1")
    with pytest.raises(IntegrityError):
        reserve(ledger, "round-1")
    assert ledger.balance("heart", BUDGET).spent == 0.0
    ledger.close()


def test_reading_a_database_makes_nothing(postgres: Cluster) -> None:
    url = postgres.new_database()
    with pytest.raises(IntegrityError, match="no ledger that can be read"):
        read_entries(url)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert execute(url, tables) == [(0,)]


def test_a_database_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    url = sa.make_url(f"postgresql://nobody:secret@/ledger?host={tmp_path}")
    for attempt in (lambda: Ledger(url, now=now), lambda: list(read_rows(url))):
        with pytest.raises(UnreachableError) as caught:
            attempt()
        assert "secret" not in str(caught.value)


def test_the_url_lies_in_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "ledger.url"
    with pytest.raises(NotFoundError):
        read_database_url(path)
    path.write_text("postgresql://site:secret@/ledger?host=/run/postgresql\n")
    path.chmod(0o640)
    with pytest.raises(InputError, match=r"mode 0640\); fix: chmod 600"):
        read_database_url(path)
    path.chmod(0o600)
    url = read_database_url(path)
    assert (url.username, url.password, url.database) == ("site", "secret", "ledger")
    for text in ("", "secret", "mysql://site:secret@host/ledger", "sqlite:///ledger.db"):
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            read_database_url(path)
        assert "secret" not in str(caught.value)
