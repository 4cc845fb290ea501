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
# Rounding to whole counts adds the variance of a uniform error of width 1.
_ROUNDING_VARIANCE = 1 / 12


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
    """

    candidates: Vector
    distance: Vector
    variance: Vector


def candidates_up_to(largest: float) -> Vector:
    """Values from 0 to `largest`."""
    return np.linspace(0, largest, _CANDIDATES)


def cell_variance(noise_std: float) -> float:
    """Variance of what was added to each count; none for exact counts."""
    return noise_std**2 + (_ROUNDING_VARIANCE if noise_std > 0 else 0.0)


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
    kept = np.flatnonzero(np.abs(distance) <= width * np.sqrt(excess.variance))
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


def mean_of_independent(estimates: tuple[Estimate, ...]) -> Estimate:
    """The mean of independent estimates, its interval from theirs (Zou & Donner 2008, eq. 4)."""
    size = len(estimates)
    value = math.fsum(each.value for each in estimates) / size
    below = math.sqrt(math.fsum((each.value - each.lower) ** 2 for each in estimates)) / size
    above = math.sqrt(math.fsum((each.upper - each.value) ** 2 for each in estimates)) / size
    return Estimate(value, max(value - below, 0.0), min(value + above, 1.0))
