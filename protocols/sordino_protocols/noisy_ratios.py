"""Ratios of noisy sums, with intervals that do not trust the ratio.

At a small epsilon the noise is as large as the counts. So an interval holds every value that the
noisy numbers do not contradict (Fieller 1954). It covers the privacy noise and the accident of
which units were held out. Noise that drowns the counts gives the whole range, not a narrow interval
around a wrong value.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

_CANDIDATES = 1001


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with an interval that holds the truth with a stated confidence."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Excess:
    """For each candidate: a number that is zero on average at the truth, and its variance.

    Attributes:
        candidates: possible values, rising.
        distance: linear in the candidate; falling where there are counts.
        variance: of the distance.
        margin: how much further than a normal one the distance may be: what counts that are few
            and whole need.
    """

    candidates: Vector
    distance: Vector
    variance: Vector
    margin: Vector | float = 0.0


def candidates_up_to(largest: float) -> Vector:
    """Values from 0 to `largest`."""
    return np.linspace(0, largest, _CANDIDATES)


def estimate(excess: Excess, width: float) -> Estimate:
    """Invert the test "the truth is this candidate".

    Candidates `width` standard deviations away or less are kept; the interval is their hull,
    widened by one step. Without a positive count there is no ratio to speak of: the value is the
    middle of the range.
    """
    candidates, distance = excess.candidates, excess.distance
    first, last = float(candidates[0]), float(candidates[-1])
    total = float(distance[0] - distance[-1])
    share = float(np.clip(distance[0] / total, 0, 1)) if total > 0 else 0.5
    value = first + share * (last - first)
    kept = np.flatnonzero(np.abs(distance) <= width * np.sqrt(excess.variance) + excess.margin)
    if len(kept) == 0:
        return Estimate(value, first, last)
    lower = float(candidates[max(kept[0] - 1, 0)])
    upper = float(candidates[min(kept[-1] + 1, len(candidates) - 1)])
    return Estimate(value, min(lower, value), max(upper, value))


def mean_excess(counts: Vector, worth: Vector, *, candidates: Vector, variance: float) -> Excess:
    """Of the mean worth of a unit, where each unit is counted in one cell.

    Args:
        counts: noisy, one a cell.
        worth: of a unit in each cell, within the candidates.
        candidates: possible means.
        variance: of the noise on each count.
    """
    # A unit adds its worth minus the candidate; so does the noise in each cell.
    squares = (worth - candidates[:, np.newaxis]) ** 2
    counted = np.maximum(squares @ counts, 0)
    return Excess(
        candidates,
        distance=float(worth @ counts) - candidates * float(counts.sum()),
        variance=counted + variance * squares.sum(axis=1),
    )


def share_excess(
    counts: Vector, is_in: npt.NDArray[np.bool_], *, variance: float, width: float
) -> Excess:
    """Of the share of units that are in some of the cells, each unit in one cell.

    With the variance that a candidate itself implies (Wilson 1927), so that a share near 0 or 1 has
    an interval too; half a count for counts being whole, and the first term of Cornish & Fisher
    (1938) for binomial counts being skewed. Both matter where there are few units and little noise.

    Args:
        counts: noisy, one a cell.
        is_in: which cells.
        variance: of the noise on each count.
        width: standard deviations that the interval will reach.
    """
    candidates = candidates_up_to(1.0)
    units = float(counts.sum())
    counted = max(units, 0.0) * candidates * (1 - candidates)
    inside = float(is_in.sum())
    cells = inside * (1 - candidates) ** 2 + (len(counts) - inside) * candidates**2
    whole = counted + variance * cells
    skewed = np.divide(
        counted * np.abs(1 - 2 * candidates), whole, out=np.zeros_like(whole), where=whole > 0
    )
    return Excess(
        candidates,
        distance=float(counts[is_in].sum()) - candidates * units,
        variance=whole,
        margin=0.5 + max(width**2 - 1, 0.0) / 6 * skewed,
    )


def mean_of_independent(estimates: tuple[Estimate, ...]) -> Estimate:
    """The mean of independent estimates, its interval from theirs (Zou & Donner 2008, eq. 4)."""
    size = len(estimates)
    value = math.fsum(each.value for each in estimates) / size
    below = math.sqrt(math.fsum((each.value - each.lower) ** 2 for each in estimates)) / size
    above = math.sqrt(math.fsum((each.upper - each.value) ** 2 for each in estimates)) / size
    return Estimate(value, max(value - below, 0.0), min(value + above, 1.0))
