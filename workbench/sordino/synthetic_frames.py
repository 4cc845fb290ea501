"""Cells as a pandas table of the source's format, and such a table as a file.

Types follow from the schema alone: a column that may have gaps has a type for gaps whether a sample
shows one or not.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from sordino_protocols.columns import (
    AnyColumn,
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    SetColumn,
)
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.decoding import decode
from sordino_protocols.synthesis.domain import Cells

_PARQUET = frozenset({".parquet", ".pq"})


def frame_of(cells: Cells, schema: Schema, *, rng: np.random.Generator) -> pd.DataFrame:
    """Records that the cells may stand for, columns sorted by name: their order means nothing.

    Text columns are not there: nothing is known of them. A set is the text of its words, as in the
    source.

    Args:
        cells: [rows, positions].
        schema: of the cells.
        rng: draws values within their cells.
    """
    decoded = decode(cells, schema, rng=rng)
    return pd.DataFrame(
        {
            name: _series(decoded[name], column)
            for name, column in sorted(schema.columns.items())
            if name in decoded
        }
    )


def check_writable(path: Path) -> None:
    """Say before the work, not after it, that a table cannot be written there.

    Raises:
        InputError: the path has another suffix than .csv, .parquet or .pq, or exists.
    """
    if path.suffix.lower() not in {".csv", *_PARQUET}:
        raise InputError(f"{path}: must end in .csv or .parquet")
    if path.exists():
        raise InputError(f"{path}: exists already; move it away first")


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV or Parquet, as the path's suffix says.

    Raises:
        InputError: as `check_writable`, or it cannot be written.
    """
    check_writable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in _PARQUET:
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def _series(values: Sequence[object], column: AnyColumn) -> "pd.Series":
    match column:
        case IntegerColumn():
            return pd.Series(values, dtype="Int64" if column.nullable else "int64")
        case NumberColumn():
            return pd.Series(values, dtype="float64")
        case SetColumn():
            return pd.Series([_joined(each, column.separator) for each in values], dtype=object)
        case CategoryColumn():
            return pd.Series(values, dtype=object)
        case _:
            raise AssertionError("blocks and text have no cells")


def _joined(items: object, separator: str) -> str:
    if not isinstance(items, list):
        raise AssertionError("a set is decoded to a list")  # noqa: TRY004 (a bug)
    return separator.join(str(item) for item in items)
