"""Synthetic rows as a model reads them: what the site's encoder gives for the decoded values."""

import numpy as np
import numpy.typing as npt

from sordino_protocols.columns import CategoryColumn, IntegerColumn, NumberColumn, NumericColumn
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.decoding import blocks, drawn_numbers
from sordino_protocols.synthesis.domain import (
    CategoryDomain,
    ColumnDomain,
    NumericDomain,
    SetDomain,
)

Cells = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Encoded = npt.NDArray[np.float32]
Generator = np.random.Generator


def features_of(cells: Cells, schema: Schema, *, rng: Generator) -> tuple[Encoded, Encoded]:
    """Features [rows, schema.feature_count] and labels [rows], float32.

    They are, number by number, what the encoder of a site makes of `decode(cells, schema, rng=rng)`
    with a generator in the same state.

    Args:
        cells: [rows, positions] of the schema's domain.
        schema: the public declaration.
        rng: draws numbers within their cells.

    Raises:
        InputError: the cells are not of this schema.
    """
    features, labels = list[Floats](), np.zeros(len(cells))
    for column, block in blocks(cells, schema):
        values = _drawn(column, block, rng)
        if column.name == schema.roles.label:
            labels = _label(values, schema)
        else:
            features.append(_encoded(values, column))
    return np.hstack(features).astype(np.float32), labels.astype(np.float32)


def _drawn(column: ColumnDomain, block: Cells, rng: Generator) -> Floats:
    """Numbers [rows], NaN where missing; cells of words [rows]; or a set's items [rows, items]."""
    if isinstance(column, NumericDomain):
        return drawn_numbers(block, column, rng)
    return block.astype(np.float64)


def _encoded(values: Floats, column: ColumnDomain) -> Floats:
    match column:
        case NumericDomain(column=declared):
            missing = np.isnan(values)
            scaled = np.where(missing, 0.0, _scaled(values, declared))[:, np.newaxis]
            return np.column_stack([scaled, missing]) if declared.nullable else scaled
        case CategoryDomain(shape=shape):
            return np.equal(values[:, np.newaxis], np.arange(shape.fine)).astype(np.float64)
        case SetDomain():
            return values


def _label(values: Floats, schema: Schema) -> Floats:
    match schema.task, schema.label:
        case "binary", CategoryColumn() as label:
            words = schema.roles.positive_values or ()
            return np.isin(values, [label.words.index(each) for each in words]).astype(np.float64)
        case "binary", _:
            return (values > (schema.roles.positive_above or 0.0)).astype(np.float64)
        case "classes", IntegerColumn() as label:
            return values - label.min
        case "number", (IntegerColumn() | NumberColumn()) as label:
            return _scaled(values, label)
        case _:
            return values


def _scaled(numbers: Floats, column: NumericColumn) -> Floats:
    """From [min, max] to [-1, 1], by the column's scale; NaN stays."""
    above, width = numbers - column.min, float(column.max) - float(column.min)
    if column.scale == "log1p":
        above, width = np.log1p(above), float(np.log1p(width))
    return np.clip(2.0 * (above / width) - 1.0, -1.0, 1.0)
