"""An append-only, hash-chained file of entries: what the ledger's memory is made of.

SQLite (WAL, synchronous=FULL): when `append` returns, the entry is on disk. Each entry's body holds
the hash of the one before it. What must stay true: one process writes, and a changed, removed or
reordered entry is found when the file is read.

Two things the chain alone cannot show: that its newest entries are gone, and that somebody who may
write the file made all of it anew. Both need a hash from outside: every message that a site signs
names the newest entry's (`ledger_head`), so whoever kept one can ask whether it is still there.
"""

import datetime as dt
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import sqlalchemy as sa

from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.privacy import Event, event_from_json
from sordino_protocols.signing import canonical_json

GENESIS = "0" * 64
LEDGER_VERSION = 1

_BUSY_SECONDS = 10.0
_METADATA = sa.MetaData()
_ENTRIES = sa.Table(
    "entries",
    _METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry whose place in the chain was verified.

    Attributes:
        facts: what its body says; immutable by convention.
        hash: SHA-256 of the body, in hex.
    """

    facts: Mapping[str, object]
    hash: str

    def text(self, field: str) -> str:
        """A field that must be text.

        Raises:
            IntegrityError: it is missing, or something else.
        """
        value = self.facts.get(field)
        if not isinstance(value, str):
            raise IntegrityError(f"ledger entry {self.facts.get('seq')!r} has no text {field!r}")
        return value

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


class Chain:
    """The one writer of a chain. Not for several threads: the ledger has the lock."""

    def __init__(self, path: Path) -> None:
        """Open or make the file at `path`, for this process alone, until `close`.

        Raises:
            IntegrityError: another process has it open.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._lock = _lock(path)
        self._engine = _writer(path)
        self.head, self.length = GENESIS, 0

    def close(self) -> None:
        """Let go of the file; everything is on disk already. Idempotent."""
        self._engine.dispose()
        self._lock.close()

    def read(self) -> Iterator[Entry]:
        """Every entry from the first on, each verified before it is given.

        Raises:
            IntegrityError: an entry was changed, removed or reordered, or this is no ledger.
        """
        try:
            _METADATA.create_all(self._engine)
            yield from _verified(self._engine)
        except sa.exc.DatabaseError:
            raise IntegrityError(f"{self._path}: no ledger that can be read") from None

    def follow(self, entry: Entry) -> None:
        """Take an entry that `read` gave as the newest one."""
        self.head, self.length = entry.hash, self.length + 1

    def append(self, facts: Mapping[str, object], *, at: dt.datetime) -> Entry:
        """Put a new entry on disk, after the newest one."""
        placed = {
            "version": LEDGER_VERSION,
            "seq": self.length,
            "at": at.isoformat(),
            "previous": self.head,
        }
        body = canonical_json({**facts, **placed})
        recorded = hashlib.sha256(body).hexdigest()
        with self._engine.begin() as connection:
            connection.execute(
                sa.insert(_ENTRIES), {"seq": self.length, "body": body, "hash": recorded}
            )
        entry = Entry(json.loads(body), recorded)
        self.follow(entry)
        return entry


def read_chain(path: Path) -> tuple[Entry, ...]:
    """Read and verify a chain that another process may be writing to.

    Raises:
        NotFoundError: there is no such file.
        IntegrityError: the chain does not hold, or this is no ledger.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such ledger")
    engine = _engine(path, mode="ro")
    try:
        return tuple(_verified(engine))
    except sa.exc.DatabaseError:
        raise IntegrityError(f"{path}: no ledger that can be read") from None
    finally:
        engine.dispose()


def _verified(engine: sa.Engine) -> Iterator[Entry]:
    previous = GENESIS
    with engine.connect() as connection:
        rows = connection.execute(sa.select(_ENTRIES).order_by(_ENTRIES.c.seq))
        for index, (seq, body, recorded) in enumerate(rows):
            if seq != index:
                raise IntegrityError(f"ledger entry {index} is missing")
            if hashlib.sha256(body).hexdigest() != recorded:
                raise IntegrityError(f"ledger entry {index} was changed")
            facts = _facts(body, index)
            if facts.get("previous") != previous or facts.get("seq") != index:
                raise IntegrityError(f"ledger entry {index} does not follow the one before it")
            previous = recorded
            yield Entry(facts, recorded)


def _facts(body: bytes, index: int) -> dict[str, object]:
    try:
        facts = json.loads(body)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or facts.get("version") != LEDGER_VERSION:
        raise IntegrityError(f"ledger entry {index} is of no version known here")
    return facts


def _lock(path: Path) -> BinaryIO:
    """A lock beside the file, which the kernel lets go of when this process ends, however."""
    beside = path.with_name(f"{path.name}.lock")
    file = os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise IntegrityError(
            f"{path}: another process has this ledger open; stop that one first"
        ) from None
    return file


def _writer(path: Path) -> sa.Engine:
    engine = _engine(path, mode="rwc")

    @sa.event.listens_for(engine, "connect")
    def _set_durability(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: a transaction is on disk when its commit returns, not merely at a checkpoint.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


def _engine(path: Path, *, mode: str) -> sa.Engine:
    return sa.create_engine(
        # A path may hold what a URL gives a meaning to.
        sa.URL.create(
            "sqlite", database=f"file:{quote(str(path))}", query={"mode": mode, "uri": "true"}
        ),
        connect_args={"timeout": _BUSY_SECONDS},
    )
