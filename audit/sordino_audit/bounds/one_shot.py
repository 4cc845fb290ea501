"""An estimate of epsilon from the directions of random canaries in one run. Not a bound.

Canaries whose gradients are random directions of a large space are nearly orthogonal to everything.
Their cosines with what was released are Gaussian with a known distribution if they were not
inserted, and are measured where they were. Estimated from a fit of two Gaussians: no confidence.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.bounds.ranges import require_delta, require_positive

Floats = NDArray[np.float64]

_FEWEST = 2
_POINTS = 40_001
_REACH = 12.0
_LARGEST_EPSILON = 500.0
_BISECTIONS = 60


def epsilon_estimate(cosines: Floats, *, dimensions: int, delta: float) -> float:
    """The estimate of Andrew et al. 2023 (algorithm 1, sec. 3) from inserted canaries.

    The cosine of a canary that was not inserted is close to N(0, 1 / dimensions). Those of inserted
    ones are summarised by their mean and standard deviation; epsilon is that of telling the two
    Gaussians apart.

    Args:
        cosines: of each inserted canary with the released update, shape (canaries,).
        dimensions: of the space in which the canaries are random directions.
        delta: of the guarantee, in (0, 1).

    Returns:
        an estimate >= 0, infinite above 500; it can be too high or too low.

    Raises:
        ValueError: fewer than two canaries, cosines outside [-1, 1], or delta outside (0, 1).
    """
    if cosines.size < _FEWEST or not np.all(np.abs(cosines) <= 1):
        raise ValueError("expected the cosines of two canaries or more, each in [-1, 1]")
    require_positive("dimensions", dimensions)
    return gaussian_pair_epsilon(
        mean=float(np.mean(cosines)),
        std=float(np.std(cosines, ddof=1)),
        null_std=dimensions**-0.5,
        delta=delta,
    )


def gaussian_pair_epsilon(*, mean: float, std: float, null_std: float, delta: float) -> float:
    """The epsilon at `delta` of telling N(mean, std^2) and N(0, null_std^2) apart, both ways.

    The hockey-stick divergence (Balle & Wang 2018, eq. 3) by quadrature, and its inverse by
    bisection. With equal standard deviations it is that of mu-GDP, mu = mean / std.

    Raises:
        ValueError: a standard deviation that is not above 0, or delta outside (0, 1).
    """
    require_delta(delta)
    require_positive("std", std)
    require_positive("null_std", null_std)
    require_positive("delta", delta)
    low_end = min(mean - _REACH * std, -_REACH * null_std)
    high_end = max(mean + _REACH * std, _REACH * null_std)
    grid = np.linspace(low_end, high_end, _POINTS)
    present = stats.norm.logpdf(grid, mean, std)
    absent = stats.norm.logpdf(grid, 0.0, null_std)

    def is_enough(epsilon: float) -> bool:
        return (
            max(_excess(grid, present, absent, epsilon), _excess(grid, absent, present, epsilon))
            <= delta
        )

    if is_enough(0.0):
        return 0.0
    if not is_enough(_LARGEST_EPSILON):
        return math.inf
    low, high = 0.0, _LARGEST_EPSILON
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _excess(grid: Floats, first: Floats, second: Floats, epsilon: float) -> float:
    """The integral of max(0, exp(first) - exp(epsilon + second))."""
    gap = np.exp(first) * -np.expm1(np.minimum(epsilon + second - first, 0.0))
    return float(np.trapezoid(gap, grid))
