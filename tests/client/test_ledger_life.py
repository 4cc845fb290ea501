import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from dead_line import break_the_line
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from postgres import Cluster
from small_ledger import BUDGET, EVALUATION, ROUND, hold, now, reserve

from sordino_client.chain_store import Location
from sordino_client.ledger import (
    BudgetExhaustedError,
    Ledger,
    LedgerError,
    Reservation,
)
from sordino_protocols.accounting import renyi_curve, total
from sordino_protocols.errors import UnreachableError
from sordino_protocols.privacy import Composed, Event, Gaussian, PoissonGaussian

Answer = TypeVar("Answer")
SHORT = settings(
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def again(request: Callable[[], Answer]) -> Answer:
    """A request that is repeated where the first one was not confirmed."""
    try:
        return request()
    except UnreachableError:
        return request()


events = st.sampled_from(
    [ROUND, EVALUATION, Gaussian(0.9), Gaussian(3.0), PoissonGaussian(1.0, 5.0, 2)]
)
run_ids = st.sampled_from(["run-1", "run-2", "run-3", "run-4"])
steps = st.sampled_from(["round-1", "round-2", "round-3", "evaluation"])


class LedgerLife(RuleBasedStateMachine):
    """Any order of requests and restarts. A model of plain numbers says what must come of it."""

    def new_store(self) -> Location:
        return Path(self.directory.name) / "ledger.db"

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.store = self.new_store()
        self.ledger = Ledger(self.store, now=now)
        self.held: dict[str, Event] = {}
        self.settled: set[str] = set()
        self.paid: dict[tuple[str, str], Event] = {}
        self.releases: dict[tuple[str, str], str] = {}
        self.most_spent = 0.0

    @rule(run_id=run_ids, event=events, count=st.integers(1, 4))
    def hold(self, run_id: str, event: Event, count: int) -> None:
        fits = self.ledger.fits("heart", Composed((event,) * count), BUDGET)
        try:
            again(lambda: hold(self.ledger, run_id, event=Composed((event,) * count)))
            self.held[run_id] = Composed((event,) * count)
        except BudgetExhaustedError:
            assert not fits
        except LedgerError:
            assert self.ledger.planned(run_id)

    @rule(is_stored=st.booleans())
    def lose_the_next_answer(self, *, is_stored: bool) -> None:
        break_the_line(self.ledger, is_stored=is_stored)

    @rule(run_id=run_ids, step=steps, event=events)
    def reserve(self, run_id: str, step: str, event: Event) -> None:
        known = self.paid.get((run_id, step))
        before = self.ledger.length
        try:
            reservation = again(lambda: reserve(self.ledger, step, run_id=run_id, event=event))
        except LedgerError:
            assert self.ledger.length == before
            return
        assert reservation.event == event
        assert known in (None, event)
        assert self.ledger.length == before + (known is None)
        self.paid[run_id, step] = event

    @rule(run_id=run_ids, step=steps, content=st.binary(min_size=1, max_size=1))
    def commit(self, run_id: str, step: str, content: bytes) -> None:
        release = hashlib.sha256(content).hexdigest()
        event = self.paid.get((run_id, step))
        known = self.releases.get((run_id, step), release)
        if event is None:
            with pytest.raises(LedgerError):
                self.ledger.commit(Reservation(run_id, step, ROUND), release_sha256=release)
        elif known != release:
            with pytest.raises(LedgerError):
                self.ledger.commit(Reservation(run_id, step, event), release_sha256=release)
        else:
            reservation = Reservation(run_id, step, event)
            again(lambda: self.ledger.commit(reservation, release_sha256=release))
            self.releases[run_id, step] = release

    @rule(run_id=run_ids)
    def settle(self, run_id: str) -> None:
        try:
            again(lambda: self.ledger.settle(run_id))
            self.settled.add(run_id)
        except LedgerError:
            assert self.ledger.charged(run_id) == ()

    @rule()
    def reopen(self) -> None:
        before = (self.ledger.head, self.ledger.length, self.ledger.balance("heart", BUDGET))
        self.ledger.close()
        self.ledger = Ledger(self.store, now=now)
        assert (
            self.ledger.head,
            self.ledger.length,
            self.ledger.balance("heart", BUDGET),
        ) == before

    @invariant()
    def what_is_spent_never_shrinks_and_never_passes_the_limit(self) -> None:
        balance = self.ledger.balance("heart", BUDGET)
        expected = total([renyi_curve(event) for event in self.paid.values()])
        assert balance.spent == pytest.approx(expected.epsilon(BUDGET.delta))
        still_held = [event for run, event in self.held.items() if run not in self.settled]
        paid_and_settled = [event for (run, _), event in self.paid.items() if run in self.settled]
        counted = total([renyi_curve(event) for event in (*still_held, *paid_and_settled)])
        assert balance.spent + balance.held == pytest.approx(counted.epsilon(BUDGET.delta))
        assert self.most_spent <= balance.spent
        assert balance.spent + balance.held <= BUDGET.epsilon * (1 + 1e-9)
        self.most_spent = balance.spent

    @invariant()
    def the_chain_holds_and_releases_stay(self) -> None:
        assert self.ledger.verify() == self.ledger.length
        for (run_id, step), release in self.releases.items():
            assert self.ledger.committed(run_id, step) == release

    def teardown(self) -> None:
        self.ledger.close()
        self.directory.cleanup()


def test_any_life_of_a_ledger_in_a_file() -> None:
    run_state_machine_as_test(LedgerLife, settings=settings(SHORT, max_examples=25))


def test_any_life_of_a_ledger_in_a_database(postgres: Cluster) -> None:
    class LedgerLifeInDatabase(LedgerLife):
        def new_store(self) -> Location:
            return postgres.new_database()

    run_state_machine_as_test(LedgerLifeInDatabase, settings=settings(SHORT, max_examples=8))
