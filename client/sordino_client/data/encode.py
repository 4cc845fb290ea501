"""From a frame of raw cells to numbers, by the public schema alone.

Nothing is fitted: no mean, no range, no category comes from the records, so the encoding of one
record never depends on another. Errors name the column and the rule, never a cell, a row or a
count.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sordino_client.data.table import Table
from sordino_protocols.errors import InputError
from sordino_protocols.schema import CategoryColumn, IntegerColumn, NumberColumn, Schema

Floats = NDArray[np.float64]
Words = NDArray[np.object_]


def encode(frame: pd.DataFrame, schema: Schema, *, source: str = "table") -> Table:
    """Encode records as the model reads them.

    A number is scaled from its public bounds to [-1, 1]; a category becomes one column a declared
    word, 1 or 0. A missing cell is 0 everywhere and 1 in the column's indicator. Shapes and order
    are `schema.feature_names()`.

    Args:
        frame: has at least the schema's columns; cells are text, numbers, booleans or missing.
        schema: the public declaration.
        source: what errors call the frame.

    Raises:
        InputError: a column is absent, or a cell breaks its column's declaration: missing though
            not nullable, or outside where the declaration says reject. Only the site's admin may
            see this error.
    """
    names = [name for name, _ in schema.features]
    for name in (*names, schema.roles.label):
        if name not in frame.columns:
            raise InputError(f"{source}: column {name!r} is absent")
    blocks = [
        _encode_column(frame[name], column, f"{source}: column {name!r}")
        for name, column in schema.features
    ]
    features = np.hstack([np.empty((len(frame), 0)), *blocks])
    labels = _encode_label(frame[schema.roles.label], schema, f"{source}: column")
    return Table(np.ascontiguousarray(features, dtype=np.float32), labels.astype(np.float32))


def _encode_column(
    cells: pd.Series, column: IntegerColumn | NumberColumn | CategoryColumn, place: str
) -> Floats:
    """One column's block, [n, 1 or words, + 1 if nullable]."""
    match column:
        case CategoryColumn():
            words = _read_words(cells, column, place)
            block = np.column_stack([words == word for word in column.words]).astype(np.float64)
            missing = words == None  # noqa: E711 (elementwise)
        case IntegerColumn() | NumberColumn():
            numbers = _read_numbers(cells, column, place)
            missing = np.isnan(numbers)
            block = np.where(missing, 0.0, _scale(numbers, column))[:, np.newaxis]
    return np.column_stack([block, missing]) if column.nullable else block


def _encode_label(cells: pd.Series, schema: Schema, place: str) -> NDArray[np.bool_]:
    place = f"{place} {schema.roles.label!r}"
    match schema.label, schema.roles.positive_above:
        case CategoryColumn() as column, _:
            words = _read_words(cells, column, place)
            return np.isin(words, list(schema.roles.positive_values or ()))
        case (IntegerColumn() | NumberColumn()) as column, float(above):
            return np.greater(_read_numbers(cells, column, place), above)
        case _:
            raise AssertionError("a schema pairs its label with its rule")


def _read_numbers(cells: pd.Series, column: IntegerColumn | NumberColumn, place: str) -> Floats:
    """Cells as numbers within the bounds; missing is NaN."""
    numbers = np.array(pd.to_numeric(cells, errors="coerce"), dtype=np.float64)
    unreadable = np.isnan(numbers) & cells.notna().to_numpy(dtype=np.bool_)
    if isinstance(column, IntegerColumn):
        numbers = np.rint(numbers)
    outside = (numbers < column.min) | (numbers > column.max)
    match column.outside:
        case "reject" if bool(np.any(outside)):
            raise InputError(f"{place}: a cell is outside [min, max] and outside = 'reject'")
        case "missing":
            numbers[outside] = np.nan
        case "clip" | "reject":
            # No bound is nearest to a cell that is no number.
            if bool(np.any(unreadable)):
                raise InputError(f"{place}: a cell is not a number")
            numbers = np.clip(numbers, column.min, column.max)
    _require_present(np.isnan(numbers), nullable=column.nullable, place=place)
    return numbers


def _read_words(cells: pd.Series, column: CategoryColumn, place: str) -> Words:
    """Cells as declared words; missing is None."""
    present = cells.notna().to_numpy(dtype=np.bool_)
    words = np.array([str(cell) for cell in cells], dtype=np.object_)
    known = np.isin(words, list(column.words))
    if column.other is not None:
        words[present & ~known] = column.other
    elif column.outside == "missing":
        present = present & known
    elif bool(np.any(present & ~known)):
        raise InputError(f"{place}: a cell is none of the values and outside = 'reject'")
    words[~present] = None
    _require_present(~present, nullable=column.nullable, place=place)
    return words


def _require_present(missing: NDArray[np.bool_], *, nullable: bool, place: str) -> None:
    if not nullable and bool(np.any(missing)):
        raise InputError(f"{place}: a cell is missing and the column is not nullable")


def _scale(numbers: Floats, column: IntegerColumn | NumberColumn) -> Floats:
    """From [min, max] to [-1, 1]; NaN stays."""
    above, width = numbers - column.min, float(column.max) - float(column.min)
    if column.scale == "log1p":
        above, width = np.log1p(above), float(np.log1p(width))
    return np.clip(2.0 * (above / width) - 1.0, -1.0, 1.0)
