"""A table or a query of a database: the declared columns of its rows, streamed and never written.

The statement is built from the declaration alone. SQLite is opened read only, PostgreSQL reads in a
transaction that is read only, so that a query which writes fails. Errors keep a database's code and
nothing else: its text may quote a record, or the URL with its password.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import NoneType
from urllib.parse import quote

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import exc

from sordino_client.data.cells import Kinds, rows_of_a_batch
from sordino_client.data.credentials import read_private
from sordino_client.data.sources import SqlSource
from sordino_protocols.errors import InputError

_ROWS = "source"
_SQLITE = "sqlite"
_POSTGRESQL = "postgresql"
_NUMBERS = {int, float, bool, Decimal, NoneType}


def read_database(source: SqlSource, kinds: Kinds) -> Iterator["pa.Table"]:
    """The source's rows with the columns of `kinds`.

    Raises:
        NotFoundError: there is no file with the URL.
        InputError: the URL or the database cannot be read, a column is absent, or a column's type
            is neither text nor number; names the file with the URL, and the column or a code.
    """
    engine = _engine(database_url(source), source)
    try:
        with engine.connect().execution_options(no_parameters=True) as connection:
            _require_columns(connection, source, list(kinds))
            yield from _rows(connection, source, kinds)
    except exc.SQLAlchemyError as error:
        reason = _code(error)
    except (OSError, UnicodeError):
        reason = "it cannot be reached"
    else:
        return
    finally:
        engine.dispose()
    raise InputError(f"{source.place}: the database cannot be read: {reason}")


def database_url(source: SqlSource) -> sa.URL:
    """The URL in the source's private file.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not private, or holds no URL of an SQLite file or of PostgreSQL.
    """
    text = read_private(source.url_file).strip()
    try:
        url = sa.make_url(text)
    except (exc.ArgumentError, ValueError):
        url = None
    if url is None or url.get_backend_name() not in {_SQLITE, _POSTGRESQL}:
        raise InputError(
            f"{source.url_file}: expected one line with a URL such as"
            " postgresql+psycopg://user:password@host/database or sqlite:////path/to/file"
        )
    if url.get_backend_name() == _SQLITE and not Path(url.database or "").is_absolute():
        raise InputError(f"{source.url_file}: sqlite:// needs an absolute path: four slashes")
    return url


def _engine(url: sa.URL, source: SqlSource) -> sa.Engine:
    if url.get_backend_name() == _SQLITE:
        file = f"file:{quote(url.database or '')}?mode=ro"
        engine = sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(file, uri=True), poolclass=sa.NullPool
        )
    else:
        seconds = max(1, int(source.timeout_seconds))
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            connect_args={"connect_timeout": min(seconds, 60), "client_encoding": "utf8"},
            execution_options={"postgresql_readonly": True},
            poolclass=sa.NullPool,
            hide_parameters=True,
        )
    return engine


def _require_columns(connection: sa.Connection, source: SqlSource, names: Sequence[str]) -> None:
    """Return if the database knows every column; asked for at once, and one by one if not."""
    if _is_known(connection, source, names) is None:
        return
    for name in names:
        reason = _is_known(connection, source, [name])
        if reason is not None and _is_known(connection, source, []) is None:
            raise InputError(f"{source.place}: column {name!r} is absent ({reason})")


def _is_known(connection: sa.Connection, source: SqlSource, names: Sequence[str]) -> str | None:
    """None if the columns can be selected, else the database's code."""
    try:
        with connection.begin():
            connection.exec_driver_sql(f"{_select(connection, source, names)} LIMIT 0")
    except exc.DBAPIError as error:
        return _code(error)
    return None


def _rows(connection: sa.Connection, source: SqlSource, kinds: Kinds) -> Iterator["pa.Table"]:
    count = rows_of_a_batch(8 * len(kinds))  # Python's cells are large
    streamed = connection.execution_options(stream_results=True, max_row_buffer=count)
    with connection.begin():
        result = streamed.exec_driver_sql(_select(connection, source, list(kinds)))
        for rows in result.partitions(count):
            columns = zip(kinds.items(), zip(*rows, strict=True), strict=True)
            yield pa.table(
                {
                    name: _cells(values, kind, f"{source.place}: column {name!r}")
                    for (name, kind), values in columns
                }
            )


def _select(connection: sa.Connection, source: SqlSource, names: Sequence[str]) -> str:
    # Qualified: SQLite takes an unknown name in quotes for a text, but not behind a dot.
    quoted = connection.dialect.identifier_preparer.quote_identifier
    columns = ", ".join(f"{_ROWS}.{quoted(name)}" for name in names) or "1"
    parts = [part for part in (source.in_schema, source.table) if part is not None]
    # A comment at the end of a query ends with its line.
    rows = ".".join(map(quoted, parts)) if source.query is None else f"(\n{source.query}\n)"
    return f"SELECT {columns} FROM {rows} AS {_ROWS}"  # noqa: S608 (the admin's own declaration)


def _cells(values: Sequence[object], kind: "pa.DataType", place: str) -> "pa.Array":
    """A column's cells as Arrow would hold them in a Parquet file."""
    kinds = set(map(type, values))
    if kind == pa.float64() and Decimal in kinds and kinds <= _NUMBERS:
        values = [float(each) if isinstance(each, Decimal) else each for each in values]
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        pass
    try:
        # A column of SQLite's may hold cells of several types.
        return pa.array([None if each is None else str(each) for each in values], pa.string())
    except (pa.ArrowException, UnicodeError):
        pass
    raise InputError(f"{place}: a cell is neither text nor a number")


def _code(error: exc.SQLAlchemyError) -> str:
    """What kind of error it is, without its text."""
    if not isinstance(error, exc.DBAPIError) or error.orig is None:
        return type(error).__name__
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", "")
    return f"{type(error.orig).__name__} {state}".strip()
