"""Where the cells of a number begin: a function of the declaration alone.

A marginal counts records by cell, and a synthetic value is drawn within one. Fine cells are as fine
as a column is looked at; coarse cells are runs of fine ones, for pairs of columns.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Scale = Literal["linear", "log1p"]

LARGEST_BIN_COUNT = 100_000
DEFAULT_BIN_COUNT = 100
MOST_WHOLE_CELLS = 200
"""Up to so many whole numbers have a cell each."""

# A declared edge is the decimal nearest to a boundary that is computed.
_SAME = 1e-9


def boundaries_of_integers(low: int, high: int, *, bins: int | None, scale: Scale) -> Floats:
    """Where each cell but the first begins, ascending: whole numbers in (low, high].

    Args:
        low: smallest value.
        high: largest value.
        bins: how many cells, of equal width on the scale; fewer where a cell would hold no whole
            number. None: one a value where there are at most 200, else 100.
        scale: what the cells are of equal width on.
    """
    if bins is None and high - low < MOST_WHOLE_CELLS:
        return np.arange(low + 1, high + 1, dtype=np.float64)
    inner = _between(float(low), high + 1.0, bins=bins or DEFAULT_BIN_COUNT, scale=scale)
    whole = np.unique(np.ceil(inner))
    return whole[(whole > low) & (whole <= high)]


def boundaries_of_numbers(low: float, high: float, *, bins: int | None, scale: Scale) -> Floats:
    """Where each cell but the first begins, ascending, in (low, high); as for integers."""
    inner = _between(low, high, bins=bins or DEFAULT_BIN_COUNT, scale=scale)
    return np.unique(inner[(inner > low) & (inner < high)])


def runs_between(boundaries: Floats, edges: Sequence[float], *, width: float) -> tuple[int, ...]:
    """How many fine cells lie before the first edge, between the edges, and after the last.

    Args:
        boundaries: of fine cells, ascending.
        edges: the coarse ones, ascending, each one of the boundaries.
        width: of the whole range.

    Raises:
        ValueError: the edges do not ascend, or one is no boundary; names it and the nearest.
    """
    if any(not left < right for left, right in itertools.pairwise(edges)):
        raise ValueError("coarse must ascend")
    places = [_place(boundaries, edge, width=width) for edge in edges]
    ends = [0, *places, len(boundaries) + 1]
    return tuple(end - begin for begin, end in itertools.pairwise(ends))


def near_equal_runs(cells: int, *, at_most: int) -> tuple[int, ...]:
    """Sizes of at most so many runs of consecutive cells, which differ by one at most."""
    runs = min(cells, at_most)
    size, longer = divmod(cells, runs)
    return (size + 1,) * longer + (size,) * (runs - longer)


def _between(low: float, high: float, *, bins: int, scale: Scale) -> Floats:
    shares = np.arange(1, bins) / bins
    width = high - low
    above = np.expm1(shares * np.log1p(width)) if scale == "log1p" else shares * width
    return np.asarray(low + above, dtype=np.float64)


def _place(boundaries: Floats, edge: float, *, width: float) -> int:
    """How many fine cells begin before the edge, which is a boundary."""
    if not len(boundaries):
        raise ValueError(f"coarse: {edge:g} is no boundary of a cell; there is one cell")
    nearest = int(np.argmin(np.abs(boundaries - edge)))
    if abs(boundaries[nearest] - edge) > _SAME * width:
        raise ValueError(
            f"coarse: {edge:g} is no boundary of a fine cell; the nearest is"
            f" {boundaries[nearest]:.12g}"
        )
    return nearest + 1
