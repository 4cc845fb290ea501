"""The budget ledger: reserve before the first look at a record, commit on release, never give back.

Every method that changes something returns when its entry is on disk (`chain.py`). What must stay
true, after a crash at any point:

- what is spent never decreases and never passes the limit, up to the rounding of sums (1e-9);
- a release has a reservation, and only `reserve` makes one;
- a changed, removed or reordered entry is found by `verify`. That the newest entries are missing
  altogether shows only to somebody who remembers a later `head`.

The limit is a Rényi filter (Feldman & Zrnic 2021, thm. 4.3): the curves of everything spent or held
are added, and a hold is refused when the sum's epsilon at the budget's delta would pass the limit.
That stays valid when each job is chosen after seeing the results of earlier ones.
"""

import datetime as dt
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sordino_client.chain import GENESIS, Chain, Entry, read_chain
from sordino_protocols.accounting import NO_COST, RenyiCurve, renyi_curve, total
from sordino_protocols.errors import ExitCode, IntegrityError, SordinoError
from sordino_protocols.privacy import Event, Guarantee, event_to_json

__all__ = [
    "GENESIS",
    "Balance",
    "BudgetExhaustedError",
    "Ledger",
    "LedgerError",
    "Reservation",
    "read_entries",
]

_ROUNDING = 1e-9


class BudgetExhaustedError(SordinoError):
    """A hold, or a charge after the budget was lowered, would pass the lifetime budget.

    Attributes:
        left: epsilon that is neither spent nor held.
    """

    exit_code = ExitCode.BUDGET_EXHAUSTED

    def __init__(self, dataset: str, *, left: float, limit: float) -> None:
        super().__init__(f"data set {dataset!r} has epsilon {left:.4f} of {limit:g} left")
        self.left = left


class LedgerError(SordinoError):
    """A caller asked for something that the ledger's order does not allow."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Leave to make one release. Only `Ledger.reserve` makes these.

    Attributes:
        run_id: the run.
        step: which release of the run, such as "round-3".
        event: what was paid for.
    """

    run_id: str
    step: str
    event: Event


@dataclass(frozen=True, slots=True)
class Balance:
    """A data set's lifetime budget, in epsilon at the budget's delta, by the Rényi filter.

    Attributes:
        limit: what the policy allows.
        delta: of all of them.
        spent: what was reserved, ever.
        held: what running jobs may still reserve, on top of `spent`.
        left: the limit less both, at least 0.
    """

    limit: float
    delta: float
    spent: float
    held: float
    left: float


@dataclass(slots=True)
class _Run:
    dataset: str
    held: Event
    is_settled: bool = False
    reserved: dict[str, Event] = field(default_factory=dict)
    committed: dict[str, str] = field(default_factory=dict)
    spent: RenyiCurve = NO_COST

    @property
    def counted(self) -> RenyiCurve:
        return self.spent if self.is_settled else renyi_curve(self.held)


class Ledger:
    """One site's ledger. One process opens it; its methods may be called from any thread."""

    def __init__(self, path: Path, *, now: Callable[[], dt.datetime]) -> None:
        """Open or make the ledger at `path`, and verify its chain.

        Raises:
            IntegrityError: the chain does not hold, or another process has it open; nothing may be
                charged until a person acts.
        """
        self._chain = Chain(path)
        self._now = now
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        try:
            for entry in self._chain.read():
                self._apply(entry)
                self._chain.follow(entry)
        except BaseException:
            self._chain.close()
            raise

    def close(self) -> None:
        """Let go of the file; everything is on disk already."""
        self._chain.close()

    @property
    def head(self) -> str:
        """Hash of the newest entry; 64 zeros when there is none."""
        return self._chain.head

    @property
    def length(self) -> int:
        """Number of entries."""
        return self._chain.length

    def hold(
        self, run_id: str, *, dataset: str, event: Event, budget: Guarantee, policy_sha256: str
    ) -> None:
        """Set aside the whole planned cost of a run. The same hold again changes nothing.

        Raises:
            BudgetExhaustedError: spent, held and this together would pass the budget.
            LedgerError: the run already has another hold.
        """
        with self._lock:
            run = self._runs.get(run_id)
            if run is not None:
                if (run.dataset, run.held) != (dataset, event) or run.is_settled:
                    raise LedgerError(f"run {run_id} has another hold, or is settled")
                return
            if not self._fits(dataset, event, budget):
                raise self._exhausted(dataset, budget)
            facts = {
                "dataset": dataset,
                "event": event_to_json(event),
                "curve": list(renyi_curve(event).values),
                "budget": {"epsilon": budget.epsilon, "delta": budget.delta},
                "policy_sha256": policy_sha256,
            }
            self._append("hold", run_id, facts)

    def reserve(self, run_id: str, step: str, event: Event, *, budget: Guarantee) -> Reservation:
        """Charge one release, on disk, before anything that it depends on is looked at.

        The same step again returns the first reservation and charges nothing: after a crash the
        release is made under the reservation that is already paid for.

        Args:
            run_id: a run with a hold.
            step: which release of the run.
            event: what it costs.
            budget: the data set's, as it is now. The hold was granted under the budget of its day;
                if that was lowered since, what is spent still does not pass the lower one.

        Raises:
            LedgerError: no hold, the run is settled, the step was reserved with another event, or
                the run's reservations would pass its hold.
            BudgetExhaustedError: what was ever spent and this together would pass the budget.
        """
        with self._lock:
            run = self._open_run(run_id)
            known = run.reserved.get(step)
            if known is None:
                self._require_affordable(run, f"{run_id}/{step}", event, budget)
                self._append("reserve", run_id, {"step": step, "event": event_to_json(event)})
            elif known != event:
                raise LedgerError(f"{run_id}/{step} is reserved with another event")
            return Reservation(run_id, step, event)

    def commit(self, reservation: Reservation, *, release_sha256: str) -> None:
        """Record that a reserved release was stored in the outbox and may leave. Idempotent.

        Raises:
            LedgerError: there is no such reservation, or another release was committed for it.
        """
        run_id, step = reservation.run_id, reservation.step
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or run.reserved.get(step) != reservation.event:
                raise LedgerError("a commit needs the reservation that the ledger made")
            if run.committed.get(step, release_sha256) != release_sha256:
                raise LedgerError(f"{run_id}/{step} is committed with another release")
            if step not in run.committed:
                facts = {"step": step, "release_sha256": release_sha256}
                self._append("commit", run_id, facts)

    def settle(self, run_id: str) -> None:
        """End a run: what it held and did not reserve is free again. Idempotent.

        Raises:
            LedgerError: the run has no hold.
        """
        with self._lock:
            if not self._held_run(run_id).is_settled:
                self._append("settle", run_id, {})

    def planned(self, run_id: str) -> Event:
        """What a run may cost in all.

        Raises:
            LedgerError: the run has no hold.
        """
        with self._lock:
            return self._held_run(run_id).held

    def charged(self, run_id: str) -> tuple[Event, ...]:
        """What a run was charged for, in order; empty if it was never heard of."""
        with self._lock:
            run = self._runs.get(run_id)
            return () if run is None else tuple(run.reserved.values())

    def committed(self, run_id: str, step: str) -> str | None:
        """SHA-256 (hex) of the release that was committed for a step; None before that."""
        with self._lock:
            run = self._runs.get(run_id)
            return None if run is None else run.committed.get(step)

    def fits(self, dataset: str, event: Event, budget: Guarantee) -> bool:
        """Whether a hold for `event` would be granted now."""
        with self._lock:
            return self._fits(dataset, event, budget)

    def balance(self, dataset: str, budget: Guarantee) -> Balance:
        """What is spent, held and left of a data set's budget."""
        with self._lock:
            return self._balance(dataset, budget)

    def datasets(self) -> tuple[str, ...]:
        """Every data set that was ever held for."""
        with self._lock:
            return tuple(sorted({run.dataset for run in self._runs.values()}))

    def verify(self) -> int:
        """Read the whole chain from disk and return its length.

        Raises:
            IntegrityError: an entry was changed, removed or reordered, or the file is not the one
                that this process has been writing to.
        """
        with self._lock:
            hashes = [entry.hash for entry in self._chain.read()]
            if len(hashes) != self.length or (hashes and hashes[-1] != self.head):
                raise IntegrityError("the ledger on disk is not the one this process wrote")
            return len(hashes)

    def _require_affordable(self, run: _Run, what: str, event: Event, budget: Guarantee) -> None:
        cost = renyi_curve(event)
        if not (run.spent + cost).is_within(renyi_curve(run.held)):
            raise LedgerError(f"{what} would pass the run's hold")
        spent = self._spent(run.dataset) + cost
        if not spent.epsilon(budget.delta) <= budget.epsilon * (1 + _ROUNDING):
            raise self._exhausted(run.dataset, budget)

    def _exhausted(self, dataset: str, budget: Guarantee) -> BudgetExhaustedError:
        left = self._balance(dataset, budget).left
        return BudgetExhaustedError(dataset, left=left, limit=budget.epsilon)

    def _fits(self, dataset: str, event: Event, budget: Guarantee) -> bool:
        counted = self._counted(dataset) + renyi_curve(event)
        return counted.epsilon(budget.delta) <= budget.epsilon

    def _balance(self, dataset: str, budget: Guarantee) -> Balance:
        spent = self._spent(dataset).epsilon(budget.delta)
        counted = self._counted(dataset).epsilon(budget.delta)
        return Balance(
            limit=budget.epsilon,
            delta=budget.delta,
            spent=spent,
            held=max(counted - spent, 0.0),
            left=max(budget.epsilon - counted, 0.0),
        )

    def _spent(self, dataset: str) -> RenyiCurve:
        return total([run.spent for run in self._runs.values() if run.dataset == dataset])

    def _counted(self, dataset: str) -> RenyiCurve:
        return total([run.counted for run in self._runs.values() if run.dataset == dataset])

    def _held_run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            raise LedgerError(f"run {run_id} has no hold")
        return run

    def _open_run(self, run_id: str) -> _Run:
        run = self._held_run(run_id)
        if run.is_settled:
            raise LedgerError(f"run {run_id} is settled")
        return run

    def _append(self, kind: str, run_id: str, facts: Mapping[str, object]) -> None:
        entry = self._chain.append({**facts, "kind": kind, "run_id": run_id}, at=self._now())
        self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        run_id, kind = entry.text("run_id"), entry.text("kind")
        run = self._runs.get(run_id)
        match kind:
            case "hold" if run is None:
                self._runs[run_id] = _Run(entry.text("dataset"), entry.event)
            case "reserve" if run is not None and entry.text("step") not in run.reserved:
                run.reserved[entry.text("step")] = entry.event
                run.spent += renyi_curve(entry.event)
            case "commit" if run is not None and entry.text("step") in run.reserved:
                run.committed[entry.text("step")] = entry.text("release_sha256")
            case "settle" if run is not None:
                run.is_settled = True
            case _:
                # Never skipped: what is not understood may have spent something.
                raise IntegrityError(f"ledger: {kind!r} of run {run_id!r} cannot stand here")


def read_entries(path: Path) -> tuple[dict[str, object], ...]:
    """Read and verify a ledger that another process may be writing to.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: the chain does not hold.
    """
    return tuple({**entry.facts, "hash": entry.hash} for entry in read_chain(path))
