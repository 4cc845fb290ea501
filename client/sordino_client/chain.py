"""An append-only, hash-chained row of entries: what the ledger's memory is made of.

Each entry's body holds the hash of the one before it and its own number. What must stay true: one
process writes, and a changed, removed or reordered entry is found by whoever reads.

Two things the chain alone cannot show: that its newest entries are gone, and that somebody who may
write to its store made all of it anew. Both need a hash from outside: every message that a site
signs names the newest entry (`heads.SignedHead`), so whoever kept one can ask whether it is still
there (`contains`).

A chain that does not hold is mended in one way only: a `recover` entry, which a person made
(`recovery.py`). It *seals* the entries that do not hold: they stay, as they were found, and the
entry holds the SHA-256 of them in place of the hash of a last good one. And it may leave out the
numbers of entries that are known to be missing: it names the head that somebody remembers of them.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sordino_client.chain_store import ChainStore, Location, Row, read_rows
from sordino_protocols.errors import InputError, IntegrityError
from sordino_protocols.heads import GENESIS
from sordino_protocols.privacy import Event, event_from_json
from sordino_protocols.signing import canonical_json

LEDGER_VERSION = 2
"""What entries are written as. Version 1 knew no lineage; its entries are read."""

RECOVER = "recover"
"""The one kind of entry that the chain itself understands."""

_KNOWN_VERSIONS = (1, LEDGER_VERSION)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry whose place in the chain was verified.

    Attributes:
        facts: what its body says; immutable by convention.
        hash: SHA-256 of the body, in hex.
    """

    facts: Mapping[str, object]
    hash: str

    @property
    def seq(self) -> int:
        """Its number."""
        return self.number("seq")

    def text(self, field: str) -> str:
        """A field that must be text.

        Raises:
            IntegrityError: it is missing, or something else.
        """
        value = self.facts.get(field)
        if not isinstance(value, str):
            raise IntegrityError(f"ledger entry {self.facts.get('seq')!r} has no text {field!r}")
        return value

    def number(self, field: str) -> int:
        """A field that must be a whole number.

        Raises:
            IntegrityError: it is missing, or something else.
        """
        value = self.facts.get(field)
        if not isinstance(value, int) or isinstance(value, bool):
            raise IntegrityError(f"ledger entry {self.facts.get('seq')!r} has no number {field!r}")
        return value

    def part(self, field: str) -> "Entry | None":
        """A field that must be an object or null, to be read as an entry is."""
        value = self.facts.get(field)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise IntegrityError(f"ledger entry {self.facts.get('seq')!r} has no object {field!r}")
        return Entry({**value, "seq": self.facts.get("seq")}, self.hash)

    def parts(self, field: str) -> tuple["Entry", ...]:
        """A field that must be a list of objects, each to be read as an entry is."""
        value = self.facts.get(field)
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise IntegrityError(f"ledger entry {self.facts.get('seq')!r} has no list {field!r}")
        return tuple(Entry({**each, "seq": self.facts.get("seq")}, self.hash) for each in value)

    def texts(self, field: str) -> tuple[str, ...]:
        """A field that must be a list of text.

        Raises:
            IntegrityError: it is missing, or something else.
        """
        value = self.facts.get(field)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise IntegrityError(f"ledger entry {self.facts.get('seq')!r} has no texts {field!r}")
        return tuple(value)

    @property
    def event(self) -> Event:
        """The event that the entry holds or charges.

        Raises:
            IntegrityError: it has none that this version can price.
        """
        raw = self.facts.get("event")
        try:
            return event_from_json(raw if isinstance(raw, dict) else {})
        except InputError as error:
            raise IntegrityError(f"ledger entry {self.facts.get('seq')!r}: {error}") from None


class Seal:
    """The rows that do not hold, as one hash: what a `recover` entry has for the one before it."""

    def __init__(self, last_good: str) -> None:
        self._hash = hashlib.sha256(f"sordino/sealed/1\n{last_good}\n".encode("ascii"))
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Take in the next row, byte for byte."""
        recorded = row.hash.encode("utf-8", "surrogateescape")
        self._hash.update(f"{row.seq} {len(row.body)} {len(recorded)}\n".encode("ascii"))
        self._hash.update(row.body + recorded)
        self.rows.append(row)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the good entry before them and of all of them."""
        return self._hash.hexdigest()


class Walk:
    """Goes along the rows of a chain from the first on, and remembers the way.

    Attributes:
        head: hash of the newest entry that holds.
        length: its number and 1, or 0.
        next_seq: a number above every row's.
        problem: why the chain ends before its rows do; None if it does not.
        seal: of the rows since the problem.
    """

    def __init__(self) -> None:
        self.head, self.length, self.next_seq = GENESIS, 0, 0
        self.problem: IntegrityError | None = None
        self.seal: Seal | None = None
        self._hashes: dict[int, str] = {0: GENESIS}
        self._missing: set[tuple[int, str]] = set()

    def along(self, rows: Iterable[Row]) -> Iterator[Entry]:
        """Every entry that holds. Where `problem` is set afterwards, the last rows do not."""
        for row in rows:
            try:
                entry = self._entry(row)
            except IntegrityError as problem:
                self._stumble(problem, row)
            else:
                self.follow(entry)
                yield entry
            self.next_seq = max(self.next_seq, row.seq + 1)

    def verified(self, rows: Iterable[Row]) -> Iterator[Entry]:
        """Every entry.

        Raises:
            IntegrityError: an entry was changed, removed or reordered, and nobody recovered it.
        """
        yield from self.along(rows)
        if self.problem is not None:
            raise self.problem

    def follow(self, entry: Entry) -> None:
        """Take an entry as the newest one."""
        missing = entry.part("missing") if entry.facts.get("kind") == RECOVER else None
        if missing is not None:
            self._missing.add((missing.number("length"), missing.text("hash")))
        self.head, self.length = entry.hash, entry.seq + 1
        self.next_seq = max(self.next_seq, self.length)
        self._hashes[self.length] = entry.hash
        self.problem, self.seal = None, None

    def contains(self, *, length: int, head: str) -> bool:
        """Whether the chain once ended there, or its loss was recovered."""
        return self._hashes.get(length) == head or (length, head) in self._missing

    def _stumble(self, problem: IntegrityError, row: Row) -> None:
        if self.problem is None or self.seal is None:
            self.problem, self.seal = problem, Seal(self.head)
        self.seal.add(row)
        # A head that was remembered of a row that was sealed as it stood is accounted for.
        self._missing.add((row.seq + 1, row.hash))

    def _entry(self, row: Row) -> Entry:
        if hashlib.sha256(row.body).hexdigest() != row.hash:
            raise IntegrityError(f"ledger entry {row.seq} was changed")
        entry = Entry(_facts(row), row.hash)
        is_recovery = entry.facts.get("kind") == RECOVER
        if row.seq != self.length and not (is_recovery and self._may_skip_to(entry)):
            raise IntegrityError(f"ledger entry {self.length} is missing")
        expected = self.head if self.seal is None else self.seal.hash
        if entry.facts.get("previous") != expected or entry.facts.get("seq") != row.seq:
            raise IntegrityError(f"ledger entry {row.seq} does not follow the one before it")
        if self.seal is not None and not is_recovery:
            raise IntegrityError(f"ledger entry {row.seq} follows entries that do not hold")
        return entry

    def _may_skip_to(self, entry: Entry) -> bool:
        missing = entry.part("missing")
        named = 0 if missing is None else missing.number("length")
        return entry.seq == max(self.next_seq, named)


class Chain:
    """The one writer of a chain. Not for several threads: the ledger has the lock."""

    def __init__(self, store: ChainStore) -> None:
        self._store = store
        self._walk = Walk()

    @property
    def head(self) -> str:
        """Hash of the newest entry."""
        return self._walk.head

    @property
    def length(self) -> int:
        """The newest entry's number and 1: how many there ever were."""
        return self._walk.length

    def contains(self, *, length: int, head: str) -> bool:
        """Whether the chain once ended there, or its loss was recovered."""
        return self._walk.contains(length=length, head=head)

    def close(self) -> None:
        """Let go of the store; everything is on disk already. Idempotent."""
        self._store.close()

    def load(self) -> Iterator[Entry]:
        """Every entry from the first on, each verified before it is given.

        Raises:
            IntegrityError: an entry was changed, removed or reordered, or this is no ledger.
        """
        self._walk = Walk()
        yield from self._walk.verified(self._store.rows())

    def load_what_holds(self) -> Iterator[Entry]:
        """Every entry up to the first that does not hold; see `problem`."""
        self._walk = Walk()
        yield from self._walk.along(self._store.rows())

    @property
    def problem(self) -> str | None:
        """Why the chain ended early when it was loaded."""
        return None if self._walk.problem is None else str(self._walk.problem)

    @property
    def broken_rows(self) -> tuple[Row, ...]:
        """The rows that do not hold, as they lie there."""
        return () if self._walk.seal is None else tuple(self._walk.seal.rows)

    def reopen(self) -> None:
        """Begin anew after the storage was unreachable."""
        self._store.reopen()

    def verify(self) -> None:
        """Read the whole chain from disk.

        Raises:
            IntegrityError: an entry was changed, removed or reordered, or the store is not the one
                that this process has been writing to.
        """
        walk = Walk()
        for _ in walk.verified(self._store.rows()):
            pass
        if (walk.head, walk.length) != (self.head, self.length):
            raise IntegrityError("the ledger on disk is not the one this process wrote")

    def append(self, facts: Mapping[str, object], *, at: dt.datetime) -> tuple[Entry, float]:
        """Put a new entry on disk, after the newest one; with the seconds its flush took.

        Raises:
            UnreachableError: the storage did not confirm it; load the chain again before anything.
        """
        return self._put({**facts, "previous": self.head}, self.length, at)

    def append_recovery(
        self, facts: Mapping[str, object], *, missing: tuple[int, str] | None, at: dt.datetime
    ) -> Entry:
        """Go on after entries that do not hold, or beyond those that are missing.

        Args:
            facts: what the entry says.
            missing: length and hash of a head that somebody remembers and that is not there.
            at: now.
        """
        seal = self._walk.seal
        beyond = 0 if missing is None else missing[0]
        whole = {
            **facts,
            "kind": RECOVER,
            "previous": self.head if seal is None else seal.hash,
            "sealed_entries": 0 if seal is None else len(seal.rows),
            "missing": None if missing is None else {"length": missing[0], "hash": missing[1]},
        }
        entry, _ = self._put(whole, max(self._walk.next_seq, beyond), at)
        return entry

    def _put(self, facts: Mapping[str, object], seq: int, at: dt.datetime) -> tuple[Entry, float]:
        placed = {**facts, "version": LEDGER_VERSION, "seq": seq, "at": at.isoformat()}
        body = canonical_json(placed)
        recorded = hashlib.sha256(body).hexdigest()
        seconds = self._store.append(Row(seq, body, recorded))
        entry = Entry(json.loads(body), recorded)
        self._walk.follow(entry)
        return entry, seconds


def read_entries(store: Location) -> tuple[dict[str, object], ...]:
    """Read and verify a ledger that another process may be writing to.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: the chain does not hold.
        UnreachableError: the database does not answer.
    """
    entries = Walk().verified(read_rows(store))
    return tuple({**entry.facts, "hash": entry.hash} for entry in entries)


def _facts(row: Row) -> dict[str, object]:
    try:
        facts = json.loads(row.body)
    except (ValueError, RecursionError):
        facts = None
    if isinstance(facts, dict):
        version = facts.get("version")
        if version in _KNOWN_VERSIONS and not isinstance(version, bool):
            return facts
    raise IntegrityError(f"ledger entry {row.seq} is of no version known here")
