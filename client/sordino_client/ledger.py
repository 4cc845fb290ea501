"""The budget ledger: reserve before the first look at a record, commit on release, never give back.

Append-only and hash-chained, in SQLite (WAL, synchronous=FULL): when a method returns, its entry is
on disk. What must stay true, after a crash at any point:

- what is spent never decreases and never passes the limit;
- a release has a reservation, and only `reserve` makes one;
- a changed, removed or reordered entry is found by `verify`.

The limit is a Rényi filter (Feldman & Zrnic 2021, thm. 4.3): the curves of everything spent or held
are added, and a hold is refused when the sum's epsilon at the budget's delta would pass the limit.
That stays valid when each job is chosen after seeing the results of earlier ones.
"""

import datetime as dt
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from sordino_protocols.accounting import NO_COST, RenyiCurve, renyi_curve, total
from sordino_protocols.errors import ExitCode, IntegrityError, SordinoError
from sordino_protocols.privacy import Event, Guarantee, event_from_json, event_to_json
from sordino_protocols.signing import canonical_json

GENESIS = "0" * 64
LEDGER_VERSION = 1

_METADATA = sa.MetaData()
_ENTRIES = sa.Table(
    "entries",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


class BudgetExhaustedError(SordinoError):
    """A hold would pass the lifetime budget.

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
        is_committed: whether the release was already made; then it must be re-sent, not re-made.
    """

    run_id: str
    step: str
    event: Event
    is_committed: bool


@dataclass(frozen=True, slots=True)
class Balance:
    """A data set's lifetime budget, in epsilon at the budget's delta, by the Rényi filter.

    Attributes:
        limit: what the policy allows.
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
    committed: set[str] = field(default_factory=set)

    @property
    def spent(self) -> RenyiCurve:
        return total([renyi_curve(event) for event in self.reserved.values()])

    @property
    def counted(self) -> RenyiCurve:
        return self.spent if self.is_settled else renyi_curve(self.held)


class Ledger:
    """One site's ledger. One process opens it; its methods may be called from any thread."""

    def __init__(self, path: Path, *, now: Callable[[], dt.datetime]) -> None:
        """Open or make the ledger at `path`, and verify its chain.

        Raises:
            IntegrityError: the chain does not hold; nothing may be charged until a person acts.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._engine = _open(path)
        self._now = now
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}
        self._head, self._length = GENESIS, 0
        for entry in self._verified():
            self._apply(entry)

    def close(self) -> None:
        """Let go of the file; everything is on disk already."""
        self._engine.dispose()

    @property
    def head(self) -> str:
        """Hash of the newest entry; 64 zeros when there is none."""
        return self._head

    @property
    def length(self) -> int:
        """Number of entries."""
        return self._length

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
                left = self._balance(dataset, budget).left
                raise BudgetExhaustedError(dataset, left=left, limit=budget.epsilon)
            self._append(
                "hold",
                run_id,
                dataset=dataset,
                event=event_to_json(event),
                curve=list(renyi_curve(event).values),
                budget={"epsilon": budget.epsilon, "delta": budget.delta},
                policy_sha256=policy_sha256,
            )

    def reserve(self, run_id: str, step: str, event: Event) -> Reservation:
        """Charge one release, on disk, before anything that it depends on is looked at.

        The same step again returns the first reservation and charges nothing: after a crash the
        release is made under the reservation that is already paid for.

        Raises:
            LedgerError: no hold, the run is settled, the step was reserved with another event, or
                the run's reservations would pass its hold.
        """
        with self._lock:
            run = self._open_run(run_id)
            known = run.reserved.get(step)
            if known is None:
                if not (run.spent + renyi_curve(event)).is_within(renyi_curve(run.held)):
                    raise LedgerError(f"{run_id}/{step} would pass the run's hold")
                self._append("reserve", run_id, step=step, event=event_to_json(event))
            elif known != event:
                raise LedgerError(f"{run_id}/{step} is reserved with another event")
            return Reservation(run_id, step, event, is_committed=step in run.committed)

    def commit(self, reservation: Reservation, *, release_sha256: str) -> None:
        """Record that a reserved release was stored in the outbox and may leave. Idempotent.

        Raises:
            LedgerError: there is no such reservation.
        """
        with self._lock:
            run = self._runs.get(reservation.run_id)
            if run is None or run.reserved.get(reservation.step) != reservation.event:
                raise LedgerError("a commit needs the reservation that the ledger made")
            if reservation.step not in run.committed:
                self._append(
                    "commit",
                    reservation.run_id,
                    step=reservation.step,
                    release_sha256=release_sha256,
                )

    def settle(self, run_id: str) -> None:
        """End a run: what it held and did not reserve is free again. Idempotent.

        Raises:
            LedgerError: the run has no hold.
        """
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                raise LedgerError(f"run {run_id} has no hold")
            if not run.is_settled:
                self._append("settle", run_id)

    def planned(self, run_id: str) -> Event:
        """What a run may cost in all.

        Raises:
            LedgerError: the run has no hold.
        """
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                raise LedgerError(f"run {run_id} has no hold")
            return run.held

    def charged(self, run_id: str) -> tuple[Event, ...]:
        """What a run was charged for, in order; empty if it was never heard of."""
        with self._lock:
            run = self._runs.get(run_id)
            return () if run is None else tuple(run.reserved.values())

    def is_committed(self, run_id: str, step: str) -> bool:
        """Whether this release of a run was stored and may leave."""
        with self._lock:
            run = self._runs.get(run_id)
            return run is not None and step in run.committed

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
            entries = list(self._verified())
            if len(entries) != self._length or _head_of(entries) != self._head:
                raise IntegrityError("the ledger on disk is not the one this process wrote")
            return len(entries)

    def _fits(self, dataset: str, event: Event, budget: Guarantee) -> bool:
        counted = self._counted(dataset) + renyi_curve(event)
        return counted.epsilon(budget.delta) <= budget.epsilon

    def _balance(self, dataset: str, budget: Guarantee) -> Balance:
        runs = [run for run in self._runs.values() if run.dataset == dataset]
        spent = total([run.spent for run in runs]).epsilon(budget.delta)
        counted = self._counted(dataset).epsilon(budget.delta)
        return Balance(
            limit=budget.epsilon,
            delta=budget.delta,
            spent=spent,
            held=max(counted - spent, 0.0),
            left=max(budget.epsilon - counted, 0.0),
        )

    def _counted(self, dataset: str) -> RenyiCurve:
        runs = [run for run in self._runs.values() if run.dataset == dataset]
        return total([run.counted for run in runs]) if runs else NO_COST

    def _open_run(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None or run.is_settled:
            raise LedgerError(f"run {run_id} has no hold, or is settled")
        return run

    def _append(self, kind: str, run_id: str, **facts: object) -> None:
        body = canonical_json(
            {
                "version": LEDGER_VERSION,
                "seq": self._length,
                "at": self._now().isoformat(),
                "kind": kind,
                "run_id": run_id,
                "previous": self._head,
                **facts,
            }
        )
        row = {"seq": self._length, "body": body, "hash": hashlib.sha256(body).hexdigest()}
        with self._engine.begin() as connection:
            connection.execute(sa.insert(_ENTRIES), row)
        self._apply(_Entry(json.loads(body), str(row["hash"])))

    def _apply(self, entry: "_Entry") -> None:
        facts = entry.facts
        run_id = str(facts["run_id"])
        match facts["kind"]:
            case "hold":
                self._runs[run_id] = _Run(str(facts["dataset"]), _event(facts))
            case "reserve":
                self._runs[run_id].reserved[str(facts["step"])] = _event(facts)
            case "commit":
                self._runs[run_id].committed.add(str(facts["step"]))
            case "settle":
                self._runs[run_id].is_settled = True
            case kind:
                raise IntegrityError(f"ledger entry {self._length} has unknown kind {kind!r}")
        self._head, self._length = entry.hash, self._length + 1

    def _verified(self) -> Iterator["_Entry"]:
        return _verified(self._engine)


@dataclass(frozen=True, slots=True)
class _Entry:
    facts: dict[str, object]
    hash: str


def read_entries(path: Path) -> tuple[dict[str, object], ...]:
    """Read and verify a ledger that another process may be writing to.

    Raises:
        IntegrityError: the chain does not hold.
    """
    engine = _open(path, is_read_only=True)
    try:
        return tuple(entry.facts | {"hash": entry.hash} for entry in _verified(engine))
    finally:
        engine.dispose()


def _verified(engine: sa.Engine) -> Iterator[_Entry]:
    previous = GENESIS
    with engine.connect() as connection:
        rows = connection.execute(sa.select(_ENTRIES).order_by(_ENTRIES.c.seq))
        for index, (seq, body, recorded) in enumerate(rows):
            if seq != index:
                raise IntegrityError(f"ledger entry {index} is missing")
            if hashlib.sha256(body).hexdigest() != recorded:
                raise IntegrityError(f"ledger entry {index} was changed")
            facts = json.loads(body)
            if facts.get("previous") != previous or facts.get("seq") != index:
                raise IntegrityError(f"ledger entry {index} does not follow the one before it")
            previous = recorded
            yield _Entry(facts, recorded)


def _head_of(entries: list[_Entry]) -> str:
    return entries[-1].hash if entries else GENESIS


def _event(facts: dict[str, object]) -> Event:
    raw = facts["event"]
    if not isinstance(raw, dict):
        raise IntegrityError("a ledger entry has no event")
    return event_from_json(raw)


def _open(path: Path, *, is_read_only: bool = False) -> sa.Engine:
    options = "?mode=ro&uri=true" if is_read_only else "?mode=rwc&uri=true"
    engine = sa.create_engine(f"sqlite:///file:{path}{options}")

    @sa.event.listens_for(engine, "connect")
    def _set_durability(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        if not is_read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            # FULL: a transaction is on disk when its commit returns, not merely at a checkpoint.
            cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA busy_timeout=10000")
        cursor.close()

    if not is_read_only:
        _METADATA.create_all(engine)
    return engine
