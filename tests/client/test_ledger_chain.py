import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ledger_tampering import TAMPERING, bytes_of
from small_ledger import BUDGET, POLICY, ROUND, RUN, execute, fill, hold, now, reserve

from sordino_client.chain_store import Location
from sordino_client.ledger import (
    GENESIS,
    Ledger,
    LedgerError,
    read_entries,
)
from sordino_protocols.accounting import renyi_curve
from sordino_protocols.errors import IntegrityError, NotFoundError
from sordino_protocols.heads import SignedHead
from sordino_protocols.privacy import Gaussian, PoissonGaussian
from sordino_protocols.signing import canonical_json


def test_everything_is_remembered(store: Location, ledger: Ledger) -> None:
    fill(ledger)
    before = (ledger.head, ledger.length, ledger.balance("heart", BUDGET))
    ledger.close()
    again = Ledger(store, now=now)
    assert (again.head, again.length, again.balance("heart", BUDGET)) == before
    assert again.charged("run-1") == (ROUND, ROUND)
    assert again.committed("run-1", "round-1") == "cd" * 32
    assert again.committed("run-1", "round-2") is None
    again.close()


def test_an_entry_says_what_a_privacy_officer_asks(store: Location, ledger: Ledger) -> None:
    fill(ledger)
    entries = read_entries(store)
    assert [entry["kind"] for entry in entries] == ["hold", "reserve", "commit", "reserve", "hold"]
    first = entries[0]
    assert first["policy_sha256"] == POLICY
    assert first["budget"] == {"epsilon": 8.0, "delta": 1e-5}
    assert first["at"] == "2026-01-02T00:00:00+00:00"
    assert first["curve"] == list(renyi_curve(RUN).values)
    assert entries[-1]["hash"] == ledger.head
    assert [entry["previous"] for entry in entries[1:]] == [e["hash"] for e in entries[:-1]]


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda each: each.__name__)
def test_tampering_is_found_by_whoever_reads(
    store: Location, ledger: Ledger, tamper: Callable[[Location], None]
) -> None:
    fill(ledger)
    assert ledger.verify() == 5
    tamper(store)
    with pytest.raises(IntegrityError):
        ledger.verify()
    with pytest.raises(IntegrityError):
        read_entries(store)
    ledger.close()
    with pytest.raises(IntegrityError):
        Ledger(store, now=now)


def test_missing_newest_entries_show_only_to_whoever_remembers_the_head(
    store: Location, ledger: Ledger
) -> None:
    fill(ledger)
    remembered = SignedHead(ledger.length, ledger.head, "00" * 64)
    assert ledger.contains(remembered)
    execute(store, "DELETE FROM entries WHERE seq >= 3")
    # The running process remembers.
    with pytest.raises(IntegrityError, match="not the one this process wrote"):
        ledger.verify()
    ledger.close()
    # A new process cannot know. The head that the site signed for its server still tells.
    shortened = Ledger(store, now=now)
    assert shortened.verify() == 3
    assert not shortened.contains(remembered)
    # Nor after as many other entries took their place.
    reserve(shortened, "round-3")
    reserve(shortened, "round-4")
    assert shortened.length == 5
    assert not shortened.contains(remembered)
    shortened.close()


def test_every_head_that_the_ledger_had_is_contained_and_no_other(ledger: Ledger) -> None:
    heads = [(0, GENESIS)]
    for number in range(1, 4):
        hold(ledger, f"run-{number}", event=ROUND)
        heads.append((ledger.length, ledger.head))
    assert all(ledger.contains(SignedHead(*head, "00" * 64)) for head in heads)
    assert not ledger.contains(SignedHead(2, heads[3][1], "00" * 64))
    assert not ledger.contains(SignedHead(4, heads[3][1], "00" * 64))
    assert not ledger.contains(SignedHead(1, "ab" * 32, "00" * 64))


def rewritten(store: Location, facts: dict[str, object]) -> None:
    """A ledger of one entry with a chain that holds, whatever the entry says."""
    body = canonical_json({"seq": 0, "previous": GENESIS, "at": "", **facts})
    execute(store, "DELETE FROM entries")
    values = (0, body, hashlib.sha256(body).hexdigest())
    execute(store, "INSERT INTO entries VALUES (?, ?, ?)", values)


ENTRY: dict[str, object] = {
    "version": 2,
    "kind": "hold",
    "run_id": "r",
    "dataset": "heart",
    "lineage": "patients",
    "policy_sha256": POLICY,
}
EVENT: dict[str, object] = {"event": "gaussian", "version": 1, "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    "facts",
    [
        ENTRY | {"event": EVENT, "version": 3},
        ENTRY | {"event": EVENT, "version": True},
        ENTRY | {"event": EVENT, "lineage": None},
        ENTRY | {"event": EVENT, "kind": "gift"},
        ENTRY | {"event": EVENT, "kind": "reserve", "step": "round-1"},
        ENTRY | {"event": EVENT, "dataset": 1},
        ENTRY | {"event": EVENT | {"event": "unheard of"}},
        ENTRY | {"event": EVENT | {"version": 99}},
        ENTRY,
    ],
)
def test_an_entry_that_is_not_understood_stops_work(
    store: Location, ledger: Ledger, facts: dict[str, object]
) -> None:
    ledger.close()
    rewritten(store, facts)
    with pytest.raises(IntegrityError):
        Ledger(store, now=now)
    rewritten(store, ENTRY | {"event": EVENT})
    understood = Ledger(store, now=now)
    assert understood.planned("r") == Gaussian(1.0)
    understood.close()


def test_entries_of_version_one_knew_no_lineage(store: Location, ledger: Ledger) -> None:
    ledger.close()
    old = {key: value for key, value in ENTRY.items() if key != "lineage"}
    rewritten(store, old | {"event": EVENT, "version": 1})
    understood = Ledger(store, now=now)
    assert understood.lineage("r") == "heart"
    assert understood.balance("heart", BUDGET).held > 0
    understood.close()


def test_a_file_that_is_no_ledger_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.db"
    path.parent.mkdir()
    path.write_bytes(b"no database" * 500)
    with pytest.raises(IntegrityError, match="no ledger that can be read"):
        Ledger(path, now=now)
    with pytest.raises(IntegrityError, match="no ledger that can be read"):
        read_entries(path)
    # A failed attempt leaves no lock behind.
    path.unlink()
    Ledger(path, now=now).close()


def test_reading_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state" / "ledger.db"
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
    run = ledger.books.runs["run-1"]
    assert run.spent.is_within(renyi_curve(run.held))
    assert renyi_curve(run.held).is_within(run.spent)
    with pytest.raises(LedgerError):
        reserve(ledger, "round-300", event=step)


def test_entries_are_canonical_json(store: Location, ledger: Ledger) -> None:
    fill(ledger)
    bodies = [bytes_of(body) for (body,) in execute(store, "SELECT body FROM entries")]
    assert all(canonical_json(json.loads(body)) == body for body in bodies)
