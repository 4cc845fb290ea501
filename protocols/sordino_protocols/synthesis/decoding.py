"""From cells back to values, in the format of the source: words, numbers, None.

A number is drawn uniformly within its cell, since the cell is all that is known of it; so decoding
needs randomness, and the same generator gives the same values to `decode` and `features_of`.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sordino_protocols.columns import IntegerColumn
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import (
    CategoryDomain,
    ColumnDomain,
    NumericDomain,
    SetDomain,
    domain_of,
)
from sordino_protocols.synthesis.shapes import ColumnShape, SetShape, width_of

Cells = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Generator = np.random.Generator

# A drawn number keeps this share of its cell's width from the ends, and more where cells are so
# narrow that a model's single precision would round it into the next one.
_MARGIN = 1e-5
_MARGIN_A_CELL = 1e-7
_LARGEST_MARGIN = 0.25


def decode(cells: Cells, schema: Schema, *, rng: Generator) -> dict[str, list[object]]:
    """Records in the format of the source.

    Args:
        cells: [rows, positions] of the schema's domain.
        schema: the public declaration.
        rng: draws numbers within their cells.

    Returns:
        The columns in the order of their declaration, text left out: an int, a float or a word, or
        None where missing; for a set the list of its words.

    Raises:
        InputError: the cells are not of this schema.
    """
    columns = {column.name: _values(column, block, rng) for column, block in blocks(cells, schema)}
    return {name: columns[name] for name in schema.columns if name in columns}


def blocks(cells: Cells, schema: Schema) -> Iterator[tuple[ColumnDomain, Cells]]:
    """Each column in the order of the names, and its cells: [rows], of a set [rows, items].

    Raises:
        InputError: the cells are not of this schema.
    """
    domain = domain_of(schema)
    if cells.ndim != 2 or cells.shape[1] != domain.position_count:  # noqa: PLR2004 (rows, positions)
        raise InputError(f"cells are {cells.shape}, expected rows of {domain.position_count}")
    for position, column in domain.starts():
        block = cells[:, position : position + width_of(column.shape)]
        if len(block) and not (block.min() >= 0 and block.max() < _cell_count(column.shape)):
            raise InputError(f"columns.{column.name}: a cell is outside the column")
        yield column, block if isinstance(column, SetDomain) else block[:, 0]


def drawn_numbers(cells: Cells, column: NumericDomain, rng: Generator) -> Floats:
    """A number within each cell, uniformly, whole where the column is of integers; missing is NaN.

    Args:
        cells: [rows], of the column.
        column: the cells' domain.
        rng: draws.
    """
    declared, boundaries = column.column, column.boundaries
    is_missing = np.zeros(len(cells), dtype=np.bool_)
    if column.missing is not None:
        is_missing = cells == column.missing
    places = np.where(is_missing, 0, cells)
    ends = float(declared.max) + isinstance(declared, IntegerColumn)
    edges = np.concatenate([[float(declared.min)], boundaries, [ends]])
    low, width = edges[places], edges[places + 1] - edges[places]
    margin = min(_MARGIN + _MARGIN_A_CELL * len(edges), _LARGEST_MARGIN)
    points = rng.random(len(cells))
    if isinstance(declared, IntegerColumn):
        # Of a cell with few numbers, all of them are inside.
        inside = np.floor(margin * width)
        drawn = low + inside + np.floor(points * (width - 2 * inside))
    else:
        drawn = low + width * (margin + points * (1 - 2 * margin))
    return np.where(is_missing, np.nan, drawn)


def _values(column: ColumnDomain, block: Cells, rng: Generator) -> list[object]:
    match column:
        case NumericDomain():
            return _numbers(drawn_numbers(block, column, rng), column)
        case CategoryDomain():
            words = np.array([*column.column.words, None], dtype=np.object_)
            return list(words[block])
        case SetDomain():
            return [_chosen(column.column.words, row) for row in block]


def _numbers(drawn: Floats, column: NumericDomain) -> list[object]:
    spell = int if isinstance(column.column, IntegerColumn) else float
    return [None if np.isnan(number) else spell(number) for number in drawn]


def _chosen(words: tuple[str, ...], row: Cells) -> list[str]:
    return [words[index] for index in np.flatnonzero(row)]


def _cell_count(shape: ColumnShape) -> int:
    return 2 if isinstance(shape, SetShape) else shape.fine
