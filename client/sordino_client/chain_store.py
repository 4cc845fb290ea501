"""Where a ledger's entries lie: a SQLite file, or a PostgreSQL database.

A store knows nothing of what entries mean. What must stay true of both: one process writes at a
time and holds a lock as long as it lives, and an entry is on disk when `append` returns, not merely
handed over. Both were asked for durability and are checked for it when they are opened.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote

import sqlalchemy as sa

from sordino_protocols.databases import (
    CONNECT_SECONDS,
    ask,
    postgres_engine,
    require_durability,
    show_url,
)
from sordino_protocols.errors import IntegrityError, NotFoundError, UnreachableError
from sordino_protocols.migrations import Migrations
from sordino_protocols.sqlite_copies import back_up

Location = Path | sa.URL
"""A SQLite file, or a database: `postgresql+psycopg://...`; Unix sockets work without a network."""

_BATCH = 1000
_LOCK_KEY = "hashtextextended('sordino ledger ' || current_schema(), 0)"
# SQLite's result codes have details in their higher bits.
_PRIMARY_CODE = 0xFF
_DISK_TROUBLES = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN}
)
_METADATA = sa.MetaData()
_ENTRIES = sa.Table(
    "entries",
    _METADATA,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


MIGRATIONS = Migrations(
    scripts=Path(__file__).parent / "migrations",
    tables=_METADATA,
    baseline="0001",
    head="0001",
)
"""What the ledger's table went through."""


class NotALedgerError(IntegrityError):
    """What lies there is no ledger, nor what is left of one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it lies there; nothing about it is verified.

    Attributes:
        seq: its number.
        body: canonical JSON, if nobody changed it.
        hash: SHA-256 of the body in hex, if nobody changed it.
    """

    seq: int
    body: bytes
    hash: str


class ChainStore(Protocol):
    """Somewhere that keeps rows, open for one writer."""

    def rows(self) -> Iterator[Row]:
        """Every row in the order of its number.

        Raises:
            NotALedgerError: what lies there is none.
            UnreachableError: the storage does not answer.
        """

    def append(self, row: Row) -> float:
        """Put a row on disk; the seconds that the flush of it took.

        Raises:
            UnreachableError: the storage did not say that it has it; it may have it nevertheless.
        """

    def reopen(self) -> None:
        """Begin anew after an `UnreachableError`, as the only writer.

        Raises:
            IntegrityError: another process writes there now.
            UnreachableError: the storage does not answer.
        """

    def close(self) -> None:
        """Let go of it. Idempotent."""


def open_store(location: Location) -> ChainStore:
    """Open or make a store, for this process alone, until `close`.

    Raises:
        IntegrityError: another process has it open, or it does not put commits on disk.
        UnreachableError: the database does not answer.
        InputError: the URL is not PostgreSQL's.
    """
    return SqliteStore(location) if isinstance(location, Path) else PostgresStore(location)


def read_rows(location: Location) -> Iterator[Row]:
    """Every row of a store that another process may be writing to; makes nothing.

    Raises:
        NotFoundError: there is none.
        NotALedgerError: what lies there is none.
        UnreachableError: the database does not answer.
        InputError: the URL is not PostgreSQL's.
    """
    with _engine_to_read(location) as engine, engine.connect() as connection:
        yield from _select(connection)


def is_at_head(location: Location) -> bool:
    """Whether a store's tables are those of this version; raises as `read_rows` does."""
    with _engine_to_read(location) as engine, engine.connect() as connection:
        return MIGRATIONS.is_at_head(connection)


def set_aside(path: Path, *, stamp: str) -> Path:
    """Give a file that is no ledger, and what SQLite keeps beside it, another name; the new one.

    For whoever has the store open, who then has an empty one.
    """
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(f"{path.name}{suffix}")
        if beside.exists():
            beside.rename(path.with_name(f"{path.name}.{stamp}{suffix}"))
    return path.with_name(f"{path.name}.{stamp}")


def describe(location: Location) -> str:
    """The place in words that may be shown: without a password."""
    if isinstance(location, Path):
        return str(location)
    return show_url(location)


class SqliteStore:
    """A SQLite file (WAL, synchronous=FULL) and, beside it, the lock of its one writer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._lock = _lock(path)
        self._engine = _sqlite_writer(path)

    def rows(self) -> Iterator[Row]:
        """Every row in the order of its number."""
        with _reading(self._path), self._engine.connect() as connection:
            MIGRATIONS.bring_to_head(
                connection,
                place=describe(self._path),
                back_up=lambda revision: back_up(self._path, revision=revision),
            )
            connection.commit()
            yield from _select(connection)

    def append(self, row: Row) -> float:
        """Put a row on disk."""
        with _writing(self._path), self._engine.connect() as connection:
            return _insert(connection, row)

    def reopen(self) -> None:
        """Drop the connections; the lock was kept all the time."""
        self._engine.dispose()

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()
        self._lock.close()


class PostgresStore:
    """A PostgreSQL database. The session that inserts is the one that holds the advisory lock.

    So whoever lost the lock because the connection broke cannot insert either.
    """

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._engine = postgres_engine(url)
        self._connection: sa.Connection | None = None
        self.reopen()

    def rows(self) -> Iterator[Row]:
        """Every row in the order of its number."""
        with _reading(self._url):
            connection = self._open()
            try:
                yield from _select(connection)
            finally:
                connection.rollback()

    def append(self, row: Row) -> float:
        """Put a row on disk."""
        with _writing(self._url):
            return _insert(self._open(), row)

    def reopen(self) -> None:
        """Connect, take the lock, and check that commits will be on disk."""
        self._disconnect()
        try:
            with _reading(self._url):
                self._connection = self._engine.connect()
                self._take(self._connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database, and of the lock with it."""
        self._disconnect()
        self._engine.dispose()

    def _open(self) -> sa.Connection:
        if self._connection is None:
            raise UnreachableError(f"{describe(self._url)}: the ledger's database is not connected")
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            # Not back to the pool: a pooled session would keep the lock.
            self._connection.invalidate()
            self._connection.close()
        self._connection = None

    def _take(self, connection: sa.Connection) -> None:
        if not ask(connection, f"SELECT pg_try_advisory_lock({_LOCK_KEY})"):
            raise _already_open(self._url)
        require_durability(connection, self._url)
        # What was there is in the database's own backups: `pg_dump`, or an archive of its log.
        MIGRATIONS.bring_to_head(connection, place=describe(self._url))
        connection.commit()


def _select(connection: sa.Connection) -> Iterator[Row]:
    query = sa.select(_ENTRIES).order_by(_ENTRIES.c.seq).execution_options(yield_per=_BATCH)
    for seq, body, recorded in connection.execute(query):
        # Whoever tampered with a SQLite file may have left any type behind.
        yield Row(int(seq), body if isinstance(body, bytes) else str(body).encode(), str(recorded))


def _insert(connection: sa.Connection, row: Row) -> float:
    values = {"seq": row.seq, "body": row.body, "hash": row.hash}
    connection.execute(sa.insert(_ENTRIES), values)
    started = time.perf_counter()
    connection.commit()
    return time.perf_counter() - started


@contextmanager
def _engine_to_read(location: Location) -> Iterator[sa.Engine]:
    if isinstance(location, Path) and not location.is_file():
        raise NotFoundError(f"{location}: no such ledger; has the vault run yet?")
    engine = (
        _sqlite_engine(location, "ro") if isinstance(location, Path) else postgres_engine(location)
    )
    try:
        with _reading(location):
            yield engine
    finally:
        engine.dispose()


@contextmanager
def _reading(location: Location) -> Iterator[None]:
    """Turn what a database says while it is read into what a person can act on."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if isinstance(location, sa.URL) and isinstance(error, sa.exc.OperationalError):
            raise UnreachableError(f"{describe(location)}: the ledger does not answer") from None
        if _is_disk_in_trouble(error):
            raise UnreachableError(
                f"{describe(location)}: the disk of the ledger is full or broken ({error.orig})"
            ) from None
        raise NotALedgerError(f"{describe(location)}: no ledger that can be read") from None


@contextmanager
def _writing(location: Location) -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError:
        raise IntegrityError(f"{describe(location)}: somebody else wrote the next entry") from None
    except sa.exc.DBAPIError as error:
        # Of SQLite's the text names a trouble of the disk; others quote what they were given.
        text = error.orig if _is_disk_in_trouble(error) else type(error.orig).__name__
        raise UnreachableError(
            f"{describe(location)}: the ledger did not take an entry ({text})"
        ) from None


def _is_disk_in_trouble(error: sa.exc.DBAPIError) -> bool:
    """Whether SQLite met a disk that is full, broken or busy, and not a file that is no ledger."""
    code = error.orig.sqlite_errorcode if isinstance(error.orig, sqlite3.Error) else None
    return code is not None and code & _PRIMARY_CODE in _DISK_TROUBLES


def _lock(path: Path) -> BinaryIO:
    """A lock beside the file, which the kernel lets go of when this process ends, however."""
    beside = path.with_name(f"{path.name}.lock")
    file = os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise _already_open(path) from None
    return file


def _already_open(location: Location) -> IntegrityError:
    return IntegrityError(
        f"{describe(location)}: another process has this ledger open; stop that one first"
    )


def _sqlite_writer(path: Path) -> sa.Engine:
    engine = _sqlite_engine(path, "rwc")

    @sa.event.listens_for(engine, "connect")
    def _set_durability(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: a transaction is on disk when its commit returns, not merely at a checkpoint.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


def _sqlite_engine(path: Path, mode: str) -> sa.Engine:
    return sa.create_engine(
        # A path may hold what a URL gives a meaning to.
        sa.URL.create(
            "sqlite", database=f"file:{quote(str(path))}", query={"mode": mode, "uri": "true"}
        ),
        connect_args={"timeout": float(CONNECT_SECONDS)},
    )
