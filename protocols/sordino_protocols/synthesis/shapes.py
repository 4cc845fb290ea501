"""The shape of a table of cells: what a plan, and its price, must know of a schema, and no more.

A job carries its shape, so that whoever holds the job computes the same plan without the schema; a
site refuses a job whose shape is not that of its own schema.
"""

from collections.abc import Iterator
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from sordino_protocols.files import STRICT

LARGEST_CELL_COUNT = 100_000
LARGEST_COLUMN_COUNT = 1_000

Cells = Annotated[int, Field(ge=1, le=LARGEST_CELL_COUNT)]


class SingleShape(BaseModel):
    """A column of which a record has one cell, at one of two resolutions.

    A coarse cell is a run of fine ones, so the sizes of the runs say which coarse cell a fine one
    is in. A missing cell is the last fine cell, alone in the last run.

    Attributes:
        groups: how many fine cells each coarse cell holds, in order.
    """

    model_config = STRICT

    groups: tuple[Cells, ...] = Field(min_length=1, max_length=LARGEST_CELL_COUNT)

    @property
    def fine(self) -> int:
        """Cells at full resolution, a missing one included."""
        return sum(self.groups)

    @property
    def coarse(self) -> int:
        """Cells at the resolution of pairs."""
        return len(self.groups)

    def coarse_of(self) -> npt.NDArray[np.int32]:
        """The coarse cell of each fine cell, [fine]."""
        return np.repeat(np.arange(self.coarse, dtype=np.int32), self.groups)


class SetShape(BaseModel):
    """A column of which a record has several items.

    Attributes:
        items: how many there are to have.
        at_most: how many of them a record has at most.
    """

    model_config = STRICT

    items: Cells
    at_most: Cells

    @model_validator(mode="after")
    def _ordered(self) -> "SetShape":
        if self.at_most > self.items:
            raise ValueError("at_most must be at most items")
        return self


ColumnShape = SingleShape | SetShape


class DomainShape(BaseModel):
    """All columns, in the order of their names.

    A record is one row of whole numbers: the fine cell of each single column, and a 0 or a 1 for
    each item of each set.

    Attributes:
        columns: the columns' shapes.
        label: which of them is the label; None where there is none.
    """

    model_config = STRICT

    columns: tuple[ColumnShape, ...] = Field(min_length=1, max_length=LARGEST_COLUMN_COUNT)
    label: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "DomainShape":
        if self.label is not None and (
            self.label >= len(self.columns) or isinstance(self.columns[self.label], SetShape)
        ):
            raise ValueError("label must be the index of a single column")
        return self

    @property
    def position_count(self) -> int:
        """How many whole numbers a record is."""
        return sum(width_of(column) for column in self.columns)

    def starts(self) -> Iterator[int]:
        """The first position of each column."""
        begin = 0
        for column in self.columns:
            yield begin
            begin += width_of(column)


def width_of(column: ColumnShape) -> int:
    """How many positions a column takes in a record."""
    return column.items if isinstance(column, SetShape) else 1
