"""The cell of a label: read off the label where it says it, else kept beside it.

A label that is positive or not says less than its column, unless the column has two values. Where
it does, the column's cell is part of an encoded record, and of what the split takes for its
content: else two records could be the same for the split and different for a marginal, and
neighbouring tables would differ in more than one record.
"""

import numpy as np
import numpy.typing as npt

from sordino_client.data.scaling import on_scale
from sordino_protocols.columns import CategoryColumn, IntegerColumn, NumberColumn
from sordino_protocols.schema import Schema

Cells = npt.NDArray[np.int32]
Labels = npt.NDArray[np.float32]


def says_its_cell(schema: Schema) -> bool:
    """Whether an encoded label determines the cell of its column."""
    match schema.label:
        case _ if schema.task != "binary":
            return True
        case CategoryColumn() as column:
            return len(column.words) == 2  # noqa: PLR2004
        case IntegerColumn() as column:
            return column.max - column.min == 1
        case NumberColumn():
            return False


def scaled_cells(scaled: Labels, column: IntegerColumn | NumberColumn) -> Cells:
    """Fine cells of numbers as the encoder scales them.

    The boundaries are scaled and rounded as the numbers are, which keeps their order: a number at
    a boundary is in the cell that begins there.
    """
    boundaries = on_scale(column.boundaries(), column).astype(np.float32)
    return np.searchsorted(boundaries, scaled, side="right").astype(np.int32)


def cells_of_label(labels: Labels, kept: Cells | None, schema: Schema) -> Cells:
    """The fine cell of each label's column.

    Args:
        labels: as encoded.
        kept: the cells that were kept beside them; None where labels say them.
        schema: the public declaration.

    Raises:
        ValueError: labels do not say their cells, and none were kept.
    """
    if kept is not None:
        return kept
    if not says_its_cell(schema):
        raise ValueError("labels of this schema are encoded with their cells")
    match schema.label, schema.task:
        case CategoryColumn(), "classes":
            return labels.astype(np.int32)
        case CategoryColumn() as column, _:
            positive = column.words.index((schema.roles.positive_values or ("",))[0])
            return np.where(labels > 0, positive, 1 - positive).astype(np.int32)
        case (IntegerColumn() | NumberColumn()) as column, "number":
            return scaled_cells(labels, column)
        case (IntegerColumn() | NumberColumn()) as column, _:
            # Of classes the number above the smallest; of two whole numbers which it is.
            numbers = labels.astype(np.float64) + column.min
            return np.searchsorted(column.boundaries(), numbers, side="right").astype(np.int32)
