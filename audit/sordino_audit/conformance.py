"""Whether the noise in held-out lanes is the noise of the plan: its scale, and its freshness.

A held-out lane holds noise and nothing else, so these tests need no canary and are far stronger
than any membership test. Assumed: the planned noise is Gaussian, as it is. All are exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NoiseRatio:
    """Standard deviation of the measured noise over the claimed one, with its interval.

    Attributes:
        low: lower end of the central interval; 0 without samples.
        estimate: point estimate; nan without samples.
        high: upper end; infinite without samples.
    """

    low: float
    estimate: float
    high: float


def noise_ratio(noise: Floats, *, confidence: float) -> NoiseRatio:
    """The chi-square interval for a Gaussian's scale, its mean known to be 0.

    Args:
        noise: readings of held-out lanes over their claimed standard deviation, any shape.
        confidence: coverage of the interval.
    """
    squares, count = float(np.sum(noise**2)), noise.size
    if count == 0:
        return NoiseRatio(0.0, float("nan"), float("inf"))
    tail = (1 - confidence) / 2
    return NoiseRatio(
        low=float(np.sqrt(squares / stats.chi2.isf(tail, count))),
        estimate=float(np.sqrt(squares / count)),
        high=float(np.sqrt(squares / stats.chi2.ppf(tail, count))),
    )


def scale_p_values(noise: Floats) -> tuple[float, float]:
    """One-sided p-values that there is less, and that there is more noise than claimed.

    Args:
        noise: readings of held-out lanes over their claimed standard deviation, any shape.
    """
    squares, count = float(np.sum(noise**2)), noise.size
    if count == 0:
        return 1.0, 1.0
    return float(stats.chi2.cdf(squares, count)), float(stats.chi2.sf(squares, count))


def detectable_deficit(count: int, *, error: float, power: float) -> float:
    """Smallest fraction of missing noise that the scale test finds with probability `power`.

    Args:
        count: number of readings of held-out lanes.
        error: the test's level.
        power: wanted probability of detection.
    """
    if count == 0:
        return 1.0
    return float(1 - np.sqrt(stats.chi2.ppf(error, count) / stats.chi2.ppf(power, count)))


def freshness_p_value(noise: Sequence[Floats]) -> float:
    """P-value that noise is drawn anew, for every round and for every lane.

    Repeated noise has too little spread within a lane (or within a round) for the spread of the
    means; noise that cancels over rounds has too much. The ratio has an F distribution under
    independent Gaussian noise of any scale; two-sided, over lanes and over rounds, corrected.

    Args:
        noise: per site, readings of held-out lanes, shape (rounds, lanes).
    """
    over_rounds = _repetition_p_value(noise)
    over_lanes = _repetition_p_value([each.T for each in noise])
    return min(1.0, 2 * min(over_rounds, over_lanes))


def cross_site_p_value(readings: Sequence[Floats], held_out: Sequence[NDArray[np.bool_]]) -> float:
    """P-value that no two sites share noise, by lanes that are held out at both.

    Independent Gaussian rows of known mean have a squared correlation that is Beta distributed
    (Fisher 1915). The smallest of all pairs, corrected for their number.

    Args:
        readings: per site, shape (rounds, lanes), the same shape at all sites.
        held_out: per site, shape (lanes,).
    """
    p_values = [
        _correlation_p_value(
            readings[a][:, held_out[a] & held_out[b]], readings[b][:, held_out[a] & held_out[b]]
        )
        for a, b in combinations(range(len(readings)), 2)
    ]
    return min(1.0, len(p_values) * min(p_values, default=1.0))


def _repetition_p_value(noise: Sequence[Floats]) -> float:
    between = within = 0.0
    between_count = within_count = 0
    for each in noise:
        repeats, columns = each.shape
        if repeats < 2 or columns == 0:  # noqa: PLR2004
            continue
        means = each.mean(axis=0)
        between += float(repeats * np.sum(means**2))
        within += float(np.sum((each - means) ** 2))
        between_count += columns
        within_count += columns * (repeats - 1)
    if not between_count or between == within == 0:
        return 1.0
    if within == 0:
        return 0.0
    ratio = (between / between_count) / (within / within_count)
    tails = (
        stats.f.cdf(ratio, between_count, within_count),
        stats.f.sf(ratio, between_count, within_count),
    )
    return min(1.0, 2 * float(min(tails)))


def _correlation_p_value(first: Floats, second: Floats) -> float:
    norms = float(np.sum(first**2)) * float(np.sum(second**2))
    if first.size < 2 or norms == 0:  # noqa: PLR2004
        return 1.0
    squared = min(1.0, float(np.sum(first * second)) ** 2 / norms)
    return float(stats.beta.sf(squared, 0.5, (first.size - 1) / 2))
