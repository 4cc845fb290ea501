"""Tables in which every column has one position: what the generators beside the default work on.

They know no sets, so each item of a set is a column of its own, with the cells "no" and "yes". And
they model coarse cells: which fine cell of it a record has is drawn from the noisy one-way marginal
alone, as the default does.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.shapes import (
    LARGEST_COLUMN_COUNT,
    DomainShape,
    SetShape,
    SingleShape,
    width_of,
)

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]

_YES_OR_NO = SingleShape(groups=(1, 1))


def flattened(shape: DomainShape) -> DomainShape:
    """The shape with a yes/no column in place of each item, which the same cells are of.

    Raises:
        InputError: there are too many items for that.
    """
    if shape.position_count > LARGEST_COLUMN_COUNT:
        raise InputError(
            f"{shape.position_count} columns, items of sets included; this generator takes at most"
            f" {LARGEST_COLUMN_COUNT}: use the mixture"
        )
    columns: list[SingleShape] = []
    for column in shape.columns:
        columns += [_YES_OR_NO] * column.items if isinstance(column, SetShape) else [column]
    label = None if shape.label is None else tuple(shape.starts())[shape.label]
    return DomainShape(columns=tuple(columns), label=label)


def singles(flat: DomainShape) -> tuple[SingleShape, ...]:
    """The columns of a shape without sets.

    Raises:
        ValueError: it has one.
    """
    columns = tuple(column for column in flat.columns if isinstance(column, SingleShape))
    if len(columns) != len(flat.columns):
        raise ValueError("expected a shape without sets")
    return columns


def within_sets(cells: Cells, shape: DomainShape, *, rng: np.random.Generator) -> Cells:
    """The same records, where those with more items of a set than allowed lose some at random.

    Args:
        cells: [rows, positions].
        shape: of the cells, sets included.
        rng: chooses what is lost.
    """
    kept = cells.copy()
    for start, column in zip(shape.starts(), shape.columns, strict=True):
        if isinstance(column, SetShape):
            items = kept[:, start : start + width_of(column)]
            # Items in random order of their rank among those that are there; the rest comes last.
            order = np.argsort(np.where(items > 0, rng.random(items.shape), 2.0), axis=1)
            dropped = order[:, column.at_most :]
            np.put_along_axis(items, dropped, 0, axis=1)
    return kept


def probabilities(counts: Numbers) -> Numbers:
    """Noisy counts as probabilities along the last axis: none negative, and uniform for no count.

    Args:
        counts: [..., cells].
    """
    positive = np.maximum(counts, 0.0)
    totals = positive.sum(axis=-1, keepdims=True)
    uniform = np.full_like(positive, 1 / counts.shape[-1])
    np.divide(positive, totals, out=uniform, where=totals > 0)
    return uniform


def drawn(chances: Numbers, *, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """One draw for each row of probabilities, [rows, cells] to [rows]."""
    steps = np.cumsum(chances, axis=1)
    # Up to the sum itself, which rounding leaves a little beside 1.
    beyond = rng.random((len(chances), 1)) * steps[:, -1:]
    passed: npt.NDArray[np.int64] = (steps <= beyond).sum(axis=1)
    return np.asarray(np.minimum(passed, chances.shape[1] - 1), dtype=np.int32)


def coarse_cells(cells: Cells, flat: DomainShape) -> Cells:
    """Each record's coarse cells, [rows, positions]."""
    columns = zip(cells.T, singles(flat), strict=True)
    return np.stack([column.coarse_of()[fine] for fine, column in columns], axis=1)


def coarse_counts(one_ways: Sequence[Numbers], flat: DomainShape) -> list[Numbers]:
    """Fine one-way marginals, added up to coarse ones."""
    return [
        np.bincount(column.coarse_of(), counts, column.coarse).astype(np.float64)
        for counts, column in zip(one_ways, singles(flat), strict=True)
    ]


def fine_cells(
    coarse: Cells, one_ways: Sequence[Numbers], flat: DomainShape, *, rng: np.random.Generator
) -> Cells:
    """Draw a fine cell within each coarse one, as likely as its noisy one-way marginal says.

    Args:
        coarse: [rows, positions].
        one_ways: noisy fine counts of each column.
        flat: the shape, without sets.
        rng: draws.
    """
    fine = [
        _within(column, counts, cells, rng=rng)
        for column, counts, cells in zip(singles(flat), one_ways, coarse.T, strict=True)
    ]
    return np.stack(fine, axis=1)


def _within(
    column: SingleShape, counts: Numbers, coarse: Cells, *, rng: np.random.Generator
) -> Cells:
    first = np.cumsum([0, *column.groups])[:-1]
    fine = first[coarse].astype(np.int32)
    for cell, size in enumerate(column.groups):
        rows = np.flatnonzero(coarse == cell)
        if size > 1 and len(rows):
            chances = probabilities(counts[first[cell] : first[cell] + size])
            fine[rows] += rng.choice(size, size=len(rows), p=chances).astype(np.int32)
    return fine


def estimated_units(one_ways: Sequence[Numbers]) -> float:
    """How many units there seem to be, from one-way marginals with the same noise; at least 1.

    Every unit is in one cell of each, so each sum is an estimate, with a variance in proportion to
    its cells: they are weighted by the inverse of that.
    """
    weights = np.array([1 / len(counts) for counts in one_ways])
    sums = np.array([counts.sum() for counts in one_ways])
    return max(1.0, float(weights @ sums / weights.sum()))
