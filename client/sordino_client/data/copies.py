"""Two data sets of the same records must draw on the same budget.

A budget is kept by lineage. Records that are declared twice under two lineages would have two
budgets, so that is an error. What is seen here: a file, object, table or query that two data sets
name; files of the same content; and a query that names another data set's table. Records that were
copied in another form are not seen: their lineage is the admin's word.
"""

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sordino_client.data.databases import database_url
from sordino_client.data.declaration import DatasetFile
from sordino_client.data.files import source_files
from sordino_client.data.sources import FileSource, SqlSource
from sordino_protocols.errors import InputError


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of a database: the place without names and passwords, and what is read there."""

    database: str
    table: str | None
    query: str | None


@dataclass(frozen=True, slots=True)
class _Objects:
    """Objects of a store."""

    url: str


_Origin = tuple[Path, ...] | _Rows | _Objects


def require_lineages(declared: Mapping[Path, DatasetFile]) -> None:
    """Return if data sets that are seen to be of the same records share a lineage.

    Args:
        declared: data sets by the file that declares them.

    Raises:
        NotFoundError: a file with a database's URL is absent.
        InputError: two are of the same records and of two lineages; names both files and the fix.
    """
    origins = {path: _origin(file) for path, file in declared.items()}
    contents = _Contents()
    for (one, first), (other, second) in itertools.combinations(declared.items(), 2):
        if first.lineage == second.lineage:
            continue
        if _are_same(origins[one], origins[other], contents):
            raise InputError(
                f"{one} and {other}: data sets {first.dataset.name!r} and"
                f" {second.dataset.name!r} are of the same records, so they must share a budget;"
                f" fix: set lineage = {first.lineage!r} in [dataset] of both"
            )


def _origin(file: DatasetFile) -> _Origin:
    match file.source:
        case SqlSource() as source:
            return _rows(source)
        case FileSource(url=str(url)):
            return _Objects(url)
        case source:
            return tuple(Path(each.path) for each in source_files(source))


def _rows(source: SqlSource) -> _Rows:
    url = database_url(source)
    if url.get_backend_name() == "sqlite":
        database = str(Path(url.database or "").resolve())
    else:
        host = url.host or str(url.query.get("host", ""))
        database = f"{host}:{url.port or 5432}/{url.database}"
    query = None if source.query is None else " ".join(source.query.split()).lower()
    return _Rows(database, None if source.table is None else source.table.lower(), query)


def _are_same(one: _Origin, other: _Origin, contents: "_Contents") -> bool:
    match one, other:
        case _Rows(), _Rows():
            return one.database == other.database and _read_same(one, other)
        case _Objects(), _Objects():
            return fnmatchcase(one.url, other.url) or fnmatchcase(other.url, one.url)
        case tuple(), tuple():
            return _share_a_file(one, other, contents)
        case _:
            return False


def _read_same(one: _Rows, other: _Rows) -> bool:
    if one.query is None and other.query is None:
        return one.table == other.table
    if one.query is not None and other.query is not None:
        return one.query == other.query
    query, table = one.query or other.query or "", one.table or other.table or ""
    return re.search(rf"(?<!\w){re.escape(table)}(?!\w)", query) is not None


class _Contents:
    """The digests of files, each read at most once."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        if path not in self._known:
            with path.open("rb") as file:
                self._known[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._known[path]


def _share_a_file(one: Sequence[Path], other: Sequence[Path], contents: _Contents) -> bool:
    return any(
        mine.samefile(theirs)
        # Only files of one size can be of one content, so few are read.
        or (
            mine.stat().st_size == theirs.stat().st_size
            and contents.of(mine) == contents.of(theirs)
        )
        for mine, theirs in itertools.product(one, other)
    )
