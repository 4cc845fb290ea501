"""What the entries of a ledger add up to: runs, what lineages have spent, whether work is halted.

Pure memory, made by replaying entries and by nothing else, so that a restart, an export and a
running site come to the same sums. What must stay true: what a lineage has spent never shrinks,
whatever entry comes next, and an entry that is not understood is never skipped.

Lineages that ever shared a data set count together for ever: an admin who gives a data set another
lineage, or its first one, gives nothing back that was spent under the old name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sordino_client.chain import RECOVER, Entry
from sordino_protocols.accounting import NO_COST, RenyiCurve, renyi_curve, total
from sordino_protocols.errors import IntegrityError
from sordino_protocols.privacy import Event, Guarantee


@dataclass(frozen=True, slots=True)
class Balance:
    """A lineage's lifetime budget, in epsilon at the budget's delta, by the Rényi filter.

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


@dataclass(frozen=True, slots=True)
class RunCost:
    """What a run that is not settled costs, in epsilon at its delta, by Rényi curves.

    Attributes:
        run_id: the run.
        spent: what it was charged for.
        planned: what it may be charged for in all.
    """

    run_id: str
    spent: float
    planned: float


@dataclass(slots=True)
class Run:
    """What the ledger knows of one run.

    Attributes:
        dataset: what its job asked for.
        lineage: whose records those are.
        held: its whole planned cost.
        policy_sha256: of the policy that allowed it, hex; empty if only `recover` knew it.
        is_settled: nothing more may be reserved.
        is_recovered: it was charged its whole plan, because entries of it may be missing.
        reserved: what was paid for, by step, in order.
        committed: SHA-256 (hex) of what was released, by step.
        spent: the curve of everything reserved, or of the plan.
    """

    dataset: str
    lineage: str
    held: Event
    policy_sha256: str
    is_settled: bool = False
    is_recovered: bool = False
    reserved: dict[str, Event] = field(default_factory=dict)
    committed: dict[str, str] = field(default_factory=dict)
    spent: RenyiCurve = NO_COST

    @property
    def charged(self) -> tuple[Event, ...]:
        """What it was charged for, in order."""
        return (self.held,) if self.is_recovered else tuple(self.reserved.values())


@dataclass(slots=True)
class _Account:
    """What one lineage, and those that it is linked with, have spent, and who may spend more.

    `spent` is only ever added to, so that not even rounding lets it shrink.
    """

    lineages: set[str]
    datasets: set[str] = field(default_factory=set)
    open_runs: set[str] = field(default_factory=set)
    spent: RenyiCurve = NO_COST


class Books:
    """The state of a ledger after the entries that were applied so far.

    Attributes:
        runs: every run that was ever held for.
        uncharged: runs of which a person said that nothing is to be charged for them.
        halted: why nothing may be charged until a person acts.
        missing: length and hash of a head that this ledger should contain and does not.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.uncharged: set[str] = set()
        self.halted: str | None = None
        self.missing: tuple[int, str] | None = None
        self._accounts: dict[str, _Account] = {}
        self._account_of_dataset: dict[str, _Account] = {}
        # A ledger has few different events and many entries.
        self._curves: dict[Event, RenyiCurve] = {}

    def apply(self, entry: Entry) -> None:
        """Take in the next entry.

        Raises:
            IntegrityError: it cannot stand here. Never skipped: it may have spent something.
        """
        match entry.text("kind"):
            case "halt":
                self._halt(entry)
            case kind if kind == RECOVER:
                self._recover(entry)
            case kind:
                self._apply_to_run(kind, entry)

    def spent(self, lineage: str) -> RenyiCurve:
        """What was ever charged to a lineage and those linked with it."""
        account = self._accounts.get(lineage)
        return NO_COST if account is None else account.spent

    def counted(self, lineage: str) -> RenyiCurve:
        """The same, with what running jobs may still reserve."""
        account = self._accounts.get(lineage)
        if account is None:
            return NO_COST
        # On top of `spent`, and not beside it: sums in another order would differ from it by a
        # rounding, and what no run holds would show as a trace that is held.
        open_runs = [self.runs[each] for each in sorted(account.open_runs)]
        return total([account.spent, *(self._unspent(run) for run in open_runs)])

    def balance(self, lineage: str, budget: Guarantee, *, planned: RenyiCurve = NO_COST) -> Balance:
        """What is spent, held and left of a lineage's budget, were `planned` held besides."""
        spent = self.spent(lineage).epsilon(budget.delta)
        counted = (self.counted(lineage) + planned).epsilon(budget.delta)
        return Balance(
            limit=budget.epsilon,
            delta=budget.delta,
            spent=spent,
            held=max(counted - spent, 0.0),
            left=max(budget.epsilon - counted, 0.0),
        )

    def costs(self, deltas: Mapping[str, float]) -> list[RunCost]:
        """What each of these runs that is not settled costs, each at its own delta."""
        open_runs = [(each, run) for each, run in self.runs.items() if not run.is_settled]
        return [
            RunCost(
                run_id,
                spent=run.spent.epsilon(deltas[run_id]),
                planned=self.curve(run.held).epsilon(deltas[run_id]),
            )
            for run_id, run in open_runs
            if run_id in deltas
        ]

    def charged(self, lineage: str) -> tuple[Event, ...]:
        """Every event that was charged to a lineage and those linked with it, in order of runs."""
        account = self._accounts.get(lineage)
        if account is None:
            return ()
        runs = (run for run in self.runs.values() if run.lineage in account.lineages)
        return tuple(event for run in runs for event in run.charged)

    def link(self, *, dataset: str, lineage: str) -> None:
        """Count a data set under a lineage from now on, with all that both have spent."""
        account = self._accounts.setdefault(lineage, _Account({lineage}))
        other = self._account_of_dataset.get(dataset)
        if other is not None and other is not account:
            _merge(other, account)
        account.datasets.add(dataset)
        self._account_of_dataset.update(dict.fromkeys(account.datasets, account))
        self._accounts.update(dict.fromkeys(account.lineages, account))

    def lineages(self) -> tuple[str, ...]:
        """Every lineage that was ever charged or held for."""
        return tuple(sorted(self._accounts))

    def curve(self, event: Event) -> RenyiCurve:
        """The event's Rényi curve, kept."""
        if event not in self._curves:
            self._curves[event] = renyi_curve(event)
        return self._curves[event]

    def _apply_to_run(self, kind: str, entry: Entry) -> None:
        run_id = entry.text("run_id")
        run = self.runs.get(run_id)
        match kind:
            case "hold" if run is None:
                self._hold(run_id, _held(entry))
            case "reserve" if run is not None and not run.is_settled and _is_new(entry, run):
                self._reserve(run, entry)
            case "commit" if run is not None and entry.text("step") in run.reserved:
                run.committed[entry.text("step")] = entry.text("release_sha256")
            case "settle" if run is not None and not run.is_settled:
                self._settle(run_id, run)
            case _:
                raise IntegrityError(f"ledger: {kind!r} of run {run_id!r} cannot stand here")

    def _hold(self, run_id: str, run: Run) -> None:
        self.link(dataset=run.dataset, lineage=run.lineage)
        account = self._accounts[run.lineage]
        self.runs[run_id] = run
        account.open_runs.add(run_id)

    def _reserve(self, run: Run, entry: Entry) -> None:
        event = entry.event
        run.reserved[entry.text("step")] = event
        self._charge(run, self.curve(event))

    def _charge(self, run: Run, cost: RenyiCurve) -> None:
        run.spent += cost
        self._accounts[run.lineage].spent += cost

    def _settle(self, run_id: str, run: Run) -> None:
        run.is_settled = True
        self._accounts[run.lineage].open_runs.discard(run_id)

    def _halt(self, entry: Entry) -> None:
        self.halted = entry.text("reason")
        remembered = entry.part("remembered")
        if remembered is not None:
            self.missing = (remembered.number("length"), remembered.text("hash"))

    def _recover(self, entry: Entry) -> None:
        for charge in entry.parts("charges"):
            self._charge_whole(charge)
        self.uncharged |= set(entry.texts("uncharged"))
        self.halted, self.missing = None, None

    def _charge_whole(self, charge: Entry) -> None:
        run_id, planned = charge.text("run_id"), charge.event
        if run_id not in self.runs:
            run = Run(charge.text("dataset"), charge.text("lineage"), planned, policy_sha256="")
            self._hold(run_id, run)
        run = self.runs[run_id]
        if run.held != planned:
            raise IntegrityError(f"ledger: a recovery knows another plan of run {run_id!r}")
        if not run.is_settled:
            self._settle(run_id, run)
        self._charge(run, self._unspent(run))
        run.is_recovered = True

    def _unspent(self, run: Run) -> RenyiCurve:
        """What a run may still be charged for, or might have been."""
        return _difference(self.curve(run.held), run.spent)


def _held(entry: Entry) -> Run:
    dataset = entry.text("dataset")
    # Version 1 knew no lineage: each data set was its own.
    lineage = dataset if entry.facts["version"] == 1 else entry.text("lineage")
    return Run(dataset, lineage, entry.event, entry.text("policy_sha256"))


def _is_new(entry: Entry, run: Run) -> bool:
    return entry.text("step") not in run.reserved


def _merge(source: _Account, target: _Account) -> None:
    target.lineages |= source.lineages
    target.datasets |= source.datasets
    target.open_runs |= source.open_runs
    target.spent += source.spent


def _difference(planned: RenyiCurve, spent: RenyiCurve) -> RenyiCurve:
    pairs = zip(planned.values, spent.values, strict=True)
    return RenyiCurve(tuple(a - b if a > b else 0.0 for a, b in pairs))
