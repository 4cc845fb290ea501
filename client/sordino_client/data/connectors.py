"""Where records come from: one TOML file a data set, the public schema plus a private source.

Only declared columns are read, batch by batch, and nothing in a source is evaluated. Whatever a
reader raises is dropped where it arises, cause and all: parsers quote the cell that they stumbled
over.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from sordino_client.data.declaration import CsvSource, DatasetFile, ParquetSource
from sordino_client.data.encode import encode
from sordino_client.data.storage import RowStore, Spill
from sordino_client.data.table import Table
from sordino_client.entities import digest_keys, group_digests
from sordino_protocols.columns import CategoryColumn, source_names_of
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema

# Arrow holds about forty blocks at once, and a line of a CSV file must fit into one.
_BLOCK_BYTES = 2**20
_LARGEST_CELL_BYTES = 64  # on average over a line
_BATCH_CELLS = 2**20

Kinds = Mapping[str, "pa.DataType"]


def load_table(dataset: DatasetFile, *, spill: Spill | None = None) -> Table:
    """Read and encode all records. Call it before any job: its errors depend on records.

    Args:
        dataset: the declaration, its path absolute.
        spill: when features go to disk; None: never. What is loaded is the same to the last bit.

    Raises:
        InputError: the source is absent, unreadable or garbled, lacks a column, or a cell breaks
            the schema; names file, column and rule, never anything of a record. Only the site's
            admin may see it.
    """
    place, unit = str(dataset.source.path), dataset.dataset.unit
    features, labels, keys = RowStore(spill), [], []
    for cells in _batches(dataset):
        frame: pd.DataFrame = cells.to_pandas(ignore_metadata=True, date_as_object=True)
        encoded = encode(frame, dataset, source=place)
        features.append(encoded.features)
        labels.append(encoded.labels)
        if unit is not None:
            keys.append(digest_keys(cells.column(unit).to_numpy(), source=place))
    entities = None if unit is None else group_digests(np.concatenate(keys))
    return Table(features.finish(), np.concatenate(labels), entities)


def _batches(dataset: DatasetFile) -> Iterator["pa.Table"]:
    """The source's cells as `_kinds` says; the first batch has no rows."""
    kinds = _kinds(dataset)
    yield pa.table({name: pa.array([], type=kind) for name, kind in kinds.items()})
    match dataset.source:
        case CsvSource() as source:
            batches = _read_csv(source, kinds)
        case ParquetSource() as source:
            batches = _read_parquet(source, kinds)
    for cells in _gathered(batches):
        yield pa.table(
            {
                name: _plain(column, kind, f"{dataset.source.path}: column {name!r}")
                for (name, kind), column in zip(kinds.items(), cells.columns, strict=True)
            }
        )


def _gathered(batches: Iterator["pa.RecordBatch"]) -> Iterator["pa.Table"]:
    """The same rows in fewer batches: each costs the encoder time, whatever its size."""
    waiting, cell_count = [], 0
    for batch in batches:
        waiting.append(batch)
        cell_count += batch.num_rows * batch.num_columns
        if cell_count >= _BATCH_CELLS:
            yield pa.Table.from_batches(waiting)
            waiting, cell_count = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _kinds(schema: Schema) -> Kinds:
    """The columns to read: as text where words are declared, and for keys; else as numbers."""
    kinds = {
        name: pa.string() if isinstance(column, CategoryColumn) else pa.float64()
        for block, column in schema.columns.items()
        for name in source_names_of(block, column)
    }
    unit = schema.dataset.unit
    return kinds if unit is None else kinds | {unit: pa.string()}


def _read_csv(source: CsvSource, kinds: Kinds) -> Iterator["pa.RecordBatch"]:
    header = _csv_header(source)
    _require_columns(header, kinds, f"{source.path}")
    block_bytes = max(_BLOCK_BYTES, _LARGEST_CELL_BYTES * len(header))
    parsing = pyarrow.csv.ParseOptions(delimiter=source.delimiter, newlines_in_values=True)
    conversion = pyarrow.csv.ConvertOptions(
        include_columns=list(kinds),
        column_types=dict.fromkeys(kinds, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        null_values=["", *source.missing],
    )
    reading = pyarrow.csv.ReadOptions(block_size=block_bytes)
    try:
        with pyarrow.csv.open_csv(
            source.path, reading, parse_options=parsing, convert_options=conversion
        ) as batches:
            yield from batches
    except (pa.ArrowException, OSError):
        pass
    else:
        return
    raise InputError(
        f"{source.path}: garbled: a line does not have the header's cells in UTF-8,"
        f" or is longer than {block_bytes} bytes"
    )


def _csv_header(source: CsvSource) -> list[str]:
    try:
        with source.path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=source.delimiter, strict=True), [])
    except (csv.Error, UnicodeDecodeError, OSError):
        pass
    raise InputError(f"{source.path}: no readable CSV file with a header line in UTF-8")


def _read_parquet(source: ParquetSource, kinds: Kinds) -> Iterator["pa.RecordBatch"]:
    rows = max(1, _BATCH_CELLS // len(kinds))
    try:
        with pyarrow.parquet.ParquetFile(source.path, pre_buffer=False) as file:
            _require_columns(list(file.schema_arrow.names), kinds, f"{source.path}")
            for batch in file.iter_batches(batch_size=rows, columns=list(kinds)):
                yield batch.select(list(kinds))
    except (pa.ArrowException, OSError):
        pass
    else:
        return
    raise InputError(f"{source.path}: no readable Parquet file")


def _plain(cells: "pa.ChunkedArray", kind: "pa.DataType", place: str) -> "pa.ChunkedArray":
    """Cells of the kind, or text if not all are numbers: `encode` says what is wrong with it."""
    is_text = pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)
    try:
        plain = cells.cast(kind, safe=False)
    except pa.ArrowException:
        plain = cells.cast(pa.string()) if is_text else None
    if plain is None:
        raise InputError(f"{place}: type {cells.type} is not supported")
    if is_text and kind == pa.float64() and plain.type == kind and _has_nan(plain):
        return cells.cast(pa.string())  # the word "nan" is no number
    return plain


def _has_nan(numbers: "pa.ChunkedArray") -> bool:
    return bool(pyarrow.compute.any(pyarrow.compute.is_nan(numbers)).as_py())


def _require_columns(found: list[str], kinds: Kinds, place: str) -> None:
    counts = Counter(found)
    for name in kinds:
        match counts[name]:
            case 0:
                raise InputError(f"{place}: column {name!r} is absent")
            case 1:
                pass
            case _:
                raise InputError(f"{place}: column {name!r} stands there twice")
