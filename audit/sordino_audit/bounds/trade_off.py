"""Rejecting a claimed trade-off curve from the counts of one membership guess a lane.

A claim says more than one (epsilon, delta): for every false positive rate it bounds the false
negative rate from below. Observed counts under that curve contradict the whole claim, and far
sooner than they contradict a single epsilon. Nothing is assumed about the noise; the lanes are
independent and the threshold was fixed before their scores were seen.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.clopper_pearson import Counts, error_limits
from sordino_protocols.privacy import Guarantee

TradeOff = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Smallest false negative rate that the claim allows at each false positive rate."""

_SMALLEST_LOG_P = -40.0
_BISECTIONS = 50


def guarantee_curve(claim: Guarantee) -> TradeOff:
    """The curve of (epsilon, delta)-DP (Wasserman & Zhou 2010; Dong, Roth & Su 2022, prop. 2.5)."""
    return profile_curve(np.array([claim.epsilon]), np.array([claim.delta]))


def gaussian_curve(mu: float) -> TradeOff:
    """The curve of mu-GDP (Dong, Roth & Su 2022, def. 2.6)."""
    return lambda rates: gaussian.trade_off(mu, rates)


def profile_curve(epsilons: NDArray[np.float64], deltas: NDArray[np.float64]) -> TradeOff:
    """The curve of a mechanism that is (epsilons[i], deltas[i])-DP for all i, symmetrically.

    It is the supremum of the single guarantees' curves (Dong, Roth & Su 2022, prop. 2.12), so a
    finite grid gives a curve that is never above the true one.
    """
    growth, rest = np.exp(epsilons), 1 - deltas

    def curve(rates: NDArray[np.float64]) -> NDArray[np.float64]:
        alpha = np.asarray(rates, dtype=np.float64)[..., np.newaxis]
        steep, flat = rest - growth * alpha, (rest - alpha) / growth
        highest: NDArray[np.float64] = np.maximum(steep, flat).max(axis=-1)
        return np.maximum(highest, 0.0)

    return curve


def strictest(*curves: TradeOff) -> TradeOff:
    """The curve of a mechanism for which all the given claims hold."""

    def curve(rates: NDArray[np.float64]) -> NDArray[np.float64]:
        highest: NDArray[np.float64] = np.max([each(rates) for each in curves], axis=0)
        return highest

    return curve


def is_rejected(counts: Counts, claimed: TradeOff, *, error: float) -> bool:
    """Whether counts contradict a curve; a true claim is rejected with probability <= `error`.

    The confidence rectangle of the two rates lies wholly below the curve, which falls: then no
    pair of rates in the rectangle satisfies the claim.
    """
    false_positive_rate, false_negative_rate = error_limits(counts, error)
    return false_negative_rate < float(claimed(np.array(false_positive_rate)))


def rejection_p_value(counts: Counts, claimed: TradeOff) -> float:
    """The smallest error at which the counts contradict the curve: a valid p-value.

    The limits shrink as the error grows, so rejection is monotone and bisection finds it.

    Returns:
        between 1e-40 and 1.
    """
    if not is_rejected(counts, claimed, error=1.0):
        return 1.0
    low, high = _SMALLEST_LOG_P, 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if is_rejected(counts, claimed, error=10.0**middle):
            high = middle
        else:
            low = middle
    return float(10.0**high)
