"""Where each coarse cell stands when the cells of all columns are put into one vector.

A record is a vector of zeros and ones then: one 1 in the run of each single column, and a 1 for
each item of a set. All pairs of columns are one matrix, so a fit needs one product of matrices a
step, whatever the number of columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.shapes import ColumnShape, DomainShape, SetShape
from sordino_protocols.synthesis.tables import SiteTable

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stack:
    """Runs of coarse cells, one a column.

    Attributes:
        shape: of the cells.
        starts: where each column's run begins.
        widths: how long it is: coarse cells, or items.
    """

    shape: DomainShape
    starts: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def length(self) -> int:
        """Of the vector."""
        return sum(self.widths)

    def run(self, column: int) -> slice:
        """The places of a column's cells."""
        return slice(self.starts[column], self.starts[column] + self.widths[column])

    def columns(self) -> Iterator[tuple[ColumnShape, slice]]:
        """Each column's shape, and the places of its cells."""
        for index, column in enumerate(self.shape.columns):
            yield column, self.run(index)

    def is_item(self) -> npt.NDArray[np.bool_]:
        """Which places are items of sets, [length]."""
        kinds = [isinstance(column, SetShape) for column in self.shape.columns]
        return np.repeat(np.array(kinds), self.widths)


def stack_of(shape: DomainShape) -> Stack:
    """The stack of a shape's columns."""
    widths = tuple(
        column.items if isinstance(column, SetShape) else column.coarse for column in shape.columns
    )
    ends = np.cumsum((0, *widths))
    return Stack(shape, tuple(int(end) for end in ends[:-1]), widths)


@dataclass(frozen=True, slots=True, eq=False)
class StackedTable:
    """A site's marginals at coarse resolution, in the places of a stack; not measured: precision 0.

    Attributes:
        ones: counts of single cells, [length].
        one_precisions: 1 over the variance of their noise, [length].
        pairs: counts of pairs of cells, symmetric [length, length].
        pair_precisions: 1 over the variance of their noise, as large.
    """

    ones: Floats
    one_precisions: Floats
    pairs: Floats
    pair_precisions: Floats


def stacked(table: SiteTable, stack: Stack) -> StackedTable:
    """A table's marginals as vectors and matrices; fine counts are added up to coarse ones."""
    length = stack.length
    found = StackedTable(
        np.zeros(length), np.zeros(length), np.zeros((length, length)), np.zeros((length, length))
    )
    for marginal, noise_std, counts in table.parts():
        if len(marginal.columns) == 1:
            _put_one(found, stack, marginal.columns[0], counts, noise_std)
        else:
            _put_pair(found, stack, marginal, counts, noise_std)
    return found


def _put_one(
    found: StackedTable, stack: Stack, index: int, counts: Floats, noise_std: float
) -> None:
    column, run = stack.shape.columns[index], stack.run(index)
    sizes = np.ones(run.stop - run.start, dtype=np.int64)
    if not isinstance(column, SetShape):
        sizes = np.array(column.groups)
    found.ones[run] = np.add.reduceat(counts, np.cumsum(sizes) - sizes)
    found.one_precisions[run] = 1 / (sizes * noise_std**2)


def _put_pair(
    found: StackedTable, stack: Stack, marginal: Marginal, counts: Floats, noise_std: float
) -> None:
    first, second = (stack.run(each) for each in marginal.columns)
    block = np.zeros((first.stop - first.start, second.stop - second.start))
    measured = np.ones_like(block)
    if marginal.columns[0] == marginal.columns[1]:
        above = np.triu_indices(len(block), 1)
        block[above], measured = counts, np.triu(measured, 1)
        block, measured = block + block.T, measured + measured.T
    else:
        block = counts.reshape(block.shape)
    for rows, columns, turned in ((first, second, False), (second, first, True)):
        found.pairs[rows, columns] = block.T if turned else block
        found.pair_precisions[rows, columns] = (measured.T if turned else measured) / noise_std**2
