"""Noisy marginals of a site's cells: the step of every synthesis that looks at records.

A cell is a whole number that the public schema gives for a value, so which counts there are, and in
what order, is a function of the schema alone: a constant column, a missing value or a rare word
changes numbers and no shape. Noise is integer, exact and the operating system's; what is counted
has whole sensitivity, so nothing is ever rounded after the noise.

What must stay true: one unit adds at most 1 to at most `Marginal.contribution` counts of a
marginal. That holds for any array of cells whatever, not only for those that our encoder makes: a
cell outside its column is an error, and a set with too many items is cut before it is counted.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sordino_client.training.noise import Noise
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.shapes import ColumnShape, DomainShape, SetShape, SingleShape

Cells = npt.NDArray[np.int32]
Released = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]

_LOWEST, _HIGHEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max


def measure(
    cells: Cells, marginals: Sequence[Marginal], *, shape: DomainShape, noise: Noise
) -> Released:
    """Every marginal with its noise: costs `marginals.event_of(marginals, unit)`.

    Args:
        cells: [units, positions], one row a privacy unit, as `cell_encoding.encode_cells` gives.
        marginals: what to count, and with which noise.
        shape: of the cells.
        noise: source of the randomness.

    Returns:
        Flat counts, marginal by marginal, each as `Marginal` lays it out; may be negative.

    Raises:
        ValueError: the cells are not of this shape.
    """
    noisy = with_noise(exact_counts(cells, marginals, shape=shape), marginals, noise=noise)
    # No count comes near the ends of 32 bits; to clip is post-processing all the same.
    return np.clip(noisy, _LOWEST, _HIGHEST).astype(np.int32)


def with_noise(exact: Counts, marginals: Sequence[Marginal], *, noise: Noise) -> Counts:
    """Counts plus independent discrete Gaussian noise of each marginal's own sigma.

    Args:
        exact: flat counts, marginal by marginal; secret. It is not changed.
        marginals: whose counts they are.
        noise: source of the randomness.
    """
    noisy = exact.copy()
    for noise_std, places in _by_noise(marginals).items():
        where = np.concatenate([np.arange(each.start, each.stop) for each in places])
        noisy[where] += noise.discrete_gaussian(len(where), noise_std=noise_std)
    return noisy


def exact_counts(cells: Cells, marginals: Sequence[Marginal], *, shape: DomainShape) -> Counts:
    """The same counts without noise. A secret: nothing may leave a site that is made of it alone.

    Raises:
        ValueError: the cells are not of this shape.
    """
    table = _Table(cells, shape)
    counts = [table.counts(each) for each in marginals]
    return np.concatenate([np.zeros(0, dtype=np.int64), *counts])


class _Table:
    """Checked cells, column by column, with what several marginals share."""

    def __init__(self, cells: Cells, shape: DomainShape) -> None:
        _check(cells, shape)
        self._shape = shape
        self._cells = cells
        self._starts = tuple(shape.starts())
        self._coarse = {
            index: column.coarse_of()[cells[:, start]].astype(np.int64)
            for index, (start, column) in enumerate(zip(self._starts, shape.columns, strict=True))
            if isinstance(column, SingleShape)
        }

    def counts(self, marginal: Marginal) -> Counts:
        """One marginal, flat."""
        match marginal.columns:
            case (column,) if marginal.resolution == "fine":
                counts = self._fine(column)
            case (first, second) if marginal.resolution == "coarse":
                counts = self._pair(first, second)
            case _:
                raise ValueError(f"no counts are of {marginal.columns}")
        if counts.size != marginal.cells:
            raise ValueError(f"{marginal.columns} has {counts.size} counts, not {marginal.cells}")
        return counts

    def _fine(self, index: int) -> Counts:
        match self._shape.columns[index]:
            case SetShape() as column:
                counts: Counts = self._items(index, column).sum(axis=0, dtype=np.int64)
                return counts
            case SingleShape() as column:
                return _counted(self._cells[:, self._starts[index]], column.fine)

    def _pair(self, first: int, second: int) -> Counts:
        match self._shape.columns[first], self._shape.columns[second]:
            case SetShape() as column, SetShape() if first == second:
                return self._item_pairs(first, column)
            case SetShape() as column, SingleShape(coarse=coarse):
                return self._items_by_cell(first, column, second, coarse).ravel()
            case SingleShape(coarse=coarse), SetShape() as column:
                return self._items_by_cell(second, column, first, coarse).T.ravel()
            case SingleShape() as one, SingleShape() as other if first != second:
                pairs = self._coarse[first] * other.coarse + self._coarse[second]
                return _counted(pairs, one.coarse * other.coarse)
            case _:
                raise ValueError(f"the columns {first} and {second} are counted in no pair")

    def _items(self, index: int, column: SetShape) -> Cells:
        """The items of a set [units, items], 0 or 1, no unit with more than it may have."""
        items = self._cells[:, self._starts[index] : self._starts[index] + column.items]
        return np.where(np.cumsum(items, axis=1) <= column.at_most, items, 0).astype(np.int32)

    def _items_by_cell(self, index: int, column: SetShape, single: int, coarse: int) -> Counts:
        """[items, coarse cells of the single column]."""
        rows, having = np.nonzero(self._items(index, column))
        pairs = having * coarse + self._coarse[single][rows]
        return _counted(pairs, column.items * coarse).reshape(column.items, coarse)

    def _item_pairs(self, index: int, column: SetShape) -> Counts:
        # In float64 sums of ones are exact, and the product is a library's fastest.
        items = self._items(index, column).astype(np.float64)
        together = items.T @ items
        return together[np.triu_indices(column.items, k=1)].astype(np.int64)


def _check(cells: Cells, shape: DomainShape) -> None:
    """A row out of bounds could count in a cell that is not its own, or more than once."""
    if cells.ndim != 2 or cells.shape[1] != shape.position_count:  # noqa: PLR2004
        raise ValueError(f"expected cells [units, {shape.position_count}]")
    below = np.concatenate([_limits(column) for column in shape.columns])
    if bool(np.any(cells < 0)) or bool(np.any(cells >= below)):
        raise ValueError("a cell is outside its column")


def _limits(column: ColumnShape) -> npt.NDArray[np.int64]:
    """One above the largest cell of each position."""
    if isinstance(column, SetShape):
        return np.full(column.items, 2)
    return np.array([column.fine])


def _counted(cells: npt.NDArray[np.integer], length: int) -> Counts:
    return np.bincount(cells, minlength=length).astype(np.int64, copy=False)


def _by_noise(marginals: Sequence[Marginal]) -> dict[float, list[slice]]:
    """Where the counts of each sigma stand: one draw a sigma costs less than one a marginal."""
    places = defaultdict[float, list[slice]](list)
    for marginal, place in zip(marginals, places_of(marginals), strict=True):
        places[marginal.noise_std].append(place)
    return places


def places_of(marginals: Sequence[Marginal]) -> Iterator[slice]:
    """Where each marginal stands among the flat counts."""
    begin = 0
    for marginal in marginals:
        yield slice(begin, begin + marginal.cells)
        begin += marginal.cells
