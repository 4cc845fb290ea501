"""Tables that change: forward, once, with a backup first. On SQLite; the steps are Alembic's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from newer_tables import SECOND, newer_tables

from sordino_client import chain_store
from sordino_protocols.errors import IntegrityError
from sordino_protocols.migrations import Migrations
from sordino_server import state_tables


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'state.db'}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def newer(tmp_path: Path) -> Migrations:
    """What a version after this one may have."""
    return newer_tables(chain_store.MIGRATIONS, tmp_path / "scripts", table="entries")


def columns(connection: sa.Connection, table: str) -> list[tuple[str, str, bool]]:
    found = sa.inspect(connection).get_columns(table)
    return [(each["name"], str(each["type"]), bool(each["nullable"])) for each in found]


def add_entry(connection: sa.Connection) -> None:
    values = "(seq, body, hash) VALUES (1, x'00', 'h')"
    connection.execute(sa.text(f"INSERT INTO entries {values}"))
    connection.commit()


def test_an_empty_database_gets_the_tables_of_today(
    connection: sa.Connection, newer: Migrations
) -> None:
    assert newer.revision(connection) is None
    newer.bring_to_head(connection, place="here", back_up=pytest.fail)
    assert newer.is_at_head(connection)
    assert "note" in {name for name, _, _ in columns(connection, "entries")}


def test_a_database_from_before_there_were_revisions_is_brought_here(
    connection: sa.Connection, newer: Migrations
) -> None:
    chain_store.MIGRATIONS.tables.create_all(connection)
    add_entry(connection)
    assert newer.revision(connection) == "0001"
    backups: list[str] = []

    def back_up(revision: str) -> None:
        # Nothing is changed yet.
        assert "note" not in {name for name, _, _ in columns(connection, "entries")}
        backups.append(revision)

    newer.bring_to_head(connection, place="here", back_up=back_up)
    connection.commit()
    assert backups == ["0001"]
    assert newer.is_at_head(connection)
    assert connection.execute(sa.text("SELECT seq, note FROM entries")).all() == [(1, "none")]
    newer.bring_to_head(connection, place="here", back_up=pytest.fail)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(
    connection: sa.Connection, newer: Migrations
) -> None:
    newer.bring_to_head(connection, place="here")
    add_entry(connection)
    older = chain_store.MIGRATIONS
    assert not older.is_at_head(connection)
    with pytest.raises(IntegrityError, match=f"here: made by a newer version .* revision {SECOND}"):
        older.bring_to_head(connection, place="here", back_up=pytest.fail)
    assert newer.is_at_head(connection)


@pytest.mark.parametrize("migrations", [chain_store.MIGRATIONS, state_tables.MIGRATIONS])
def test_all_migrations_one_by_one_leave_the_tables_of_today(
    connection: sa.Connection, tmp_path: Path, migrations: Migrations
) -> None:
    fresh = sa.create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    # As if only the stamp table were there: every revision is carried out.
    migrations._stamp(connection, "0000")
    connection.execute(sa.text("DELETE FROM alembic_version"))
    migrations._upgrade(connection)
    connection.commit()
    with fresh.connect() as made:
        migrations.bring_to_head(made, place="fresh")
        assert migrations.revision(connection) == migrations.revision(made) == migrations.head
        for table in migrations.tables.tables:
            assert columns(connection, table) == columns(made, table)
            keys = [sa.inspect(each).get_pk_constraint(table) for each in (connection, made)]
            assert keys[0]["constrained_columns"] == keys[1]["constrained_columns"]
    fresh.dispose()
