"""Cells between a source and the encoder: columns of text or of numbers, batch by batch.

Every source hands over the same kinds, so what a record becomes does not depend on where it lay.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute

from sordino_protocols.columns import CategoryColumn, SetColumn, source_names_of
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema

BATCH_CELLS = 2**20

Kinds = Mapping[str, "pa.DataType"]


def kinds_of(schema: Schema) -> Kinds:
    """The columns to read: as text where words are declared, and for keys; else as numbers."""
    kinds = {
        name: pa.string() if isinstance(column, CategoryColumn | SetColumn) else pa.float64()
        for block, column in schema.columns.items()
        for name in source_names_of(block, column)
    }
    unit = schema.dataset.unit
    return kinds if unit is None else kinds | {unit: pa.string()}


def rows_of_a_batch(column_count: int) -> int:
    """How many rows to read at once."""
    return max(1, BATCH_CELLS // column_count)


def no_cells(kinds: Kinds) -> "pa.Table":
    """A table of these kinds without rows."""
    return pa.table({name: pa.array([], type=kind) for name, kind in kinds.items()})


def gathered(tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
    """The same rows in fewer tables: each costs the encoder time, whatever its size."""
    waiting, cell_count = list["pa.Table"](), 0
    for table in tables:
        if waiting and (cell_count >= BATCH_CELLS or table.schema != waiting[0].schema):
            yield pa.concat_tables(waiting)
            waiting, cell_count = [], 0
        waiting.append(table)
        cell_count += table.num_rows * table.num_columns
    if waiting:
        yield pa.concat_tables(waiting)


def of_kinds(cells: "pa.Table", kinds: Kinds, *, place: str) -> "pa.Table":
    """The columns that `kinds` names, each of its kind, or text where not all are numbers.

    Raises:
        InputError: a column's type has neither numbers nor text.
    """
    return pa.table(
        {
            name: plain(cells.column(name), kinds[name], f"{place}: column {name!r}")
            for name in kinds
        }
    )


def plain(cells: "pa.ChunkedArray", kind: "pa.DataType", place: str) -> "pa.ChunkedArray":
    """Cells of the kind, or text if not all are numbers: `encode` says what is wrong with it.

    Raises:
        InputError: they are neither numbers nor text.
    """
    is_text = pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type)
    try:
        converted = cells.cast(kind, safe=False)
    except pa.ArrowException:
        converted = cells.cast(pa.string()) if is_text else None
    if converted is None:
        raise InputError(f"{place}: type {cells.type} is not supported")
    if is_text and kind == pa.float64() and converted.type == kind and _has_nan(converted):
        return cells.cast(pa.string())  # the word "nan" is no number
    return converted


def require_columns(found: Iterable[str], wanted: Iterable[str], *, place: str) -> None:
    """Return if each of the wanted columns stands there once.

    Raises:
        InputError: one is absent, or stands there twice.
    """
    counts = Counter(found)
    for name in wanted:
        match counts[name]:
            case 0:
                raise InputError(f"{place}: column {name!r} is absent")
            case 1:
                pass
            case _:
                raise InputError(f"{place}: column {name!r} stands there twice")


def _has_nan(numbers: "pa.ChunkedArray") -> bool:
    return bool(pyarrow.compute.any(pyarrow.compute.is_nan(numbers)).as_py())
