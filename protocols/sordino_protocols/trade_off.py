"""The trade-off curve of an event: what an attacker who errs so often can know at most.

For each rate of false positives, a mechanism bounds the rate of false negatives from below (Dong,
Roth & Su 2022). Its (epsilon, delta) guarantees, of both directions and at every epsilon, are that
curve in other words: each is a pair of lines below it, and it is the highest of them all. So a
finite number of guarantees gives a curve that is never above the true one, and a bound on what an
attack achieves that is never too small.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sordino_protocols.accounting import epsilon_by_rdp, has_tight_epsilon
from sordino_protocols.errors import InputError
from sordino_protocols.loss_distributions import loss_distribution, parts_of
from sordino_protocols.privacy import Event

Values = npt.NDArray[np.float64]
TradeOff = Callable[[Values], Values]
"""Smallest false negative rate at each false positive rate."""

_POINTS = 2000
_SMALLEST_DELTA = 1e-12
_USELESS_EPSILON = 500.0
_RENYI_DELTAS = tuple(10.0**exponent for exponent in range(-12, 0))


@dataclass(frozen=True, slots=True, eq=False)
class PrivacyProfile:
    """Guarantees that hold together, in both directions.

    Attributes:
        epsilons: >= 0, rising.
        deltas: falling, one for each.
    """

    epsilons: Values
    deltas: Values


def privacy_profile(event: Event) -> PrivacyProfile:
    """Guarantees of an event, from epsilon 0 to where delta is 1e-12."""
    if not has_tight_epsilon(event):
        found = [(epsilon_by_rdp(event, delta), delta) for delta in reversed(_RENYI_DELTAS)]
        finite = [pair for pair in found if pair[0] < _USELESS_EPSILON] or [(0.0, 1.0)]
        return PrivacyProfile(*np.array(finite).T)
    losses = loss_distribution(event)
    highest = losses.get_epsilon_for_delta(_SMALLEST_DELTA)
    if not math.isfinite(highest):
        highest = epsilon_by_rdp(event, _SMALLEST_DELTA)
    epsilons = np.linspace(0.0, highest, _POINTS)
    return PrivacyProfile(epsilons, np.asarray(losses.get_delta_for_epsilon(epsilons)))


@lru_cache(maxsize=64)
def trade_off(event: Event) -> TradeOff:
    """The trade-off curve of an event, symmetric and convex; exact where all noise is Gaussian.

    Args:
        event: what was done; not to be asked of huge events while somebody waits.

    Returns:
        A function of rates in [0, 1] of any shape, falling from 1 - delta(0) to 0.
    """
    parts = parts_of(event)
    if not parts.groups:
        return gaussian_trade_off(math.sqrt(parts.precision))
    profile = privacy_profile(event)
    growth, rest = np.exp(profile.epsilons), 1 - profile.deltas

    def curve(rates: Values) -> Values:
        at = np.asarray(rates, dtype=np.float64)[..., np.newaxis]
        steep, flat = rest - growth * at, (rest - at) / growth
        highest: Values = np.maximum(steep, flat).max(axis=-1)
        return np.maximum(highest, 0.0)

    return curve


def gaussian_trade_off(mu: float) -> TradeOff:
    """The curve of mu-GDP (Dong, Roth & Su 2022, eq. 6)."""
    from scipy.special import ndtr, ndtri  # noqa: PLC0415  # slow to import

    def curve(rates: Values) -> Values:
        # -ndtri(x) is ndtri(1 - x) without the rounding of 1 - x.
        return np.asarray(ndtr(-ndtri(np.asarray(rates, dtype=np.float64)) - mu))

    return curve


def true_positive_bound(event: Event, false_positive_rate: float) -> float:
    """How many members any attack can recognise that takes so many others for members.

    Args:
        event: everything that the attacker saw.
        false_positive_rate: of the attack, in [0, 1].

    Returns:
        The largest rate of true positives, at least the rate of false ones.

    Raises:
        InputError: the rate is none.
    """
    if not 0 <= false_positive_rate <= 1:
        raise InputError(f"the false positive rate is {false_positive_rate}; expected 0 to 1")
    rate = np.array([false_positive_rate])
    return float(max(false_positive_rate, 1 - trade_off(event)(rate)[0]))
