"""The cells of a data set: a pure function of its schema.

A record is a row of whole numbers: for each column that is read, in the order of the names, the
fine cell that its value is in, and for a set a 0 or a 1 for each declared word. A missing cell has
a number of its own where the column is nullable: the last one. Nothing is taken from records, so a
constant column, a single null or an undeclared word changes no shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.binning import near_equal_runs, runs_between
from sordino_protocols.columns import (
    AnyColumn,
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    NumericColumn,
    SetColumn,
    TextColumn,
    TokensColumn,
    VectorColumn,
)
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.shapes import (
    LARGEST_CELL_COUNT,
    LARGEST_COLUMN_COUNT,
    DomainShape,
    SetShape,
    SingleShape,
)

MOST_COARSE_NUMBERS = 16
MOST_COARSE_WORDS = 32

Cells = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NumericDomain:
    """The cells of a column of numbers.

    Attributes:
        name: the column's.
        column: its declaration.
        shape: how many fine cells there are, and which coarse cell each is in.
    """

    name: str
    column: NumericColumn
    shape: SingleShape

    @property
    def missing(self) -> int | None:
        """The cell of a missing value; None where there is none."""
        return self.shape.fine - 1 if self.column.nullable else None

    @property
    def boundaries(self) -> Floats:
        """Where each cell of a value but the first begins, ascending."""
        return self.column.boundaries()

    def cells_of(self, numbers: Floats) -> Cells:
        """The fine cell of each number.

        Args:
            numbers: within the declared bounds, whole where the column is of integers, none NaN.
        """
        return np.searchsorted(self.boundaries, numbers, side="right").astype(np.int32)


@dataclass(frozen=True, slots=True)
class CategoryDomain:
    """The cells of a category: one a word, in the order of `column.words`; attributes as above."""

    name: str
    column: CategoryColumn
    shape: SingleShape

    @property
    def missing(self) -> int | None:
        """The cell of a missing value; None where there is none."""
        return self.shape.fine - 1 if self.column.nullable else None


@dataclass(frozen=True, slots=True)
class SetDomain:
    """The positions of a set: a 0 or a 1 for each of `column.words`; attributes as above."""

    name: str
    column: SetColumn
    shape: SetShape


ColumnDomain = NumericDomain | CategoryDomain | SetDomain


@dataclass(frozen=True, slots=True)
class Domain:
    """All cells of a data set.

    Attributes:
        columns: in the order of their names.
        shape: of all: what a plan knows of them.
    """

    columns: tuple[ColumnDomain, ...]
    shape: DomainShape

    @property
    def position_count(self) -> int:
        """How many whole numbers a record is."""
        return self.shape.position_count

    def starts(self) -> Iterator[tuple[int, ColumnDomain]]:
        """Each column and its first position in a record."""
        yield from zip(self.shape.starts(), self.columns, strict=True)


def domain_of(schema: Schema) -> Domain:
    """The cells that a schema declares.

    Raises:
        InputError: a column cannot be synthesised, or there are too many columns or cells; names
            the column and the fix.
    """
    columns = tuple(
        _domain_of(name, column)
        for name, column in sorted(schema.columns.items())
        if not isinstance(column, TextColumn)
    )
    if len(columns) > LARGEST_COLUMN_COUNT:
        raise InputError(f"columns: at most {LARGEST_COLUMN_COUNT} can be synthesised")
    label = [column.name for column in columns].index(schema.roles.label)
    shape = DomainShape(columns=tuple(column.shape for column in columns), label=label)
    return Domain(columns, shape)


def _domain_of(name: str, column: AnyColumn) -> ColumnDomain:
    match column:
        case IntegerColumn() | NumberColumn():
            return NumericDomain(name, column, _single(name, _runs_of_numbers(column), column))
        case CategoryColumn():
            return CategoryDomain(name, column, _single(name, _runs_of_words(column), column))
        case SetColumn() if column.words:
            shape = SetShape(items=len(column.words), at_most=column.at_most)
            return SetDomain(name, column, shape)
        case SetColumn():
            raise InputError(f"columns.{name}: the words of values_file are not read yet")
        case VectorColumn() | TokensColumn():
            raise InputError(
                f"columns.{name}: a column of type {column.type!r} cannot be synthesised; leave it"
                " out of the job's columns"
            )
        case TextColumn():
            raise AssertionError("text has no cells")


def _single(
    name: str, runs: tuple[int, ...], column: NumericColumn | CategoryColumn
) -> SingleShape:
    groups = (*runs, 1) if column.nullable else runs
    if sum(groups) > LARGEST_CELL_COUNT:
        raise InputError(f"columns.{name}: more than {LARGEST_CELL_COUNT} cells; lower bins")
    return SingleShape(groups=groups)


def _runs_of_numbers(column: NumericColumn) -> tuple[int, ...]:
    boundaries = column.boundaries()
    if column.coarse is not None:
        width = float(column.max) - float(column.min)
        return runs_between(boundaries, column.coarse, width=width)
    return near_equal_runs(len(boundaries) + 1, at_most=MOST_COARSE_NUMBERS)


def _runs_of_words(column: CategoryColumn) -> tuple[int, ...]:
    if column.coarse_groups is not None:
        return tuple(len(group) for group in column.coarse_groups)
    return near_equal_runs(len(column.words), at_most=MOST_COARSE_WORDS)
