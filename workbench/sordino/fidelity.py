"""How like the real records synthetic ones are: marginals, queries, associations, near copies.

Everything here reads real records, so its numbers are as secret as they are: they are for the site
that holds the records, and for benchmarks on public data. Records are cells, as
`sordino_protocols.synthesis.domain` describes them, so tables of any columns are compared alike.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

Cells = npt.NDArray[np.int32]
Codes = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Resolution = Literal["fine", "coarse"]

# Above so many cells, those that occur are sorted rather than all counted.
_MOST_COUNTERS = 2**22
_MOST_MARGINALS = 1_000
_QUERY_COLUMNS = 3
_ROWS = 256


@dataclass(frozen=True, slots=True)
class Distances:
    """Total variation distances of marginals: half the sum of absolute differences of shares.

    Attributes:
        columns: of each marginal, indices into the shape's columns, ascending.
        values: its distance, in [0, 1].
    """

    columns: tuple[tuple[int, ...], ...]
    values: Floats

    @property
    def mean(self) -> float:
        """Over all marginals."""
        return float(self.values.mean())

    def matrix(self, size: int) -> Floats:
        """Distances of single columns and of pairs [size, size]; NaN where there is none."""
        matrix = np.full((size, size), np.nan)
        for columns, value in zip(self.columns, self.values.tolist(), strict=True):
            matrix[columns[0], columns[-1]] = matrix[columns[-1], columns[0]] = value
        return matrix


@dataclass(frozen=True, slots=True)
class SetDistances:
    """How a column of sets differs.

    Attributes:
        sizes: total variation distance of the number of items.
        items: mean absolute difference of the share of records that have an item.
        pairs: the same of two items together; NaN for a set of one item.
    """

    sizes: float
    items: float
    pairs: float


def distances(
    real: Cells, synthetic: Cells, shape: DomainShape, *, ways: int, resolution: Resolution
) -> Distances:
    """Compare all marginals of so many single columns, or a thousand of them, evenly chosen.

    Args:
        real: [records, positions]; at least one record.
        synthetic: the same; any number of records.
        shape: of both.
        ways: how many columns a marginal has; columns of sets have `set_distances`.
        resolution: of the cells.
    """
    codes = [_codes(cells, shape, resolution) for cells in (real, synthetic)]
    sizes = _sizes(shape, resolution)
    chosen = _evenly(list(itertools.combinations(sorted(sizes), ways)), _MOST_MARGINALS)
    values = [_variation(*(_joint(each, sizes, columns) for each in codes)) for columns in chosen]
    return Distances(tuple(chosen), np.array(values))


def set_distances(real: Cells, synthetic: Cells, shape: DomainShape) -> dict[int, SetDistances]:
    """Compare every column of sets, by its index in the shape."""
    found = dict[int, SetDistances]()
    for index, start, column in _sets(shape):
        ours, theirs = (
            cells[:, start : start + column.items].astype(np.float64) for cells in (real, synthetic)
        )
        sizes = _variation(*(each.sum(axis=1).astype(np.int64) for each in (ours, theirs)))
        together = np.abs(ours.T @ ours / len(ours) - theirs.T @ theirs / len(theirs))
        pairs = together[np.triu_indices(column.items, k=1)]
        found[index] = SetDistances(
            sizes=sizes,
            items=float(np.diag(together).mean()),
            pairs=float(pairs.mean()) if len(pairs) else math.nan,
        )
    return found


def query_shares(
    real: Cells,
    synthetic: Cells,
    shape: DomainShape,
    *,
    rng: np.random.Generator,
    count: int = 1_000,
) -> Floats:
    """Random counting queries: the share of records that each holds for, [count, 2].

    A query is a conjunction over up to three columns. Of a single column it asks for a run of
    cells, or any choice of them, each with equal chance; of a set, whether a record has any, all or
    none of one or two items.

    Args:
        real: [records, positions]; its shares are in the first column.
        synthetic: the same; in the second.
        shape: of both.
        rng: which queries; the same generator asks the same ones.
        count: how many.
    """
    shares, starts = np.empty((count, 2)), tuple(shape.starts())
    for row in range(count):
        ways = min(_QUERY_COLUMNS, len(shape.columns))
        holds = [np.ones(len(cells), dtype=np.bool_) for cells in (real, synthetic)]
        for column in rng.choice(len(shape.columns), size=ways, replace=False).tolist():
            asked = _condition(shape.columns[column], starts[column], rng)
            for each, cells in zip(holds, (real, synthetic), strict=True):
                np.logical_and(each, asked.holds(cells), out=each)
        shares[row] = [float(each.mean()) for each in holds]
    return shares


def associations(cells: Cells, shape: DomainShape) -> Floats:
    """Cramér's V of all pairs of single columns at coarse resolution; others are NaN.

    Returns:
        [columns, columns], symmetric, in [0, 1]; NaN where a column has one value, too.
    """
    codes, sizes = _codes(cells, shape, "coarse"), _sizes(shape, "coarse")
    matrix = np.full((len(shape.columns), len(shape.columns)), np.nan)
    for first, second in itertools.combinations_with_replacement(sorted(sizes), 2):
        joint = np.bincount(
            codes[first] * sizes[second] + codes[second], minlength=sizes[first] * sizes[second]
        ).reshape(sizes[first], sizes[second])
        matrix[first, second] = matrix[second, first] = _cramers_v(joint.astype(np.float64))
    return matrix


def closest_records(
    real: Cells, synthetic: Cells, shape: DomainShape, *, rng: np.random.Generator, count: int
) -> Codes:
    """In how many columns each of some synthetic records differs from the real one nearest to it.

    A diagnostic and no more: copies can be safe, and what leaks need not be a copy (Ganev & De
    Cristofaro 2023). Nothing may be concluded from it about privacy.

    Args:
        real: [records, positions].
        synthetic: the same.
        shape: of both; a set differs if any item does.
        rng: which synthetic records.
        count: how many of them; all if there are no more.

    Returns:
        [count], from 0 for an identical record to the number of columns.
    """
    chosen = rng.permutation(len(synthetic))[:count]
    ours, theirs = _whole_columns(real, synthetic[chosen], shape)
    nearest = np.empty(len(chosen), dtype=np.int64)
    for begin in range(0, len(chosen), _ROWS):
        block = theirs[begin : begin + _ROWS]
        differing = np.zeros((len(block), len(ours)), dtype=np.int16)
        for column in range(ours.shape[1]):
            differing += block[:, column, np.newaxis] != ours[:, column]
        nearest[begin : begin + _ROWS] = differing.min(axis=1)
    return nearest


@dataclass(frozen=True, slots=True)
class _CellsAsked:
    """Whether a single column's cell is among those asked for."""

    position: int
    is_asked: Bools

    def holds(self, cells: Cells) -> Bools:
        return self.is_asked[cells[:, self.position]]


@dataclass(frozen=True, slots=True)
class _ItemsAsked:
    """Whether a set has any, all or none of some items."""

    positions: Sequence[int]
    how: int

    def holds(self, cells: Cells) -> Bools:
        has = cells[:, self.positions] > 0
        match self.how:
            case 0:
                return np.asarray(has.any(axis=1))
            case 1:
                return np.asarray(has.all(axis=1))
            case _:
                return ~np.asarray(has.any(axis=1))


def _condition(
    column: SingleShape | SetShape, start: int, rng: np.random.Generator
) -> _CellsAsked | _ItemsAsked:
    match column:
        case SetShape(items=items):
            chosen = rng.choice(items, size=min(items, int(rng.integers(1, 3))), replace=False)
            return _ItemsAsked([start + item for item in chosen.tolist()], int(rng.integers(3)))
        case SingleShape(fine=fine):
            is_asked = rng.random(fine) < 0.5  # noqa: PLR2004
            if rng.random() < 0.5:  # noqa: PLR2004
                low, high = sorted(rng.integers(0, fine, size=2).tolist())
                places = np.arange(fine)
                is_asked = (places >= low) & (places <= high)
            return _CellsAsked(start, is_asked)


def _codes(cells: Cells, shape: DomainShape, resolution: Resolution) -> dict[int, Codes]:
    """Each single column's cells, by the column's index."""
    found = dict[int, Codes]()
    for index, (start, column) in enumerate(zip(shape.starts(), shape.columns, strict=True)):
        if isinstance(column, SingleShape):
            fine = cells[:, start].astype(np.int64)
            found[index] = fine if resolution == "fine" else column.coarse_of()[fine].astype(int)
    return found


def _sizes(shape: DomainShape, resolution: Resolution) -> dict[int, int]:
    return {
        index: column.fine if resolution == "fine" else column.coarse
        for index, column in enumerate(shape.columns)
        if isinstance(column, SingleShape)
    }


def _sets(shape: DomainShape) -> Iterator[tuple[int, int, SetShape]]:
    for index, (start, column) in enumerate(zip(shape.starts(), shape.columns, strict=True)):
        if isinstance(column, SetShape):
            yield index, start, column


def _joint(codes: dict[int, Codes], sizes: dict[int, int], columns: Sequence[int]) -> Codes:
    """One number for the cells of several columns together."""
    joint = np.zeros(len(codes[columns[0]]), dtype=np.int64)
    for column in columns:
        joint = joint * sizes[column] + codes[column]
    return joint


def _variation(real: Codes, synthetic: Codes) -> float:
    """Total variation distance of the shares of each code."""
    size = 1 + int(max(real.max(initial=0), synthetic.max(initial=0)))
    if size > _MOST_COUNTERS:
        _, places = np.unique(np.concatenate([real, synthetic]), return_inverse=True)
        real, synthetic = places[: len(real)], places[len(real) :]
        size = 1 + int(places.max())
    shares = [np.bincount(each, minlength=size) / len(each) for each in (real, synthetic)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def _evenly(items: list[tuple[int, ...]], most: int) -> list[tuple[int, ...]]:
    if len(items) <= most:
        return items
    return [items[place] for place in np.linspace(0, len(items) - 1, most).astype(int).tolist()]


def _cramers_v(joint: Floats) -> float:
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    joint = joint[rows > 0][:, columns > 0] / joint.sum()
    if min(joint.shape) == 1:
        return math.nan
    expected = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    squared = float(((joint - expected) ** 2 / expected).sum())
    return math.sqrt(squared / (min(joint.shape) - 1))


def _whole_columns(real: Cells, synthetic: Cells, shape: DomainShape) -> tuple[Codes, Codes]:
    """A number a column, equal where the column is: of a set, which of all that occur it is."""
    blocks = list[tuple[Codes, Codes]]()
    for start, column in zip(shape.starts(), shape.columns, strict=True):
        width = column.items if isinstance(column, SetShape) else 1
        both = np.concatenate([each[:, start : start + width] for each in (real, synthetic)])
        _, places = np.unique(both, axis=0, return_inverse=True)
        places = places.ravel().astype(np.int64)
        blocks.append((places[: len(real)], places[len(real) :]))
    return np.column_stack([ours for ours, _ in blocks]), np.column_stack(
        [theirs for _, theirs in blocks]
    )
