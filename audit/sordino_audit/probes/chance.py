"""Exact tests for what is random, each wrong about correct code once in a million at most."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.conformance import scale_p_values

Floats = NDArray[np.float64]

FALSE_ALARM = 1e-6
"""Largest probability with which one random probe fails on correct code."""


def rate_p_value(successes: int, trials: int, expected: float) -> float:
    """Two-sided p-value that independent trials succeed with probability `expected` (exact)."""
    return float(stats.binomtest(successes, trials, expected).pvalue)


def scale_p_value(noise: Floats) -> float:
    """Two-sided p-value that samples are standard Gaussian in scale (chi-square, exact).

    Args:
        noise: samples over their claimed standard deviation, of mean 0, any shape. One that is no
            finite number is no Gaussian's: 0.
    """
    if not np.isfinite(noise).all():
        return 0.0
    return min(1.0, 2 * min(scale_p_values(noise)))


def ratio_p_value(first: Floats, second: Floats) -> float:
    """Two-sided p-value that Gaussian samples of mean 0 have one scale (F, exact).

    Args:
        first: any shape.
        second: any shape. A sample that is no finite number gives 0, as does no spread at all.
    """
    squares = [float(np.mean(np.square(each))) for each in (first, second)]
    if not (np.isfinite(squares).all() and min(squares) > 0):
        return 0.0
    ratio = squares[1] / squares[0]
    tails = (
        stats.f.cdf(ratio, second.size, first.size),
        stats.f.sf(ratio, second.size, first.size),
    )
    return min(1.0, 2 * float(min(tails)))


def measured_scale(noise: Floats) -> float:
    """Root mean square of samples over their claimed standard deviation."""
    return float(np.sqrt(np.mean(np.square(noise))))


def smallest(p_values: Sequence[float]) -> float:
    """The smallest of several, corrected for their number (Bonferroni)."""
    return min(1.0, len(p_values) * min(p_values))
