"""Lower bounds within a family of mechanisms that only the scale of the noise tells apart.

Counts that contradict the trade-off curve of a member contradict all members with more noise than
it. So the members that survive have less noise than some largest one, and the epsilon of that one
is a lower bound: far above the one that assumes nothing, if the mechanism is of the family.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from dp_accounting.pld import privacy_loss_distribution

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.clopper_pearson import Counts, error_limits
from sordino_audit.bounds.ranges import (
    require_confidence,
    require_delta,
    require_positive,
    require_sampling,
)
from sordino_audit.bounds.trade_off import TradeOff, gaussian_curve, profile_curve
from sordino_protocols.accounting import epsilon_by_pld, has_tight_epsilon
from sordino_protocols.privacy import PoissonGaussian

Family = Callable[[float], TradeOff]
"""The trade-off curve of the member with a given noise; more noise gives a curve nowhere lower."""

# Members of a family that are tried, and their number: 0.76 % of noise from one to the next.
_WEAKEST, _STRONGEST, _MEMBERS = 0.02, 50.0, 1024
_CURVE_POINTS = 400
_SMALLEST_DELTA = 1e-9
_FINEST_LOSS, _COARSEST_LOSS = 0.002, 0.01


def largest_noise(counts: Counts, family: Family, *, confidence: float) -> float:
    """The noise of the strongest member that the counts do not contradict, rounded up.

    If a member is what ran, it has no more noise than this with at least the given confidence:
    the confidence rectangle of the two error rates holds with that confidence, and a member is
    contradicted where the rectangle lies below its curve.

    Args:
        counts: errors of guessing at a threshold that was fixed before the scores were seen.
        family: the curve of each member, by its noise; tried from 0.02 to 50.
        confidence: in (0, 1).

    Returns:
        between 0.02 and 50; infinite where not even the member with noise 50 is contradicted.

    Raises:
        ValueError: confidence outside (0, 1).
    """
    require_confidence(confidence)
    limits = error_limits(counts, 1 - confidence)
    if not _is_contradicted(limits, family, _member(_MEMBERS - 1)):
        return math.inf
    first, last = 0, _MEMBERS - 1
    while first < last:
        middle = (first + last) // 2
        if _is_contradicted(limits, family, _member(middle)):
            last = middle
        else:
            first = middle + 1
    return _member(last)


def subsampled_gaussian(*, sampling_rate: float, steps: int) -> Family:
    """Steps of Gaussian noise on Poisson samples; a member's noise is its noise multiplier.

    Curves are by the privacy loss distribution (Doroshenko et al. 2022), rounded so that they are
    never above the true ones; without subsampling exact (Dong, Roth & Su 2022, cor. 3.3).
    """
    if sampling_rate == 1:
        return lambda noise: gaussian_curve(math.sqrt(steps) / noise)
    return lambda noise: _sampled_curve(PoissonGaussian(sampling_rate, noise, steps))


def epsilon_lower_bound(
    counts: Counts, *, sampling_rate: float, steps: int, delta: float, confidence: float
) -> float:
    """A bound that the true epsilon at `delta` is at least, if what ran is of this family.

    Nasr et al. 2023 (sec. 5), with the family of the mechanism instead of Gaussian DP: the counts
    are of guesses that saw all steps, the noise is Gaussian of any scale, sampling and number of
    steps as stated.

    Raises:
        ValueError: a number outside its range.
    """
    require_delta(delta)
    require_positive("delta", delta)
    require_confidence(confidence)
    require_sampling(sampling_rate, steps)
    if sampling_rate == 1:
        mu = gaussian.mu_lower_bound(counts, confidence=confidence)
        return gaussian.epsilon_from_mu(mu, delta)
    family = subsampled_gaussian(sampling_rate=sampling_rate, steps=steps)
    noise = largest_noise(counts, family, confidence=confidence)
    return composed_epsilon(noise, sampling_rate=sampling_rate, steps=steps, delta=delta)


def composed_epsilon(noise: float, *, sampling_rate: float, steps: int, delta: float) -> float:
    """The epsilon at `delta` of steps with this noise multiplier, as a claim computes it.

    The accountant is the claim's own, whose rounding is less than 5e-4 of epsilon and the same on
    both sides, so that a bound exceeds a claim only if the noise contradicts it. Where so little
    noise is left that it has only an upper bound (from about 100 on), more noise is taken.
    """
    if math.isinf(noise):
        return 0.0
    event = PoissonGaussian(sampling_rate, noise, steps)
    while not has_tight_epsilon(event):
        noise *= 1.05
        event = PoissonGaussian(sampling_rate, noise, steps)
    return epsilon_by_pld(event, delta)


@lru_cache(maxsize=256)
def _sampled_curve(event: PoissonGaussian) -> TradeOff:
    if not has_tight_epsilon(event):  # so little noise allows everything: the curve of no privacy
        return np.zeros_like
    # Coarser than a claim's: that only makes the curve lower, and a bisection needs many.
    interval = min(_COARSEST_LOSS, max(_FINEST_LOSS, 0.1 / math.sqrt(event.steps)))
    loss = privacy_loss_distribution.from_gaussian_mechanism(
        event.noise_multiplier,
        sampling_prob=event.sampling_rate,
        value_discretization_interval=interval,
    ).self_compose(event.steps)
    highest = float(loss.get_epsilon_for_delta(_SMALLEST_DELTA))
    epsilons = np.linspace(0, highest if math.isfinite(highest) else 100.0, _CURVE_POINTS)
    deltas = np.asarray(loss.get_delta_for_epsilon(epsilons.tolist()), dtype=np.float64)
    return profile_curve(epsilons, deltas)


def _member(index: int) -> float:
    share = index / (_MEMBERS - 1)
    return _WEAKEST * math.exp(share * math.log(_STRONGEST / _WEAKEST))


def _is_contradicted(limits: tuple[float, float], family: Family, noise: float) -> bool:
    false_positive_rate, false_negative_rate = limits
    return bool(false_negative_rate < family(noise)(np.array(false_positive_rate)))
