"""Getting a halted or broken ledger back to work: a person's act, recorded, and never for free.

What the lost entries charged is not known, so a run is charged its whole plan where entries of it
may be missing: nothing it was ever allowed to release costs more. Nothing is removed: entries that
do not hold stay where they are, sealed as they were found, and a file that is no ledger at all is
set aside under another name. What must stay true: nothing that was spent before a recovery is less
afterwards, and the ledger then knows every run that the site has a file of.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sordino_client.admitted import AdmittedRuns
from sordino_client.books import Books
from sordino_client.chain import Chain
from sordino_client.chain_store import Location, NotALedgerError, Row, open_store, set_aside
from sordino_client.continuity import missing_entries
from sordino_client.outbox import Outbox
from sordino_protocols.errors import InputError
from sordino_protocols.privacy import Event, event_from_json, event_to_json


@dataclass(frozen=True, slots=True)
class SiteMemory:
    """What a site keeps besides its ledger.

    Attributes:
        outbox: what was answered.
        runs: the directory with one file an admitted run.
        lineages: what each data set draws on, as its file says now.
    """

    outbox: Outbox
    runs: Path
    lineages: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Charge:
    """A run that is charged its whole plan.

    Attributes:
        run_id: the run.
        dataset: what its job asked for.
        lineage: what that draws on.
        event: the whole plan.
    """

    run_id: str
    dataset: str
    lineage: str
    event: Event


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recovery would do.

    Attributes:
        problems: what is wrong, in words; empty if nothing is.
        charges: runs that are charged their whole plan.
        missing: length and hash of a head that somebody remembers and that is not there.
        sealed_entries: how many entries do not hold and are kept as they are.
        unexplained: runs with answers in the outbox and no file that says what they may cost.
        unreadable: the file that is no ledger and would be set aside.
    """

    problems: tuple[str, ...]
    charges: tuple[Charge, ...]
    missing: tuple[int, str] | None = None
    sealed_entries: int = 0
    unexplained: tuple[str, ...] = ()
    unreadable: Path | None = None


class Recoverer:
    """A ledger that is open to be recovered, and for nothing else.

    Attributes:
        plan: what `recover` would do.
    """

    def __init__(
        self, store: Location, memory: SiteMemory, *, now: Callable[[], dt.datetime]
    ) -> None:
        """Open the ledger, whatever it is like.

        Raises:
            IntegrityError: the vault has it open; or the chain holds, but an entry in it is not
                understood, and no recovery may guess what that cost.
            UnreachableError: the database does not answer.
        """
        self._now = now
        self._open = open_store(store)
        self._chain = Chain(self._open)
        try:
            self.plan = self._look(store, memory)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the ledger. Idempotent."""
        self._chain.close()

    def recover(self, reason: str, *, uncharged: tuple[str, ...] = ()) -> str:
        """Carry out the plan; the hash of the entry that says so.

        Args:
            reason: why, in a person's words; goes into the ledger.
            uncharged: runs that nobody can say the cost of: whoever names one takes it upon
                themselves that it is not charged.

        Raises:
            InputError: nothing is wrong; no reason; or a run without a known cost was not named.
        """
        plan = self.plan
        if not plan.problems:
            raise InputError("the ledger holds together and is not halted: nothing to recover")
        if not reason.strip():
            raise InputError("a recovery needs a reason: whoever reads the ledger will ask for it")
        if unnamed := sorted(set(plan.unexplained) - set(uncharged)):
            raise InputError(
                f"nothing here says what these runs may have cost: {', '.join(unnamed)}; put back"
                " their files in runs/, or name each with --uncharged and lower the budget instead"
            )
        facts = {
            "reason": reason,
            "problems": list(plan.problems),
            "charges": [_charge_facts(charge) for charge in plan.charges],
            "uncharged": list(plan.unexplained),
            "unreadable_sha256": self._set_aside(plan.unreadable),
        }
        return self._chain.append_recovery(facts, missing=plan.missing, at=self._now()).hash

    def _look(self, store: Location, memory: SiteMemory) -> Plan:
        books = Books()
        try:
            for entry in self._chain.load_what_holds():
                books.apply(entry)
        except NotALedgerError as error:
            if not isinstance(store, Path):
                raise
            charges, unexplained = _charges(Books(), memory, (), is_any_lost=True)
            return Plan((str(error),), charges, unexplained=unexplained, unreadable=store)
        broken = self._chain.broken_rows
        lost = missing_entries(books, memory.outbox)
        charges, unexplained = _charges(
            books, memory, broken, is_any_lost=bool(broken) or books.missing is not None
        )
        reasons = (self._chain.problem, books.halted, _explain(lost))
        problems = tuple(each for each in reasons if each is not None)
        return Plan(problems, charges, books.missing, len(broken), unexplained)

    def _set_aside(self, unreadable: Path | None) -> str | None:
        if unreadable is None:
            return None
        digest = hashlib.sha256(unreadable.read_bytes()).hexdigest()
        self._open.reopen()
        set_aside(unreadable, stamp=f"{self._now():%Y%m%dT%H%M%S}.unreadable")
        for _ in self._chain.load():
            pass
        return digest


def _charges(
    books: Books, memory: SiteMemory, broken: tuple[Row, ...], *, is_any_lost: bool
) -> tuple[tuple[Charge, ...], tuple[str, ...]]:
    """Whom to charge, and the runs that nothing says the cost of."""
    answered = {each.partition("/")[0] for each in missing_entries(books, memory.outbox)}
    known = {
        run_id: Charge(run_id, run.dataset, run.lineage, run.held)
        for run_id, run in books.runs.items()
        if not run.is_recovered and (run_id in answered or (is_any_lost and not run.is_settled))
    }
    unknown = {
        charge.run_id: charge
        for charge in (*_readable(broken), *_admitted(memory))
        if charge.run_id not in books.runs
    }
    charges = {**known, **unknown}
    return tuple(charges.values()), tuple(sorted(answered - set(charges)))


def _admitted(memory: SiteMemory) -> Iterator[Charge]:
    runs = AdmittedRuns(memory.runs)
    for path in sorted(memory.runs.glob("[!.]*.json")):
        run = runs.get(path.stem)
        if run is not None:
            dataset = run.job.file.job.dataset
            lineage = memory.lineages.get(dataset, dataset)
            yield Charge(run.run_id, dataset, lineage, run.job.plan.event)


def _readable(broken: tuple[Row, ...]) -> Iterator[Charge]:
    """The holds among entries that do not hold: better believed than not, they only cost more."""
    for row in broken:
        try:
            facts = json.loads(row.body)
            if facts["kind"] == "hold":
                dataset = str(facts["dataset"])
                lineage = str(facts.get("lineage", dataset))
                event = event_from_json(facts["event"])
                yield Charge(str(facts["run_id"]), dataset, lineage, event)
        except (ValueError, KeyError, TypeError, AttributeError, InputError):
            continue


def _explain(lost: tuple[str, ...]) -> str | None:
    return f"the ledger does not know of {', '.join(lost)}" if lost else None


def _charge_facts(charge: Charge) -> dict[str, object]:
    return {
        "run_id": charge.run_id,
        "dataset": charge.dataset,
        "lineage": charge.lineage,
        "event": event_to_json(charge.event),
    }
