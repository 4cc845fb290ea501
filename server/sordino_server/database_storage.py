"""The server's state in a PostgreSQL database: tables of files and of lines instead of directories.

What must stay true, as of every `storage.Storage`: a file is there whole or not at all, since it is
written in one transaction; a log's lines lie one behind the other, since whoever appends has the
log's own lock until its commit; and who has a lock writes on the very connection that has it, so
that a process which lost the lock, because its connection broke, cannot go on writing as if it had
it.
"""

import contextlib
import io
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TextIO

import sqlalchemy as sa

from sordino_protocols.databases import postgres_engine, require_durability, show_url
from sordino_protocols.errors import IntegrityError, SordinoError, UnreachableError
from sordino_server.state_tables import FILES, LINES, MIGRATIONS

if TYPE_CHECKING:
    from typing_extensions import Buffer

# PostgreSQL takes 1 GB at a time at most, and both sides hold what is under way in memory.
_PART_BYTES = 16 * 1024 * 1024
# A host that vanished with a lock must not keep it for the two hours that TCP waits by default.
_SESSION = (
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
)


class DatabaseStorage:
    """A folder in a database."""

    def __init__(self, database: "Database", prefix: str = "") -> None:
        """Use a folder.

        Args:
            database: which.
            prefix: of the names of everything in the folder; with a slash at its end, or empty.
        """
        self._database = database
        self._prefix = prefix

    @property
    def folder(self) -> str:
        """The last part of the folder's name."""
        return self._prefix.rstrip("/").rpartition("/")[2]

    def within(self, folder: str) -> "DatabaseStorage":
        """A folder in this one."""
        return DatabaseStorage(self._database, f"{self._prefix}{folder}/")

    def describe(self, name: str = "") -> str:
        """The database without its password, and the name in it."""
        return f"{show_url(self._database.url)}: {self._prefix}{name}"

    def read(self, name: str) -> bytes | None:
        """A file's parts, joined: one statement sees one state of them all."""
        query = sa.select(FILES.c.content).where(FILES.c.name == self._prefix + name)
        with self._database.transaction() as connection:
            parts = connection.execute(query.order_by(FILES.c.part)).scalars().all()
        return b"".join(parts) if parts else None

    def read_each(self, name: str) -> Mapping[str, bytes]:
        """The files of that name, one folder down."""
        query = (
            sa.select(FILES.c.name, FILES.c.content)
            .where(FILES.c.name.startswith(self._prefix, autoescape=True))
            .where(FILES.c.name.endswith(f"/{name}", autoescape=True))
            .order_by(FILES.c.name, FILES.c.part)
        )
        found: dict[str, bytes] = {}
        with self._database.transaction() as connection:
            for whole, content in connection.execute(query):
                folder = whole[len(self._prefix) : -len(name) - 1]
                if "/" not in folder:
                    found[folder] = found.get(folder, b"") + content
        return found

    def names(self, folder: str) -> list[str]:
        """The names below the folder that have no slash."""
        start = f"{self._prefix}{folder}/"
        query = sa.select(FILES.c.name).where(
            FILES.c.name.startswith(start, autoescape=True), FILES.c.part == 0
        )
        with self._database.transaction() as connection:
            names = [each[len(start) :] for each in connection.execute(query).scalars()]
        return sorted(each for each in names if "/" not in each)

    def stamp(self, name: str) -> str | None:
        """What the file was stamped with when it was written."""
        query = sa.select(FILES.c.stamp).where(
            FILES.c.name == self._prefix + name, FILES.c.part == 0
        )
        with self._database.transaction() as connection:
            stamp: str | None = connection.execute(query).scalar()
        return stamp

    def write(self, name: str, content: bytes) -> None:
        """Replace all parts in one transaction."""
        whole, stamp = self._prefix + name, secrets.token_hex(16)
        parts = [
            {"name": whole, "part": number, "stamp": stamp, "content": content[start:end]}
            for number, (start, end) in enumerate(_cuts(len(content)))
        ]
        with self._database.transaction(of=whole) as connection:
            connection.execute(sa.delete(FILES).where(FILES.c.name == whole))
            for part in parts:
                connection.execute(sa.insert(FILES), part)

    def rename(self, name: str, new: str) -> None:
        """Rename all parts in one transaction."""
        old, whole = self._prefix + name, self._prefix + new
        with self._database.transaction(of=old) as connection:
            found = connection.execute(sa.select(FILES.c.part).where(FILES.c.name == old))
            if found.first() is not None:
                connection.execute(sa.delete(FILES).where(FILES.c.name == whole))
                connection.execute(sa.update(FILES).where(FILES.c.name == old).values(name=whole))

    def append(self, name: str, line: bytes) -> None:
        """Add a row behind the last one."""
        whole = self._prefix + name
        end = sa.func.coalesce(sa.func.max(LINES.c.start + sa.func.length(LINES.c.content)), 0)
        query = sa.select(end).where(LINES.c.name == whole)
        with self._database.transaction(of=whole) as connection:
            start = connection.execute(query).scalar_one()
            values = {"name": whole, "start": start, "content": line}
            connection.execute(sa.insert(LINES), values)

    def read_after(self, name: str, offset: int) -> bytes:
        """The rows from there; an offset that a reader was given is always where a row begins."""
        query = (
            sa.select(LINES.c.content)
            .where(LINES.c.name == self._prefix + name, LINES.c.start >= offset)
            .order_by(LINES.c.start)
        )
        with self._database.transaction() as connection:
            return b"".join(connection.execute(query).scalars())

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock's connection, on which all that this process writes goes meanwhile."""
        with self._database.locked(self._prefix + name):
            yield

    @contextlib.contextmanager
    def open_text(self, name: str) -> Iterator[TextIO]:
        """Text that becomes lines of a log."""
        lines = io.BufferedWriter(_Lines(self, name))
        with io.TextIOWrapper(lines, encoding="utf-8", line_buffering=True) as stream:
            yield stream


class Database:
    """A PostgreSQL database with the server's tables.

    Attributes:
        url: where it is.
    """

    def __init__(self, url: sa.URL) -> None:
        """Name a database. Nothing is connected yet.

        Raises:
            InputError: the URL is not PostgreSQL's.
        """
        self.url = url
        self._engine = postgres_engine(url)
        self._held: _Held | None = None
        sa.event.listen(self._engine, "connect", _prepare_session)

    def open(self) -> None:
        """Make the tables, or bring them to this version; they are ready when this returns.

        Raises:
            IntegrityError: the database forgets what was committed, or a newer version made it.
            UnreachableError: it does not answer.
        """
        with self._reachable(), self._engine.connect() as connection:
            require_durability(connection, self.url)
            # Daemon, server apps and commands may all be the first.
            connection.execute(_lock_of("pg_advisory_xact_lock", "tables"))
            MIGRATIONS.bring_to_head(connection, place=show_url(self.url))
            connection.commit()

    def is_at_head(self) -> bool:
        """Whether the tables are those of this version.

        Raises:
            UnreachableError: the database does not answer.
        """
        with self._reachable(), self._engine.connect() as connection:
            return MIGRATIONS.is_at_head(connection)

    def close(self) -> None:
        """Let go of all connections. Idempotent."""
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self, *, of: str | None = None) -> Iterator[sa.Connection]:
        """A transaction that is on disk when this ends.

        Args:
            of: the name that is written to: other writers to it wait.

        Raises:
            UnreachableError: the database did not say that it has it; it may have it nevertheless.
            IntegrityError: a lock of this process was lost to another one.
        """
        with self._reachable(), contextlib.ExitStack() as stack:
            if self._held is None or self._held.is_of_another_thread():
                connection = stack.enter_context(self._engine.connect())
            else:
                connection = self._held.connection()
            with connection.begin():
                if of is not None:
                    connection.execute(_lock_of("pg_advisory_xact_lock", of))
                yield connection

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Have a lock, on a connection of its own, or on that of the lock that is had already.

        Raises:
            UnreachableError: the database does not answer.
        """
        if self._held is not None and not self._held.is_of_another_thread():
            with self._held.also(name, self._reachable):
                yield
            return
        with self._reachable():
            held = _Held(self._engine, name)
        before, self._held = self._held, held
        try:
            yield
        finally:
            self._held = before
            held.close()

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            raise UnreachableError(
                f"{show_url(self.url)}: the server's database did not do what it was asked"
                f" ({type(error.orig).__name__})"
            ) from None


class _Held:
    """Locks of one thread, and the connection that has them."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self._names = [name]
        self._thread = threading.get_ident()
        self._connection = engine.connect()
        self._ask(self._connection, "pg_advisory_lock", name)

    def is_of_another_thread(self) -> bool:
        """Whether somebody else in this process took them, whose writes are not ours."""
        return self._thread != threading.get_ident()

    @contextlib.contextmanager
    def also(
        self, name: str, reachable: Callable[[], AbstractContextManager[None]]
    ) -> Iterator[None]:
        """Have one more lock."""
        with reachable():
            self._ask(self.connection(), "pg_advisory_lock", name)
        self._names.append(name)
        try:
            yield
        finally:
            self._names.remove(name)
            # A connection that broke has no lock any more.
            with contextlib.suppress(sa.exc.DBAPIError):
                if not self._is_broken():
                    self._ask(self._connection, "pg_advisory_unlock", name)

    def connection(self) -> sa.Connection:
        """The connection; a new one that took the locks again, if that broke.

        Raises:
            IntegrityError: another process has one of them now.
        """
        if self._is_broken():
            self.close()
            connection = self._engine.connect()
            for name in self._names:
                if not self._ask(connection, "pg_try_advisory_lock", name):
                    connection.invalidate()
                    connection.close()
                    raise IntegrityError(
                        f"{name}: the connection to the database broke, and another process has"
                        " the lock now"
                    )
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """Let go of them."""
        if not self._connection.closed:
            # Not back to the pool: a pooled session would keep the locks.
            self._connection.invalidate()
            self._connection.close()

    def _is_broken(self) -> bool:
        return self._connection.closed or self._connection.invalidated

    @staticmethod
    def _ask(connection: sa.Connection, function: str, name: str) -> bool:
        has_it = bool(connection.execute(_lock_of(function, name)).scalar())
        # A lock is the session's; an idle transaction would keep the database from cleaning up.
        connection.commit()
        return has_it


class _Lines(io.RawIOBase):
    """Whole lines of text go to a log. Losing one stops nobody: they are for people only."""

    def __init__(self, storage: DatabaseStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._rest = b""
        self._writing = threading.RLock()

    def writable(self) -> bool:
        return True

    def write(self, content: "Buffer", /) -> int:
        written = bytes(content)
        with self._writing:
            *lines, self._rest = (self._rest + written).split(b"\n")
            for line in lines:
                with contextlib.suppress(SordinoError, sa.exc.SQLAlchemyError):
                    self._storage.append(self._name, line + b"\n")
        return len(written)


def _prepare_session(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    for each in _SESSION:
        cursor.execute(each)
    cursor.close()
    connection.commit()


def _lock_of(function: str, name: str) -> sa.Select[tuple[bool]]:
    key = sa.func.hashtextextended(f"sordino {name}", 0)
    locked: sa.Function[bool] = getattr(sa.func, function)(key)
    return sa.select(locked)


def _cuts(length: int) -> list[tuple[int, int]]:
    """Where parts begin and end; an empty file has one empty part."""
    starts = range(0, max(length, 1), _PART_BYTES)
    return [(start, min(start + _PART_BYTES, length)) for start in starts]
