"""Whether batches are drawn by independent coins, as the accountant is told.

Only the site knows which of its canaries were in which batch. Under Poisson sampling each is in
each batch on its own coin. Batches of a fixed size, or a shuffled order in which everybody takes a
turn, are more even than that; coins that repeat are less. The accountant's price is for the coins.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.bounds.clopper_pearson import upper_limit
from sordino_audit.findings import UNKNOWN, Interval

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_TAIL = 12.0
_RARE = 60
_CELLS_A_VARIANCE = 32


def sampling_ratio(sampled: Bools, *, rate: float, confidence: float) -> Interval:
    """Measured over claimed sampling rate, with the interval of Clopper & Pearson (1934).

    Args:
        sampled: whether an inserted canary was in a step's batch, shape (steps, inserted).
        rate: the claimed sampling rate.
        confidence: coverage of the interval.
    """
    hits, trials = int(sampled.sum()), sampled.size
    if trials == 0:
        return UNKNOWN
    tail = (1 - confidence) / 2
    return Interval(
        low=(1 - float(upper_limit(trials - hits, trials, tail))) / rate,
        estimate=hits / trials / rate,
        high=float(upper_limit(hits, trials, tail)) / rate,
    )


def rate_p_values(sampled: Bools, *, rate: float) -> tuple[float, float]:
    """One-sided p-values that canaries are sampled more, and that they are sampled less often.

    Args:
        sampled: whether an inserted canary was in a step's batch, shape (steps, inserted).
        rate: the claimed sampling rate.
    """
    hits, trials = int(sampled.sum()), sampled.size
    if trials == 0:
        return 1.0, 1.0
    return (
        float(stats.binom.sf(hits - 1, trials, rate)),
        float(stats.binom.cdf(hits, trials, rate)),
    )


def evenness_p_value(counts: Counts, *, trials: int, rate: float) -> float:
    """P-value that independent counts are binomial, against being too even or too uneven.

    The statistic is the sum of squared deviations, in whole cells; its distribution is that of one
    count's, convolved with itself by FFT. Exact down to about 1e-13; two-sided.

    Args:
        counts: how often a canary was sampled, or how many were in a batch; any number of them.
        trials: most that each could be.
        rate: the claimed sampling rate.
    """
    variance = trials * rate * (1 - rate)
    if counts.size == 0 or variance == 0:
        return 1.0
    margin = _TAIL * math.sqrt(variance) + _RARE
    possible = np.arange(
        max(0, int(trials * rate - margin)), min(trials, int(trials * rate + margin)) + 1
    )
    weights = np.asarray(stats.binom.pmf(possible, trials, rate), dtype=np.float64)
    cell = max(1.0, variance / _CELLS_A_VARIANCE)

    def deviation(values: Counts) -> Counts:
        squares: Counts = ((values - round(trials * rate)) ** 2 / cell).astype(np.int64)
        return squares

    single: Floats = np.bincount(deviation(possible), weights).astype(np.float64)
    composed = _sum_of(single, counts.size)
    observed = int(deviation(counts).sum())
    if observed >= composed.size:
        return 0.0
    tails = float(composed[: observed + 1].sum()), float(composed[observed:].sum())
    return min(1.0, 2 * min(tails))


def _sum_of(single: Floats, count: int) -> Floats:
    """The distribution of a sum of `count` independent values, up to where its tail is nothing."""
    values = np.arange(single.size)
    mean = float(single @ values)
    std = math.sqrt(max(float(single @ (values - mean) ** 2), 0.0))
    most = count * mean + _TAIL * 2 * math.sqrt(count) * std + _TAIL * single.size
    cells = 2 ** math.ceil(math.log2(most + 1))
    composed = np.fft.irfft(np.fft.rfft(single, cells) ** count, cells)
    return np.clip(composed, 0.0, 1.0)
