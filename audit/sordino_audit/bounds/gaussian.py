"""Gaussian differential privacy: the family in which one number, mu, is the whole trade-off.

A Gaussian mechanism without subsampling is exactly mu-GDP with mu = sensitivity / noise std, and
T of them compose to sqrt(T) * mu. For a subsampled mechanism the numbers here are a reading in the
wrong family: label them so, or use the mechanism's own family.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import log_ndtr, ndtr, ndtri

from sordino_audit.bounds.clopper_pearson import Counts, error_limits
from sordino_audit.bounds.ranges import require_confidence


def upper_tail(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a standard Gaussian exceeds each value."""
    tails: NDArray[np.float64] = ndtr(-values)
    return tails


def upper_quantile(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value that a standard Gaussian exceeds with each probability: inverts `upper_tail`."""
    values: NDArray[np.float64] = -ndtri(rates)
    return values


def trade_off(mu: float, false_positive_rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest false negative rate at each false positive rate (Dong, Roth & Su 2022, eq. 6)."""
    curve: NDArray[np.float64] = ndtr(ndtri(1 - false_positive_rates) - mu)
    return curve


def mu_from_rates(false_positive_rate: float, false_negative_rate: float) -> float:
    """The mu of the Gaussian trade-off curve through one point (Dong, Roth & Su 2022, eq. 6)."""
    mu = float(ndtri(1 - false_positive_rate) - ndtri(false_negative_rate))
    return 0.0 if math.isnan(mu) else max(0.0, mu)


def mu_lower_bound(counts: Counts, *, confidence: float) -> float:
    """A bound that the true mu is at least, with the given confidence, if there is a true mu.

    The error limits hold together with the stated confidence, and the trade-off falls in mu.

    Raises:
        ValueError: confidence outside (0, 1).
    """
    require_confidence(confidence)
    false_positive_rate, false_negative_rate = error_limits(counts, 1 - confidence)
    return mu_from_rates(false_positive_rate, false_negative_rate)


def delta_from_mu(mu: float, epsilon: float) -> float:
    """The delta of mu-GDP at `epsilon` (Dong, Roth & Su 2022, cor. 2.13; Balle & Wang 2018)."""
    if mu <= 0:
        return 0.0
    left = -epsilon / mu + mu / 2
    # exp(epsilon) * Phi(...) in logs: either factor alone over- or underflows.
    right = math.exp(min(epsilon + float(log_ndtr(-epsilon / mu - mu / 2)), 0.0))
    return max(0.0, float(ndtr(left)) - right)


def epsilon_from_mu(mu: float, delta: float) -> float:
    """The epsilon of mu-GDP at `delta`, in (0, 1): the inverse of `delta_from_mu`."""
    if mu <= 0 or delta_from_mu(mu, 0.0) <= delta:
        return 0.0
    highest = mu * (mu / 2 + 40)
    return float(optimize.brentq(lambda e: delta_from_mu(mu, e) - delta, 0.0, highest))


def mu_from_epsilon(epsilon: float, delta: float) -> float:
    """The mu whose curve touches (epsilon, delta): the inverse of `epsilon_from_mu`."""
    highest = 1.0
    while delta_from_mu(highest, epsilon) < delta:
        highest *= 2
    return float(optimize.brentq(lambda mu: delta_from_mu(mu, epsilon) - delta, 0.0, highest))
