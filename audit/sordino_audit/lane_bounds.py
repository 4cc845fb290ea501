"""Lower bounds on epsilon from one run's lanes, in rising order of what they assume."""

from dataclasses import dataclass, replace

import numpy as np

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.clopper_pearson import Counts, epsilon_lower_bound, error_limits
from sordino_audit.findings import Interval
from sordino_audit.view import operating_curve, shown_epsilon
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

_NO_ASSUMPTION = "none on the noise; independent lanes"
_FAMILY = "Gaussian noise of unknown scale, sampling as planned"
_MEASURED = "Gaussian noise, sampling and clipping as planned"
_WEAKEST_NOISE, _STRONGEST_NOISE = 0.02, 50.0
_BISECTIONS = 18


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound on the epsilon that this view shows, true if its assumption is.

    Attributes:
        name: the method.
        assumption: what must hold besides the confidence.
        epsilon_low: the bound.
    """

    name: str
    assumption: str
    epsilon_low: float


def assumption_free(counts: Counts, claim: Guarantee, confidence: float) -> Bound:
    """The Clopper-Pearson bound: true whatever the noise is."""
    epsilon = epsilon_lower_bound(counts, delta=claim.delta, confidence=confidence)
    return Bound("Clopper-Pearson", _NO_ASSUMPTION, epsilon)


def within_family(counts: Counts, plan: TrainingPlan, claim: Guarantee, confidence: float) -> Bound:
    """The weakest mechanism of the plan's family that the counts do not contradict."""
    if plan.sampling_rate == 1:
        mu = gaussian.mu_lower_bound(counts, confidence=confidence)
        return Bound("Gaussian DP", _FAMILY, gaussian.epsilon_from_mu(mu, claim.delta))
    limits = error_limits(counts, 1 - confidence)
    name = "subsampled Gaussian family"
    if not _is_contradicted(limits, plan, _STRONGEST_NOISE):
        return Bound(name, _FAMILY, 0.0)
    low, high = np.log(_WEAKEST_NOISE), np.log(_STRONGEST_NOISE)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _is_contradicted(limits, plan, float(np.exp(middle))):
            high = middle
        else:
            low = middle
    epsilon = shown_epsilon(plan, noise_ratio=float(np.exp(high)), delta=claim.delta)
    return Bound(name, _FAMILY, epsilon)


def _is_contradicted(limits: tuple[float, float], plan: TrainingPlan, ratio: float) -> bool:
    scaled = replace(plan, noise_multiplier=plan.noise_multiplier * ratio)
    allowed = operating_curve(scaled).trade_off(np.array(limits[0]))
    return bool(limits[1] < allowed)


def by_noise(ratio: Interval, plan: TrainingPlan, claim: Guarantee) -> Bound:
    """What the view shows at the largest noise that the measured scale allows."""
    name = "measured noise"
    if not np.isfinite(ratio.high):
        return Bound(name, _MEASURED, 0.0)
    usable = float(np.clip(ratio.high, _WEAKEST_NOISE, _STRONGEST_NOISE))
    return Bound(name, _MEASURED, shown_epsilon(plan, noise_ratio=usable, delta=claim.delta))
