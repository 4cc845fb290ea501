"""A server's database of an earlier or a later version, in a real PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from newer_tables import SECOND, newer_tables
from postgres import Cluster, postgres_cluster

from sordino_protocols.errors import IntegrityError
from sordino_server import database_storage, state_tables
from sordino_server.database_storage import Database, DatabaseStorage

REVISION = "SELECT version_num FROM alembic_version"
MODEL, LINES = b"\x00\xff" * 1000, (b'{"event": "round"}\n', b'{"event": "done"}\n')


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as cluster:
        yield cluster


@dataclass(frozen=True, slots=True)
class Filled:
    """A database of this version in which a server has kept something."""

    url: sa.URL

    def open(self) -> Database:
        """As every process of a server does."""
        database = Database(self.url)
        database.open()
        return database

    def has_everything(self) -> bool:
        with closing(self.open()) as database:
            run = DatabaseStorage(database).within("runs/run-1")
            return (run.read("model"), run.read_after("events.jsonl", 0)) == (
                MODEL,
                b"".join(LINES),
            )

    def rows(self, query: str) -> list[tuple[object, ...]]:
        engine = sa.create_engine(self.url)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(sa.text(query))]
        finally:
            engine.dispose()


@pytest.fixture
def filled(cluster: Cluster) -> Filled:
    made = Filled(cluster.new_database())
    with closing(made.open()) as database:
        run = DatabaseStorage(database).within("runs/run-1")
        run.write("model", MODEL)
        for line in LINES:
            run.append("events.jsonl", line)
    return made


def upgrade(monkeypatch: pytest.MonkeyPatch, scripts: Path, *, breaks_off: bool = False) -> None:
    """Have the program be of a later version."""
    newer = newer_tables(state_tables.MIGRATIONS, scripts, table="lines", breaks_off=breaks_off)
    monkeypatch.setattr(database_storage, "MIGRATIONS", newer)


def test_a_later_version_brings_the_tables_up_and_finds_every_run(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(monkeypatch, tmp_path / "scripts")
    with closing(Database(filled.url)) as unopened:
        assert not unopened.is_at_head()
    assert filled.has_everything()
    with closing(filled.open()) as database:
        assert database.is_at_head()
    assert filled.rows("SELECT DISTINCT note, colour FROM lines") == [("none", "none")]


def test_a_database_from_before_there_were_revisions_is_taken_as_it_is(
    filled: Filled, cluster: Cluster
) -> None:
    cluster.execute(str(filled.url.database), "DROP TABLE alembic_version")
    assert filled.has_everything()
    assert filled.rows(REVISION) == [("0001",)]


def test_a_database_of_a_later_version_is_refused_with_both_named_and_left_alone(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        upgrade(later, tmp_path / "scripts")
        filled.open().close()
    before = filled.rows("SELECT * FROM lines ORDER BY name, start")
    with pytest.raises(IntegrityError, match=rf"of revision {SECOND}; this one knows 0001\)"):
        filled.open()
    with closing(Database(filled.url)) as database:
        assert not database.is_at_head()
    assert filled.rows("SELECT * FROM lines ORDER BY name, start") == before
    assert filled.rows(REVISION) == [(SECOND,)]


def test_an_upgrade_that_breaks_off_leaves_all_as_it_was(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        upgrade(later, tmp_path / "scripts", breaks_off=True)
        with pytest.raises(OSError, match="the power went"):
            filled.open()
    # This version has it again, as if nothing had been tried.
    assert filled.has_everything()
    assert filled.rows(REVISION) == [("0001",)]
