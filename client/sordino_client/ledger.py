"""The budget ledger: reserve before the first look at a record, commit on release, never give back.

Every method that changes something returns when its entry is on disk (`chain_store.py`). What must
stay true, after a crash at any point:

- what is spent never decreases and never passes the limit, up to the rounding of sums (1e-9);
- a release has a reservation, and only `reserve` makes one;
- a changed, removed or reordered entry is found by `verify` (`chain.py`). That the newest entries
  are missing altogether shows in what else the site keeps (`continuity.py`), or to whoever
  remembers a later head (`contains`): then the ledger is halted, and nothing is charged or released
  until a person recovered it (`recovery.py`).

The limit is a Rényi filter (Feldman & Zrnic 2021, thm. 4.3): the curves of everything spent or held
are added, and a hold is refused when the sum's epsilon at the budget's delta would pass the limit.
That stays valid when each job is chosen after seeing the results of earlier ones.
"""

import datetime as dt
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from sordino_client.books import Balance, Books, Run, RunCost
from sordino_client.chain import Chain, read_entries
from sordino_client.chain_store import Location, open_store
from sordino_client.ledger_errors import BudgetExhaustedError, LedgerError
from sordino_protocols.errors import IntegrityError
from sordino_protocols.heads import GENESIS, SignedHead
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


class Ledger:
    """One site's ledger. One process opens it; its methods may be called from any thread."""

    def __init__(
        self,
        store: Location,
        *,
        now: Callable[[], dt.datetime],
        observe_fsync: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Open or make the ledger in `store`, and verify its chain.

        Args:
            store: a SQLite file, or the URL of a PostgreSQL database.
            now: the time, for the entries.
            observe_fsync: told how many seconds the disk took, for every entry.

        Raises:
            IntegrityError: the chain does not hold, or another process has it open; nothing may be
                charged until a person acts.
            UnreachableError: the database does not answer.
        """
        self._chain = Chain(open_store(store))
        self._now = now
        self._observe_fsync = observe_fsync
        self._lock = threading.Lock()
        # Where the ledger stood before a write that nobody confirmed.
        self._stood_at: tuple[int, str] | None = None
        self._links: dict[str, str] = {}
        try:
            self._books = self._read()
        except BaseException:
            self._chain.close()
            raise

    def close(self) -> None:
        """Let go of the store; everything is on disk."""
        self._chain.close()

    @property
    def head(self) -> str:
        """Hash of the newest entry; 64 zeros when there is none."""
        return self._chain.head

    @property
    def length(self) -> int:
        """Number of entries, with those that were lost and recovered."""
        return self._chain.length

    @property
    def halted(self) -> str | None:
        """Why nothing may be charged until a person acts; None while all is well."""
        return self._books.halted

    def contains(self, head: SignedHead) -> bool:
        """Whether the ledger goes on from this head: it was once the newest entry here."""
        with self._lock:
            return self._chain.contains(length=head.length, head=head.hash)

    def halt(self, reason: str, *, remembered: SignedHead | None = None) -> None:
        """Stop charging for good, until a person recovers the ledger. Survives a restart.

        Args:
            reason: what a person should know; goes into the ledger.
            remembered: a head that this ledger should contain and does not.
        """
        with self._lock:
            missing = self._books.missing
            adds = remembered is not None and (missing is None or remembered.length > missing[0])
            if self._books.halted is not None and not adds:
                return
            self._refresh()
            head = None if remembered is None else asdict(remembered)
            self._append({"kind": "halt", "reason": reason, "remembered": head})

    def link(self, *, dataset: str, lineage: str) -> None:
        """Count a data set under a lineage from now on, with all that both have spent.

        For the process that serves the data set, before anything is asked of it: an admin who gives
        a data set another lineage gives nothing back. Holds do it too, and theirs is remembered.
        """
        with self._lock:
            self._links[dataset] = lineage
            self._books.link(dataset=dataset, lineage=lineage)

    def hold(
        self,
        run_id: str,
        *,
        dataset: str,
        lineage: str,
        event: Event,
        budget: Guarantee,
        policy_sha256: str,
    ) -> None:
        """Set aside the whole planned cost of a run. The same hold again changes nothing.

        Args:
            run_id: the run.
            dataset: what the job asked for.
            lineage: whose records those are: data sets of one lineage draw on one budget.
            event: the run's whole planned cost.
            budget: of the lineage.
            policy_sha256: of the policy that allowed it, in hex.

        Raises:
            BudgetExhaustedError: spent, held and this together would pass the budget.
            LedgerError: the run already has another hold.
            IntegrityError: the ledger is halted.
        """
        with self._lock:
            self._require_ready()
            run = self._books.runs.get(run_id)
            if run is not None:
                same = (run.dataset, run.lineage, run.held) == (dataset, lineage, event)
                if not same or run.is_settled:
                    raise LedgerError(f"run {run_id} has another hold, or is settled")
                return
            # Before it is measured: what the data set spent under another lineage counts.
            self._books.link(dataset=dataset, lineage=lineage)
            if not self._fits(lineage, event, budget):
                raise self._exhausted(lineage, budget)
            facts = {
                "kind": "hold",
                "run_id": run_id,
                "dataset": dataset,
                "lineage": lineage,
                "event": event_to_json(event),
                "curve": list(self._books.curve(event).values),
                "budget": {"epsilon": budget.epsilon, "delta": budget.delta},
                "policy_sha256": policy_sha256,
            }
            self._append(facts)

    def reserve(self, run_id: str, step: str, event: Event, *, budget: Guarantee) -> Reservation:
        """Charge one release, on disk, before anything that it depends on is looked at.

        The same step again returns the first reservation and charges nothing: after a crash the
        release is made under the reservation that is already paid for.

        Args:
            run_id: a run with a hold.
            step: which release of the run.
            event: what it costs.
            budget: the lineage's, as it is now. The hold was granted under the budget of its day;
                if that was lowered since, what is spent still does not pass the lower one.

        Raises:
            LedgerError: no hold, the run is settled, the step was reserved with another event, or
                the run's reservations would pass its hold.
            BudgetExhaustedError: what was ever spent and this together would pass the budget.
            IntegrityError: the ledger is halted.
        """
        with self._lock:
            self._require_ready()
            run = self._held_run(run_id)
            if run.is_settled:
                raise LedgerError(f"run {run_id} is settled")
            known = run.reserved.get(step)
            if known is None:
                self._require_affordable(run, f"{run_id}/{step}", event, budget)
                facts = {"step": step, "event": event_to_json(event)}
                self._append({"kind": "reserve", "run_id": run_id, **facts})
            elif known != event:
                raise LedgerError(f"{run_id}/{step} is reserved with another event")
            return Reservation(run_id, step, event)

    def commit(self, reservation: Reservation, *, release_sha256: str) -> None:
        """Record that a reserved release was stored in the outbox and may leave. Idempotent.

        Raises:
            LedgerError: there is no such reservation, or another release was committed for it.
            IntegrityError: the ledger is halted.
        """
        run_id, step = reservation.run_id, reservation.step
        with self._lock:
            self._require_ready()
            run = self._books.runs.get(run_id)
            if run is None or run.reserved.get(step) != reservation.event:
                raise LedgerError("a commit needs the reservation that the ledger made")
            if run.committed.get(step, release_sha256) != release_sha256:
                raise LedgerError(f"{run_id}/{step} is committed with another release")
            if step not in run.committed:
                facts = {"step": step, "release_sha256": release_sha256}
                self._append({"kind": "commit", "run_id": run_id, **facts})

    def settle(self, run_id: str) -> None:
        """End a run: what it held and did not reserve is free again. Idempotent.

        Raises:
            LedgerError: the run has no hold.
            IntegrityError: the ledger is halted.
        """
        with self._lock:
            self._require_ready()
            if not self._held_run(run_id).is_settled:
                self._append({"kind": "settle", "run_id": run_id})

    def planned(self, run_id: str) -> Event:
        """What a run may cost in all.

        Raises:
            LedgerError: the run has no hold.
        """
        with self._lock:
            return self._held_run(run_id).held

    def policy_sha256(self, run_id: str) -> str:
        """SHA-256 (hex) of the policy under which a run was admitted.

        Raises:
            LedgerError: the run has no hold.
        """
        with self._lock:
            return self._held_run(run_id).policy_sha256

    def lineage(self, run_id: str) -> str:
        """The lineage that a run draws on.

        Raises:
            LedgerError: the run has no hold.
        """
        with self._lock:
            return self._held_run(run_id).lineage

    @property
    def books(self) -> Books:
        """What all entries add up to; to be read only, and while nothing else is asked."""
        return self._books

    def charged(self, run_id: str) -> tuple[Event, ...]:
        """What a run was charged for, in order; empty if it was never heard of."""
        with self._lock:
            run = self._books.runs.get(run_id)
            return () if run is None else run.charged

    def steps(self, run_id: str) -> tuple[str, ...]:
        """The steps that a run was charged for, in order; empty if it was never heard of."""
        with self._lock:
            run = self._books.runs.get(run_id)
            return () if run is None else tuple(run.reserved)

    def committed(self, run_id: str, step: str) -> str | None:
        """SHA-256 (hex) of the release that was committed for a step; None before that."""
        with self._lock:
            run = self._books.runs.get(run_id)
            return None if run is None else run.committed.get(step)

    def costs(self, deltas: Mapping[str, float]) -> list[RunCost]:
        """What each of these runs that is not settled was charged for and may be; by run, delta."""
        with self._lock:
            return self._books.costs(deltas)

    def fits(self, lineage: str, event: Event, budget: Guarantee) -> bool:
        """Whether a hold for `event` would be granted now."""
        with self._lock:
            return self._books.halted is None and self._fits(lineage, event, budget)

    def balance(self, lineage: str, budget: Guarantee) -> Balance:
        """What is spent, held and left of a lineage's budget."""
        with self._lock:
            return self._books.balance(lineage, budget)

    def balance_after(self, lineage: str, event: Event, budget: Guarantee) -> Balance:
        """The same, if a hold for `event` were granted."""
        with self._lock:
            return self._books.balance(lineage, budget, planned=self._books.curve(event))

    def datasets(self) -> tuple[str, ...]:
        """Every data set that was ever held for."""
        with self._lock:
            return tuple(sorted({run.dataset for run in self._books.runs.values()}))

    def verify(self) -> int:
        """Read the whole chain from disk and return its length.

        Raises:
            IntegrityError: an entry was changed, removed or reordered, or the store is not the one
                that this process has been writing to.
        """
        with self._lock:
            self._refresh()
            self._chain.verify()
            return self._chain.length

    def _require_affordable(self, run: Run, what: str, event: Event, budget: Guarantee) -> None:
        cost = self._books.curve(event)
        if not (run.spent + cost).is_within(self._books.curve(run.held)):
            raise LedgerError(f"{what} would pass the run's hold")
        spent = self._books.spent(run.lineage) + cost
        if not spent.epsilon(budget.delta) <= budget.epsilon * (1 + _ROUNDING):
            raise self._exhausted(run.lineage, budget)

    def _exhausted(self, lineage: str, budget: Guarantee) -> BudgetExhaustedError:
        left = self._books.balance(lineage, budget).left
        return BudgetExhaustedError(lineage, left=left, limit=budget.epsilon)

    def _fits(self, lineage: str, event: Event, budget: Guarantee) -> bool:
        counted = self._books.counted(lineage) + self._books.curve(event)
        return counted.epsilon(budget.delta) <= budget.epsilon

    def _held_run(self, run_id: str) -> Run:
        run = self._books.runs.get(run_id)
        if run is None:
            raise LedgerError(f"run {run_id} has no hold")
        return run

    def _require_ready(self) -> None:
        self._refresh()
        if self._books.halted is not None:
            raise IntegrityError(
                f"the ledger is halted: {self._books.halted}; stop the vault, find out why, then:"
                " sordino ledger recover"
            )

    def _refresh(self) -> None:
        """After a write that nobody confirmed: read again what is really there."""
        if self._stood_at is None:
            return
        length, head = self._stood_at
        self._chain.reopen()
        self._books = self._read()
        if not self._chain.contains(length=length, head=head):
            raise IntegrityError("the ledger on disk is not the one that this process wrote")
        self._stood_at = None

    def _read(self) -> Books:
        books = Books()
        for entry in self._chain.load():
            books.apply(entry)
        for dataset, lineage in self._links.items():
            books.link(dataset=dataset, lineage=lineage)
        return books

    def _append(self, facts: Mapping[str, object]) -> None:
        self._stood_at = (self._chain.length, self._chain.head)
        entry, seconds = self._chain.append(facts, at=self._now())
        self._stood_at = None
        self._books.apply(entry)
        self._observe_fsync(seconds)
