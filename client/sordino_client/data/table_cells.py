"""From encoded records to cells: what marginals, generators and counting queries look at.

A cell is read off what the encoder made of a record, never off the source again. So records that
the encoder cannot tell apart have the same cells, and what the split promises of neighbouring
tables holds for their cells too. Where a label says less than its column (a number that is above
something, or not), the encoder keeps the column's cell beside it.
"""

import numpy as np
import numpy.typing as npt

from sordino_client.data.label_cells import cells_of_label, scaled_cells
from sordino_client.data.storage import FeatureArray
from sordino_client.data.table import Table
from sordino_protocols.columns import (
    AnyColumn,
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    SetColumn,
    TextColumn,
    TokensColumn,
    VectorColumn,
    width_of,
)
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema

Cells = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]


def cells_of(table: Table, schema: Schema, *, rows: Rows | None = None) -> Cells:
    """The cells of encoded records.

    Args:
        table: what the schema's encoder made.
        schema: the public declaration.
        rows: which records, in this order; None: all.

    Returns:
        [records, positions]: by column name the fine cell of a single value, and of a set a 0 or a
        1 for each declared word; text has none.

    Raises:
        InputError: the schema has a column that has no cells.
    """
    require_cells(schema)
    chosen = slice(None) if rows is None else rows
    features = table.features[chosen]
    blocks, begin = dict[str, Cells](), 0
    for name, column in schema.features:
        width = width_of(column)
        blocks[name] = _column_cells(features[:, begin : begin + width], column)
        begin += width
    kept = None if table.label_cells is None else table.label_cells[chosen]
    blocks[schema.roles.label] = cells_of_label(table.labels[chosen], kept, schema)[:, np.newaxis]
    return np.concatenate([blocks[name] for name in sorted(blocks)], axis=1)


def require_cells(schema: Schema) -> None:
    """Return if every column of the schema has cells.

    Raises:
        InputError: a column has none; names it.
    """
    for name, column in schema.features:
        if isinstance(column, VectorColumn | TokensColumn):
            raise InputError(
                f"column {name!r} is of type {column.type!r}: its values have no cells, so the data"
                " set can be neither synthesized nor counted"
            )


def _column_cells(block: FeatureArray, column: AnyColumn) -> Cells:
    """One feature column's cells [records, positions] from its features [records, width]."""
    match column:
        case CategoryColumn():
            # One of them is 1; the indicator of a missing cell stands last, as its cell does.
            words: Cells = np.argmax(block, axis=1).astype(np.int32)
            return words[:, np.newaxis]
        case IntegerColumn() | NumberColumn():
            cells = scaled_cells(block[:, 0].astype(np.float32, copy=False), column)
            if column.nullable:
                cells[block[:, 1] > 0] = len(column.boundaries()) + 1
            return cells[:, np.newaxis]
        case SetColumn():
            return block.astype(np.int32)
        case TextColumn() | VectorColumn() | TokensColumn():
            raise AssertionError("a column without cells is no feature with cells")
