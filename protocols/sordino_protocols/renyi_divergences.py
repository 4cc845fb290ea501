"""Rényi divergences of single mechanisms at integer orders, in closed form.

Each function bounds the Rényi divergence between the mechanism's outputs on neighbours, whichever
of the two had one unit more. Everything is computed as a distance from one, so that the tiny costs
of strongly noised mechanisms keep their digits; a cost beyond floating point is infinite.
"""

import math
from typing import assert_never

import numpy as np
import numpy.typing as npt

from sordino_protocols.privacy import (
    DiscreteGaussian,
    DiscreteLaplace,
    Exponential,
    ExponentialQuantile,
    Gaussian,
    Laplace,
    Leaf,
    PoissonGaussian,
)

Values = npt.NDArray[np.float64]

# Below this epsilon the closed forms of pure mechanisms lose digits, and epsilon^2/2 is as tight.
_SMALL_EPSILON = 1e-4


def divergences(leaf: Leaf, orders: tuple[int, ...]) -> Values:
    """Upper bounds on the divergence of one mechanism, all its steps together.

    Args:
        leaf: what was done.
        orders: integers >= 2.

    Returns:
        One value an order, >= 0, infinite where it exceeds floating point.
    """
    alphas = np.array(orders, dtype=np.float64)
    with np.errstate(over="ignore", divide="ignore"):
        match leaf:
            case PoissonGaussian(sampling_rate, noise_multiplier, steps):
                return steps * _sampled_gaussian(sampling_rate, noise_multiplier, alphas)
            case Gaussian(noise_multiplier):
                return alphas * (precision(noise_multiplier) / 2)
            case DiscreteGaussian(noise_std, sensitivity):
                # Canonne et al. 2020, theorem 4: concentrated as the continuous one, for any sigma.
                return alphas * (precision(noise_std / sensitivity) / 2)
            case Laplace(noise_multiplier):
                return _laplace(_reciprocal(noise_multiplier), alphas)
            case DiscreteLaplace(noise_multiplier):
                return _pure(_reciprocal(noise_multiplier), alphas)
            case ExponentialQuantile(epsilon) | Exponential(epsilon):
                return _bounded_range(epsilon, alphas)
            case _:
                assert_never(leaf)


def precision(noise_multiplier: float) -> float:
    """Mu squared of a Gaussian mechanism; infinite where there is hardly any noise."""
    return _reciprocal(noise_multiplier * noise_multiplier)


def _reciprocal(value: float) -> float:
    # The reciprocal of the smallest numbers is infinite, and no error.
    return 1 / value if value > np.finfo(np.float64).tiny else math.inf


def _sampled_gaussian(rate: float, noise_multiplier: float, alphas: Values) -> Values:
    """One step on a Poisson sample (Mironov et al. 2019, eq. 5; thm. 5: the dearer direction)."""
    mu_squared = precision(noise_multiplier)
    if rate == 1:
        return alphas * (mu_squared / 2)
    largest = int(alphas.max())
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])
    counts = np.arange(2, largest + 1)
    exponents = counts * (counts - 1) * (mu_squared / 2)
    # The logarithm of exp(exponents) - 1: the terms with no or one unit sampled add nothing.
    excess = exponents + np.log(-np.expm1(-exponents))
    log_odds = math.log(rate) - math.log1p(-rate)
    weighted = excess + counts * log_odds - log_factorials[2:]
    values = np.empty(len(alphas))
    for index, order in enumerate(alphas.astype(int)):
        used = slice(0, order - 1)
        binomial = (
            log_factorials[order] - log_factorials[order - 2 :: -1] + order * math.log1p(-rate)
        )
        values[index] = np.logaddexp.reduce(weighted[used] + binomial)
    return np.logaddexp(0.0, values) / (alphas - 1)


def _laplace(epsilon: float, alphas: Values) -> Values:
    """One number with Laplace noise of scale 1/epsilon (Mironov 2017, prop. 6)."""
    if epsilon < _SMALL_EPSILON or math.isinf(epsilon):
        return _pure(epsilon, alphas)
    up = np.log(alphas / (2 * alphas - 1)) + (alphas - 1) * epsilon
    down = np.log((alphas - 1) / (2 * alphas - 1)) - alphas * epsilon
    return np.maximum(np.logaddexp(up, down), 0.0) / (alphas - 1)


def _pure(epsilon: float, alphas: Values) -> Values:
    """Any epsilon-DP mechanism: no worse than randomised response (Kairouz et al. 2015, thm. 2.4).

    For small epsilon the bound epsilon^2/2 a unit of order (Bun & Steinke 2016, prop. 3.3).
    """
    concentrated = alphas * (epsilon * epsilon / 2)
    if epsilon < _SMALL_EPSILON or math.isinf(epsilon):
        return np.minimum(concentrated, epsilon)
    powers = np.logaddexp(alphas * epsilon, (1 - alphas) * epsilon) - np.logaddexp(0.0, epsilon)
    bound: Values = np.minimum(np.maximum(powers, 0.0) / (alphas - 1), concentrated)
    return bound


def _bounded_range(epsilon: float, alphas: Values) -> Values:
    """The exponential mechanism, whose losses span epsilon (Dong et al. 2020, lemma 1).

    The log-moments of a loss with that range bend by epsilon^2/4 at most (Hoeffding's lemma) and
    vanish at orders 0 and 1: the divergence is at most alpha * epsilon^2/8 (Cesar & Rogers 2021).
    """
    return np.minimum(alphas * (epsilon * epsilon / 8), _pure(epsilon, alphas))
