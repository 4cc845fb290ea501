"""CSV and Parquet files, local or in an object store: declared columns and rows, batch by batch.

Whatever a reader raises is dropped where it arises, cause and all: parsers quote the cell that they
stumbled over.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sordino_client.data.cells import require_columns, rows_of_a_batch
from sordino_client.data.conditions import kept
from sordino_client.data.object_store import READ_ERRORS, ObjectStore, open_store
from sordino_client.data.sources import CsvSource, FileSource, ParquetSource
from sordino_protocols.errors import InputError

# Arrow holds about forty blocks at once, and a line of a CSV file must fit into one.
_BLOCK_BYTES = 2**20
_LARGEST_CELL_BYTES = 64  # on average over a line

Rows = Iterator["pa.Table"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        place: what errors call it.
        path: where it lies, in the store or on this machine.
        store: None: on this machine.
    """

    place: str
    path: str
    store: ObjectStore | None

    def open(self, *, in_order: bool) -> BinaryIO:
        """The file's bytes, and any position in them.

        Args:
            in_order: whether it is read from front to back.

        Raises:
            OSError: it cannot be opened; a store may raise what else is in `READ_ERRORS`.
        """
        if self.store is None:
            return Path(self.path).open("rb")
        return self.store.open(self.path, in_order=in_order)


def read_files(source: CsvSource | ParquetSource, names: Sequence[str]) -> Rows:
    """The rows that the source's conditions keep, with the columns `names`.

    Raises:
        InputError: names the file, and the column or the rule; never anything of a record.
    """
    conditions = source.where
    read = list(dict.fromkeys([*names, *(each.column for each in conditions)]))
    header: list[str] | None = None
    for file in source_files(source):
        found = _csv_header(file, source) if isinstance(source, CsvSource) else _fields(file)
        require_columns(found, read, place=file.place)
        if header is not None and found != header:
            raise InputError(f"{file.place}: has another header than the first of {source.place}")
        header = found
        match source:
            case CsvSource():
                batches = _read_csv(file, source, read, width=len(found))
            case ParquetSource():
                batches = _read_parquet(file, read)
        for batch in batches:
            rows = pa.Table.from_batches([batch])
            yield kept(rows, conditions, place=file.place).select(list(names))


def source_files(source: FileSource) -> list[SourceFile]:
    """The files that the source names, sorted.

    Raises:
        InputError: a pattern names none, or the object store cannot be asked.
    """
    if source.url is not None:
        store = open_store(source.options_file, timeout_seconds=source.timeout_seconds)
        return [SourceFile(f"s3://{key}", key, store) for key in store.find(source.url)]
    path = str(source.path)
    found = [path] if Path(path).exists() or not has_magic(path) else sorted(glob(path))  # noqa: PTH207 (a whole path may be a pattern)
    if not found:
        raise InputError(f"{path}: no file has such a name")
    return [SourceFile(each, each, None) for each in found]


def _read_csv(
    file: SourceFile, source: CsvSource, names: Sequence[str], *, width: int
) -> Iterator["pa.RecordBatch"]:
    block_bytes = max(_BLOCK_BYTES, _LARGEST_CELL_BYTES * width)
    parsing = pyarrow.csv.ParseOptions(delimiter=source.delimiter, newlines_in_values=True)
    conversion = pyarrow.csv.ConvertOptions(
        include_columns=list(names),
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        null_values=["", *source.missing],
    )
    reading = pyarrow.csv.ReadOptions(block_size=block_bytes)
    try:
        with (
            file.open(in_order=True) as opened,
            pyarrow.csv.open_csv(
                opened, reading, parse_options=parsing, convert_options=conversion
            ) as batches,
        ):
            yield from batches
    except READ_ERRORS:
        pass
    else:
        return
    raise InputError(
        f"{file.place}: garbled: a line does not have the header's cells in UTF-8,"
        f" or is longer than {block_bytes} bytes"
    )


def _csv_header(file: SourceFile, source: CsvSource) -> list[str]:
    try:
        with (
            file.open(in_order=True) as opened,
            io.TextIOWrapper(opened, encoding="utf-8-sig", newline="") as text,
        ):
            return next(csv.reader(text, delimiter=source.delimiter, strict=True), [])
    except (csv.Error, UnicodeDecodeError, *READ_ERRORS):
        pass
    raise InputError(f"{file.place}: no readable CSV file with a header line in UTF-8")


def _fields(file: SourceFile) -> list[str]:
    """A Parquet file's columns."""
    try:
        with file.open(in_order=False) as opened:
            return list(pyarrow.parquet.read_schema(opened).names)
    except READ_ERRORS:
        pass
    raise InputError(f"{file.place}: no readable Parquet file")


def _read_parquet(file: SourceFile, names: Sequence[str]) -> Iterator["pa.RecordBatch"]:
    try:
        with (
            file.open(in_order=False) as opened,
            pyarrow.parquet.ParquetFile(opened, pre_buffer=False) as parquet,
        ):
            for batch in parquet.iter_batches(
                batch_size=rows_of_a_batch(len(names)), columns=list(names)
            ):
                yield batch.select(list(names))
    except READ_ERRORS:
        pass
    else:
        return
    raise InputError(f"{file.place}: no readable Parquet file")
