"""PostgreSQL as server and sites use it: where it is, and whether it keeps what it was given.

A URL may hold a password, so it lies in a file of its own and no error shows it. What must stay
true: a database that was checked here has a commit on disk when it says so.
"""

from pathlib import Path

import sqlalchemy as sa

from sordino_protocols.errors import InputError, IntegrityError
from sordino_protocols.files import read_secret_text

CONNECT_SECONDS = 10
"""How long a database may take to be connected to, and a busy SQLite file to be written to."""

_EXAMPLE = "postgresql:///sordino?host=/run/postgresql"
# What PostgreSQL may be told to wait for at a commit and still have it on disk.
_DURABLE_COMMITS = ("on", "remote_apply")


def read_database_url(path: Path) -> sa.URL:
    """Read the URL of a PostgreSQL database from a file that only its owner may read.

    Raises:
        NotFoundError: there is no such file.
        InputError: others may read it, or it holds no such URL. Never names what is in it.
    """
    text = read_secret_text(path).strip()
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise InputError(f"{path}: expected one line, a URL such as {_EXAMPLE}") from None
    postgres_engine(url).dispose()
    return url


def postgres_engine(url: sa.URL) -> sa.Engine:
    """An engine that has connected to nothing yet.

    Raises:
        InputError: the URL is not PostgreSQL's.
    """
    if url.get_backend_name() != "postgresql":
        raise InputError(
            f"{show_url(url)}: the only database that is supported is PostgreSQL; the URL must"
            " begin with postgresql://"
        )
    return sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": CONNECT_SECONDS},
        # A connection that broke while nobody used it is no failure.
        pool_pre_ping=True,
    )


def show_url(url: sa.URL) -> str:
    """A URL that may be shown: without its password."""
    return url.render_as_string(hide_password=True)


def require_durability(connection: sa.Connection, url: sa.URL) -> None:
    """Return if what is committed on this connection is on disk then.

    Raises:
        IntegrityError: the server was told to lie about it; names the setting.
    """
    if ask(connection, "SHOW synchronous_commit") not in _DURABLE_COMMITS:
        connection.execute(sa.text("SET synchronous_commit = on"))
    for setting, allowed in (
        ("synchronous_commit", _DURABLE_COMMITS),
        ("fsync", ("on",)),
        ("full_page_writes", ("on",)),
    ):
        if (value := ask(connection, f"SHOW {setting}")) not in allowed:
            raise IntegrityError(
                f"{show_url(url)}: this PostgreSQL has {setting} = {value}, with which a"
                " crash forgets what was spent; set it to on"
            )


def ask(connection: sa.Connection, query: str) -> object:
    """The one value that a query of ours answers."""
    return connection.execute(sa.text(query)).scalar()
