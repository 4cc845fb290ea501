"""A ledger of an earlier or a later version, in SQLite and in a real PostgreSQL."""

from contextlib import closing
from pathlib import Path

import pytest
from newer_tables import SECOND, newer_tables
from small_ledger import execute, fill, now, reserve

from sordino_client import chain_store
from sordino_client.chain_store import Location, is_at_head
from sordino_client.ledger import Ledger, read_entries
from sordino_protocols.errors import IntegrityError

REVISION = "SELECT version_num FROM alembic_version"


@pytest.fixture
def filled(store: Location) -> Location:
    """A ledger of this version, with entries, that nobody has open."""
    with closing(Ledger(store, now=now)) as ledger:
        fill(ledger)
    return store


def upgrade(monkeypatch: pytest.MonkeyPatch, scripts: Path, *, breaks_off: bool = False) -> None:
    """Have the program be of a later version."""
    newer = newer_tables(chain_store.MIGRATIONS, scripts, table="entries", breaks_off=breaks_off)
    monkeypatch.setattr(chain_store, "MIGRATIONS", newer)


def test_a_later_version_brings_the_tables_up_and_finds_every_entry(
    filled: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_entries(filled)
    upgrade(monkeypatch, tmp_path / "scripts")
    assert not is_at_head(filled)
    with closing(Ledger(filled, now=now)) as ledger:
        assert ledger.verify() == len(before) == 5
        reserve(ledger, "round-3")
    assert is_at_head(filled)
    assert read_entries(filled)[:-1] == before
    columns = execute(filled, "SELECT DISTINCT note, colour FROM entries")
    assert columns == [("none", "none")]
    if isinstance(filled, Path):
        copy = filled.with_name("ledger.db.before-upgrade-of-0001")
        assert read_entries(copy) == before
        assert execute(copy, REVISION) == [("0001",)]


def test_a_ledger_from_before_there_were_revisions_is_taken_as_it_is(filled: Location) -> None:
    before = read_entries(filled)
    execute(filled, "DROP TABLE alembic_version")
    with closing(Ledger(filled, now=now)):
        pass
    assert read_entries(filled) == before
    assert execute(filled, REVISION) == [("0001",)]


def test_a_ledger_of_a_later_version_is_refused_with_both_named_and_left_alone(
    filled: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        upgrade(later, tmp_path / "scripts")
        Ledger(filled, now=now).close()
    before = execute(filled, "SELECT * FROM entries ORDER BY seq")
    with pytest.raises(IntegrityError, match=rf"of revision {SECOND}; this one knows 0001\)"):
        Ledger(filled, now=now)
    assert execute(filled, "SELECT * FROM entries ORDER BY seq") == before
    assert execute(filled, REVISION) == [(SECOND,)]


def test_an_upgrade_that_breaks_off_leaves_all_as_it_was_and_goes_through_later(
    filled: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = execute(filled, "SELECT * FROM entries ORDER BY seq")
    with monkeypatch.context() as later:
        upgrade(later, tmp_path / "broken", breaks_off=True)
        with pytest.raises(OSError, match="the power went"):
            Ledger(filled, now=now)
    # Not even the revision that went through: all or nothing.
    assert execute(filled, "SELECT * FROM entries ORDER BY seq") == before
    assert execute(filled, REVISION) == [("0001",)]
    upgrade(monkeypatch, tmp_path / "whole")
    Ledger(filled, now=now).close()
    assert execute(filled, REVISION) == [(SECOND,)]
