import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_ledger import BUDGET, POLICY, ROUND, RUN, fill, hold, now, reserve

from sordino_client.ledger import (
    GENESIS,
    Ledger,
    LedgerError,
    read_entries,
)
from sordino_protocols.accounting import renyi_curve
from sordino_protocols.errors import IntegrityError, NotFoundError
from sordino_protocols.privacy import Gaussian, PoissonGaussian
from sordino_protocols.signing import canonical_json


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    opened = Ledger(path, now=now)
    yield opened
    opened.close()


def test_everything_is_remembered(path: Path, ledger: Ledger) -> None:
    fill(ledger)
    before = (ledger.head, ledger.length, ledger.balance("heart", BUDGET))
    ledger.close()
    again = Ledger(path, now=now)
    assert (again.head, again.length, again.balance("heart", BUDGET)) == before
    assert again.charged("run-1") == (ROUND, ROUND)
    assert again.committed("run-1", "round-1") == "cd" * 32
    assert again.committed("run-1", "round-2") is None
    again.close()


def test_an_entry_says_what_a_privacy_officer_asks(path: Path, ledger: Ledger) -> None:
    fill(ledger)
    entries = read_entries(path)
    assert [entry["kind"] for entry in entries] == ["hold", "reserve", "commit", "reserve", "hold"]
    first = entries[0]
    assert first["policy_sha256"] == POLICY
    assert first["budget"] == {"epsilon": 8.0, "delta": 1e-5}
    assert first["at"] == "2026-01-02T00:00:00+00:00"
    assert first["curve"] == list(renyi_curve(RUN).values)
    assert entries[-1]["hash"] == ledger.head
    assert [entry["previous"] for entry in entries[1:]] == [e["hash"] for e in entries[:-1]]


def change_body(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE entries SET body = replace(body, '8.0', '9.0') WHERE seq = 1")
        # SQLite's replace makes text of it.
        connection.execute("UPDATE entries SET body = cast(body AS BLOB) WHERE seq = 1")


def change_body_and_hash(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        (body,) = connection.execute("SELECT body FROM entries WHERE seq = 1").fetchone()
        forged = body.replace(b"8.0", b"9.0")
        connection.execute(
            "UPDATE entries SET body = ?, hash = ? WHERE seq = 1",
            (forged, hashlib.sha256(forged).hexdigest()),
        )


def remove_first(path: Path) -> None:
    execute(path, "DELETE FROM entries WHERE seq = 0")


def remove_middle(path: Path) -> None:
    execute(path, "DELETE FROM entries WHERE seq = 1")


def close_the_gap(path: Path) -> None:
    execute(path, "DELETE FROM entries WHERE seq = 1", "UPDATE entries SET seq = 1 WHERE seq = 2")


def swap(path: Path) -> None:
    execute(
        path,
        "UPDATE entries SET seq = 99 WHERE seq = 1",
        "UPDATE entries SET seq = 1 WHERE seq = 2",
        "UPDATE entries SET seq = 2 WHERE seq = 99",
    )


def repeat(path: Path) -> None:
    execute(path, "INSERT INTO entries SELECT 5, body, hash FROM entries WHERE seq = 1")


def execute(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for each in statements:
            connection.execute(each)


TAMPERING = [
    change_body,
    change_body_and_hash,
    remove_first,
    remove_middle,
    close_the_gap,
    swap,
    repeat,
]


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda each: each.__name__)
def test_tampering_is_found_by_whoever_reads(
    path: Path, ledger: Ledger, tamper: Callable[[Path], None]
) -> None:
    fill(ledger)
    assert ledger.verify() == 5
    tamper(path)
    with pytest.raises(IntegrityError):
        ledger.verify()
    with pytest.raises(IntegrityError):
        read_entries(path)
    ledger.close()
    with pytest.raises(IntegrityError):
        Ledger(path, now=now)


def test_missing_newest_entries_show_only_to_whoever_remembers_the_head(
    path: Path, ledger: Ledger
) -> None:
    fill(ledger)
    head = ledger.head
    execute(path, "DELETE FROM entries WHERE seq >= 3")
    # The running process remembers.
    with pytest.raises(IntegrityError, match="not the one this process wrote"):
        ledger.verify()
    ledger.close()
    # A new process cannot know. The head that the site signed for its server still tells.
    shortened = Ledger(path, now=now)
    assert shortened.verify() == 3
    assert head not in {entry["hash"] for entry in read_entries(path)}
    shortened.close()


def rewritten(path: Path, facts: dict[str, object]) -> None:
    """A ledger of one entry with a chain that holds, whatever the entry says."""
    body = canonical_json({"seq": 0, "previous": GENESIS, "at": "", **facts})
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM entries")
        connection.execute(
            "INSERT INTO entries VALUES (0, ?, ?)", (body, hashlib.sha256(body).hexdigest())
        )


ENTRY: dict[str, object] = {"version": 1, "kind": "hold", "run_id": "r", "dataset": "heart"}
EVENT: dict[str, object] = {"event": "gaussian", "version": 1, "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    "facts",
    [
        ENTRY | {"event": EVENT, "version": 2},
        ENTRY | {"event": EVENT, "kind": "gift"},
        ENTRY | {"event": EVENT, "kind": "reserve", "step": "round-1"},
        ENTRY | {"event": EVENT, "dataset": 1},
        ENTRY | {"event": EVENT | {"event": "unheard of"}},
        ENTRY | {"event": EVENT | {"version": 2}},
        ENTRY,
    ],
)
def test_an_entry_that_is_not_understood_stops_work(
    path: Path, ledger: Ledger, facts: dict[str, object]
) -> None:
    ledger.close()
    rewritten(path, facts)
    with pytest.raises(IntegrityError):
        Ledger(path, now=now)
    rewritten(path, ENTRY | {"event": EVENT})
    understood = Ledger(path, now=now)
    assert understood.planned("r") == Gaussian(1.0)
    understood.close()


def test_a_file_that_is_no_ledger_is_not_taken_for_an_empty_one(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    with pytest.raises(IntegrityError, match="no ledger that can be read"):
        Ledger(path, now=now)
    with pytest.raises(IntegrityError, match="no ledger that can be read"):
        read_entries(path)
    # A failed attempt leaves no lock behind.
    path.unlink()
    Ledger(path, now=now).close()


def test_reading_makes_nothing(path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_entries(path)
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["a b", "50%", "what?", "#1", "ü", "%41"])
def test_any_directory_will_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "ledger.db"
    opened = Ledger(path, now=now)
    hold(opened)
    assert path.is_file()
    assert len(read_entries(path)) == 1
    opened.close()


def test_a_long_run_may_spend_its_whole_hold_and_no_step_more(ledger: Ledger) -> None:
    # The sum of many curves is rounded; that must neither cost a round nor give one.
    hold(ledger, event=PoissonGaussian(1.0, 60.0, 300))
    step = PoissonGaussian(1.0, 60.0, 1)
    for number in range(300):
        reserve(ledger, f"round-{number}", event=step)
    run = ledger._runs["run-1"]
    assert run.spent.is_within(renyi_curve(run.held))
    assert renyi_curve(run.held).is_within(run.spent)
    with pytest.raises(LedgerError):
        reserve(ledger, "round-300", event=step)


def test_entries_are_canonical_json(path: Path, ledger: Ledger) -> None:
    fill(ledger)
    with sqlite3.connect(path) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM entries")]
    assert all(canonical_json(json.loads(body)) == body for body in bodies)
