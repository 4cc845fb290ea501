import datetime as dt
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ledger_tampering import TAMPERING, rows_of
from one_site import make_job
from small_ledger import BUDGET, POLICY, execute, now

from sordino_client.admitted import AdmittedRuns
from sordino_client.chain_store import Location
from sordino_client.continuity import ADMISSION, RECEIPT, open_ledger
from sordino_client.ledger import (
    BudgetExhaustedError,
    Ledger,
    LedgerError,
    Reservation,
    read_entries,
)
from sordino_client.outbox import Outbox, Release
from sordino_client.recovery import Recoverer, SiteMemory
from sordino_protocols.accounting import RenyiCurve, renyi_curve
from sordino_protocols.errors import InputError, IntegrityError
from sordino_protocols.heads import SignedHead

JOB = make_job()
PLAN = JOB.plan
DATASET = JOB.file.job.dataset
LINEAGE = "patients"
REQUEST = "ab" * 32


@dataclass
class Site:
    """What a site does with its ledger, outbox and runs, in the order in which it does it."""

    directory: Path
    store: Location
    ledger: Ledger

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.directory / "outbox")

    @property
    def memory(self) -> SiteMemory:
        return SiteMemory(self.outbox, self.directory / "runs", {DATASET: LINEAGE})

    @property
    def spent(self) -> RenyiCurve:
        return self.ledger.books.spent(LINEAGE)

    @property
    def head(self) -> SignedHead:
        return SignedHead(self.ledger.length, self.ledger.head, "00" * 64)

    def admit(self, run_id: str) -> None:
        AdmittedRuns(self.directory / "runs").add(run_id, JOB, nonce=f"nonce of {run_id}")
        self.hold(run_id)
        self.outbox.put(run_id, ADMISSION, Release(REQUEST, b"admitted"))

    def hold(self, run_id: str) -> None:
        self.ledger.hold(
            run_id,
            dataset=DATASET,
            lineage=LINEAGE,
            event=PLAN.event,
            budget=BUDGET,
            policy_sha256=POLICY,
        )

    def release(self, run_id: str, number: int) -> None:
        step, event = f"round-{number}", PLAN.require_training().round_event
        reservation = self.ledger.reserve(run_id, step, event, budget=BUDGET)
        release = Release(REQUEST, step.encode())
        self.outbox.put(run_id, step, release)
        self.ledger.commit(reservation, release_sha256=release.sha256)

    def settle(self, run_id: str) -> None:
        self.ledger.settle(run_id)
        self.outbox.put(run_id, RECEIPT, Release(REQUEST, b"receipt"))

    def work(self) -> None:
        """One run is settled, one is running, one has just begun."""
        self.admit("run-1")
        self.release("run-1", 1)
        self.settle("run-1")
        self.admit("run-2")
        self.release("run-2", 1)
        self.release("run-2", 2)
        self.admit("run-3")

    def open(self) -> Ledger:
        self.ledger.close()
        self.ledger = open_ledger(self.store, self.outbox, now=now)
        return self.ledger

    def recover(self, *, uncharged: tuple[str, ...] = ()) -> Ledger:
        self.ledger.close()
        recoverer = Recoverer(self.store, self.memory, now=later)
        try:
            recoverer.recover("the disk was replaced", uncharged=uncharged)
        finally:
            recoverer.close()
        return self.open()


def later() -> dt.datetime:
    return now() + dt.timedelta(days=1)


@pytest.fixture
def site(tmp_path: Path, store: Location) -> Iterator[Site]:
    made = Site(tmp_path, store, Ledger(store, now=now))
    yield made
    made.ledger.close()


def test_a_ledger_that_goes_on_from_the_outbox_is_not_halted(site: Site) -> None:
    site.work()
    assert site.open().halted is None
    with pytest.raises(InputError, match="nothing to recover"):
        site.recover()


@pytest.mark.parametrize("crash", ["admission", "release", "commit", "receipt"])
def test_no_crash_looks_like_missing_entries(site: Site, crash: str) -> None:
    site.work()
    match crash:
        case "admission":
            AdmittedRuns(site.directory / "runs").add("run-4", JOB, nonce="another")
        case "release":
            event = PLAN.require_training().round_event
            site.ledger.reserve("run-2", "round-3", event, budget=BUDGET)
        case "commit":
            event = PLAN.require_training().round_event
            site.ledger.reserve("run-2", "round-3", event, budget=BUDGET)
            site.outbox.put("run-2", "round-3", Release(REQUEST, b"not yet committed"))
        case _:
            site.ledger.settle("run-2")
    assert site.open().halted is None


@pytest.mark.parametrize("kept", range(9))
def test_a_truncated_tail_is_found_by_the_outbox_or_by_whoever_remembers(
    site: Site, kept: int
) -> None:
    site.work()
    before, remembered = site.spent, site.head
    execute(site.store, "DELETE FROM entries WHERE seq >= ?", (kept,))
    shortened = site.open()
    assert shortened.halted is not None
    assert "entries are missing" in shortened.halted
    assert not shortened.contains(remembered)
    assert_refuses(site)
    # Another start changes nothing.
    assert site.open().halted == shortened.halted
    assert_refuses(site)
    recovered = site.recover()
    assert recovered.halted is None
    assert before.is_within(site.spent)
    site.hold("run-9")


def assert_refuses(site: Site) -> None:
    length = site.ledger.length
    event = PLAN.require_training().round_event
    with pytest.raises(IntegrityError, match=r"halted.*sordino ledger recover"):
        site.hold("run-9")
    for run_id in site.ledger.books.runs:
        with pytest.raises(IntegrityError, match="halted"):
            site.ledger.reserve(run_id, "round-3", event, budget=BUDGET)
        with pytest.raises(IntegrityError, match="halted"):
            site.ledger.settle(run_id)
        reservation = Reservation(run_id, "round-1", event)
        with pytest.raises(IntegrityError, match="halted"):
            site.ledger.commit(reservation, release_sha256="cd" * 32)
    assert not site.ledger.fits(LINEAGE, event, BUDGET)
    assert site.ledger.length == length


def test_a_lost_commit_shows_to_whoever_remembers_the_head(site: Site) -> None:
    site.admit("run-1")
    site.release("run-1", 1)
    before, remembered = site.spent, site.head
    execute(site.store, "DELETE FROM entries WHERE seq = 2")
    # A crash before the commit looks the same: the outbox cannot tell.
    assert site.open().halted is None
    assert not site.ledger.contains(remembered)
    site.ledger.halt("the server remembers a head that is not here", remembered=remembered)
    assert_refuses(site)
    recovered = site.recover()
    assert recovered.contains(remembered)
    assert recovered.length > remembered.length
    assert before.is_within(site.spent)
    assert recovered.charged("run-1") == (PLAN.event,)


def test_an_old_file_that_was_put_back_is_found(tmp_path: Path) -> None:
    store = tmp_path / "state" / "ledger.db"
    site = Site(tmp_path, store, Ledger(store, now=now))
    site.admit("run-1")
    # Copied while it is in use, with what SQLite keeps beside it.
    shutil.copytree(store.parent, tmp_path / "old")
    site.release("run-1", 1)
    site.settle("run-1")
    site.admit("run-2")
    before, remembered = site.spent, site.head
    site.ledger.close()
    shutil.rmtree(store.parent)
    shutil.copytree(tmp_path / "old", store.parent)
    site.open()
    assert site.ledger.length == 2
    assert site.ledger.halted is not None
    for answer in ("run-1/round-1", "run-1/receipt", "run-2/admission"):
        assert answer in site.ledger.halted
    assert not site.ledger.contains(remembered)
    assert_refuses(site)
    site.recover()
    assert before.is_within(site.spent)
    assert site.ledger.charged("run-1") == site.ledger.charged("run-2") == (PLAN.event,)
    site.ledger.close()


def test_a_whole_directory_that_was_put_back_shows_to_whoever_remembers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    store = state / "ledger.db"
    site = Site(state, store, Ledger(store, now=now))
    site.admit("run-1")
    shutil.copytree(state, tmp_path / "old")
    site.release("run-1", 1)
    before, remembered = site.spent, site.head
    site.ledger.close()
    shutil.rmtree(state)
    shutil.copytree(tmp_path / "old", state)
    assert site.open().halted is None
    assert not site.ledger.contains(remembered)
    site.ledger.halt("the server remembers more", remembered=remembered)
    assert site.recover().contains(remembered)
    # The run was open: what it released since is covered by its whole plan.
    assert before.is_within(site.spent)
    site.ledger.close()


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda each: each.__name__)
def test_a_chain_that_does_not_hold_works_again_after_a_recovery_that_charges(
    site: Site, tamper: Callable[[Location], None]
) -> None:
    site.work()
    before, remembered = site.spent, site.head
    tamper(site.store)
    with pytest.raises(IntegrityError):
        site.open()
    found = rows_of(site.store)
    recovered = site.recover()
    assert recovered.halted is None
    assert before.is_within(site.spent)
    assert recovered.length > remembered.length
    # Nothing was removed, and the new entry speaks for what was found.
    assert rows_of(site.store)[: len(found)] == found
    newest = read_entries(site.store)[-1]
    assert newest["kind"] == "recover"
    assert newest["reason"] == "the disk was replaced"
    assert newest["at"] == "2026-01-03T00:00:00+00:00"
    assert isinstance(newest["sealed_entries"], int)
    assert newest["sealed_entries"] > 0
    # And work goes on, across restarts.
    site.hold("run-9")
    assert site.open().verify() == recovered.length
    assert "run-9" in site.ledger.books.runs


def test_every_run_that_may_have_lost_entries_is_charged_its_whole_plan(site: Site) -> None:
    site.work()
    site.admit("run-4")
    site.settle("run-4")
    execute(site.store, "DELETE FROM entries WHERE seq = 6")
    recovered = site.recover()
    # The first run was settled before the place that does not hold; the others may hide anything.
    assert recovered.charged("run-1") == (PLAN.require_training().round_event,)
    for run_id in ("run-2", "run-3", "run-4"):
        assert recovered.charged(run_id) == (PLAN.event,)


def test_sealed_entries_cannot_be_changed_again(site: Site) -> None:
    site.work()
    execute(site.store, "DELETE FROM entries WHERE seq = 3")
    site.recover()
    site.hold("run-9")
    execute(site.store, "DELETE FROM entries WHERE seq = 5")
    with pytest.raises(IntegrityError, match="entry 3 is missing"):
        site.open()


def test_an_entry_that_is_forged_after_broken_ones_does_not_mend_them(site: Site) -> None:
    site.work()
    ((body,),) = execute(site.store, "SELECT body FROM entries WHERE seq = 0")
    assert isinstance(body, bytes)
    execute(site.store, "DELETE FROM entries WHERE seq = 3")
    # A perfectly good entry of another place.
    values = (50, body, hashlib.sha256(body).hexdigest())
    execute(site.store, "INSERT INTO entries VALUES (?, ?, ?)", values)
    with pytest.raises(IntegrityError, match="entry 3 is missing"):
        site.open()


def test_a_lost_file_is_recovered_from_the_runs(site: Site) -> None:
    site.work()
    before = site.spent
    execute(site.store, "DELETE FROM entries")
    assert site.open().halted is not None
    site.recover()
    assert before.is_within(site.spent)
    assert set(site.ledger.books.runs) == {"run-1", "run-2", "run-3"}
    assert site.ledger.lineage("run-1") == LINEAGE
    for run_id in ("run-1", "run-2", "run-3"):
        with pytest.raises(LedgerError):
            site.ledger.reserve(run_id, "round-3", PLAN.event, budget=BUDGET)
        site.ledger.settle(run_id)


def test_a_file_that_is_no_ledger_is_set_aside(tmp_path: Path) -> None:
    store = tmp_path / "state" / "ledger.db"
    site = Site(tmp_path, store, Ledger(store, now=now))
    site.work()
    before = site.spent
    site.ledger.close()
    garbage = b"no database" * 500
    store.write_bytes(garbage)
    with pytest.raises(IntegrityError, match="no ledger that can be read"):
        site.open()
    site.recover()
    assert before.is_within(site.spent)
    (aside,) = store.parent.glob("*.unreadable")
    assert aside.read_bytes() == garbage
    newest = read_entries(store)[-1]
    assert newest["unreadable_sha256"] == hashlib.sha256(garbage).hexdigest()
    site.ledger.close()


def test_what_nobody_knows_the_cost_of_is_named_by_a_person(site: Site) -> None:
    site.work()
    execute(site.store, "DELETE FROM entries")
    (site.directory / "runs" / "run-2.json").unlink()
    with pytest.raises(InputError, match=r"may have cost: run-2.*--uncharged"):
        site.recover()
    recovered = site.recover(uncharged=("run-2",))
    assert recovered.halted is None
    assert recovered.charged("run-2") == ()
    assert read_entries(site.store)[-1]["uncharged"] == ["run-2"]


def test_a_recovery_needs_a_reason_and_a_stopped_vault(site: Site) -> None:
    site.work()
    with pytest.raises(IntegrityError, match="another process"):
        Recoverer(site.store, site.memory, now=later)
    site.ledger.halt("look at me")
    site.ledger.close()
    recoverer = Recoverer(site.store, site.memory, now=later)
    with pytest.raises(InputError, match="reason"):
        recoverer.recover("  ")
    assert recoverer.plan.problems == ("look at me",)
    recoverer.close()


def test_a_halt_without_a_loss_charges_nobody(site: Site) -> None:
    site.work()
    before = site.spent
    site.ledger.halt("look at me")
    assert site.ledger.halted == "look at me"
    site.ledger.halt("and at me")
    assert site.ledger.halted == "look at me"
    site.recover()
    assert site.spent == before
    site.release("run-2", 3)


def test_what_was_recovered_stays_charged_when_it_is_recovered_again(site: Site) -> None:
    site.work()
    for _ in range(2):
        site.ledger.halt(
            "lost", remembered=SignedHead(site.ledger.length + 5, "cd" * 32, "0" * 128)
        )
        site.recover()
        assert renyi_curve(PLAN.event).is_within(site.spent)
    assert site.ledger.contains(SignedHead(site.ledger.length - 1, "cd" * 32, "0" * 128))


def test_a_recovery_may_pass_the_limit_and_then_nothing_more_is_held(site: Site) -> None:
    # What was spent was spent, whatever the limit says.
    number = 0
    while site.ledger.fits(LINEAGE, PLAN.event, BUDGET):
        site.admit(f"run-{number}")
        number += 1
    AdmittedRuns(site.directory / "runs").add("one-more", JOB, nonce="one more")
    site.ledger.halt("lost", remembered=SignedHead(100, "cd" * 32, "0" * 128))
    site.recover()
    assert site.ledger.balance(LINEAGE, BUDGET).spent > BUDGET.epsilon
    assert site.ledger.balance(LINEAGE, BUDGET).left == 0.0
    with pytest.raises(BudgetExhaustedError):
        site.hold("run-99")
