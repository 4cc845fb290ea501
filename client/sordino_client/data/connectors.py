"""Where records come from: one TOML file a data set, the public schema plus a private source.

Only declared columns are read, and nothing in a source is evaluated. Whatever a reader raises is
dropped where it arises, cause and all: parsers quote the cell that they stumbled over.
"""

import csv
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sordino_client.data.declaration import CsvSource, DatasetFile, ParquetSource
from sordino_client.data.encode import encode
from sordino_client.data.table import Table
from sordino_protocols.errors import InputError
from sordino_protocols.schema import CategoryColumn, Schema


def load_table(dataset: DatasetFile) -> Table:
    """Read and encode all records. Call it before any job: its errors depend on records.

    Raises:
        InputError: the source is absent, unreadable or garbled, lacks a column, or a cell breaks
            the schema; names file, column and rule, never anything of a record. Only the site's
            admin may see it.
    """
    facts = dataset.dataset
    if facts.unit is not None or facts.max_records_per_unit > 1:
        raise InputError(
            f"data set {facts.name!r}: entity-level units are not supported by this version;"
            " remove dataset.unit and dataset.max_records_per_unit"
        )
    match dataset.source:
        case CsvSource() as source:
            cells = _read_csv(source, dataset)
        case ParquetSource() as source:
            cells = _read_parquet(source, dataset)
    frame: pd.DataFrame = cells.to_pandas(ignore_metadata=True, date_as_object=True)
    return encode(frame, dataset, source=str(source.path))


def _read_csv(source: CsvSource, schema: Schema) -> "pa.Table":
    _require_columns(_csv_header(source), schema, source.path)
    parsing = pyarrow.csv.ParseOptions(delimiter=source.delimiter, newlines_in_values=True)
    conversion = pyarrow.csv.ConvertOptions(
        include_columns=list(schema.columns),
        column_types=dict.fromkeys(schema.columns, pa.string()),
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        null_values=["", *source.missing],
    )
    try:
        return pyarrow.csv.read_csv(source.path, parse_options=parsing, convert_options=conversion)
    except (pa.ArrowException, OSError):
        pass
    raise InputError(f"{source.path}: garbled: a line does not have the header's cells in UTF-8")


def _csv_header(source: CsvSource) -> list[str]:
    try:
        with source.path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file, delimiter=source.delimiter, strict=True), [])
    except (csv.Error, UnicodeDecodeError, OSError):
        pass
    raise InputError(f"{source.path}: no readable CSV file with a header line in UTF-8")


def _read_parquet(source: ParquetSource, schema: Schema) -> "pa.Table":
    try:
        with pyarrow.parquet.ParquetFile(source.path) as file:
            _require_columns(list(file.schema_arrow.names), schema, source.path)
            cells = file.read(columns=list(schema.columns))
    except (pa.ArrowException, OSError):
        cells = None
    if cells is None:
        raise InputError(f"{source.path}: no readable Parquet file")
    return pa.table(
        {name: _plain(cells.column(name), name, schema, source.path) for name in schema.columns}
    )


def _plain(cells: "pa.ChunkedArray", name: str, schema: Schema, path: Path) -> "pa.ChunkedArray":
    """A column as text where words are declared, else as numbers (or text, read later)."""
    kind = pa.string() if isinstance(schema.columns[name], CategoryColumn) else pa.float64()
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        kind = pa.string()
    try:
        return cells.cast(kind, safe=False)
    except pa.ArrowException:
        pass
    raise InputError(f"{path}: column {name!r}: type {cells.type} is not supported")


def _require_columns(found: list[str], schema: Schema, path: Path) -> None:
    for name in schema.columns:
        match found.count(name):
            case 0:
                raise InputError(f"{path}: column {name!r} is absent")
            case 1:
                pass
            case _:
                raise InputError(f"{path}: column {name!r} stands there twice")
