"""Copies of a SQLite database, taken while somebody writes to it or not.

A copy is one snapshot: of a ledger, a chain that ends somewhere and is whole up to there.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sordino_protocols.databases import CONNECT_SECONDS
from sordino_protocols.errors import NotFoundError, UnreachableError


def copy_database(path: Path, copy: Path) -> None:
    """Copy a SQLite database; whole and on disk when this returns. Mode 0600.

    Raises:
        NotFoundError: there is no such file.
        UnreachableError: it is busy, no database, or the disk is full.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such database")
    aside = copy.with_name(f".{copy.name}.new")
    aside.unlink(missing_ok=True)
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        _copy_pages(path, aside)
        _sync(aside)
        aside.rename(copy)
        _sync(copy.parent)
    except (sqlite3.Error, OSError) as error:
        aside.unlink(missing_ok=True)
        raise UnreachableError(f"{path}: cannot be copied ({type(error).__name__})") from None


def back_up(path: Path, *, revision: str) -> Path:
    """Copy a SQLite database beside itself before its tables are changed; the copy's path."""
    copy = path.with_name(f"{path.name}.before-upgrade-of-{revision}")
    copy_database(path, copy)
    return copy


def _copy_pages(path: Path, copy: Path) -> None:
    source = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(source, uri=True)) as old, closing(sqlite3.connect(copy)) as new:
        old.execute(f"PRAGMA busy_timeout = {1000 * CONNECT_SECONDS}")
        # All pages in one step: what is appended meanwhile is in the copy or not, never half.
        old.backup(new)
        # One file, without a log of writes beside it.
        new.execute("PRAGMA journal_mode = DELETE")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
