"""The white-box attack on a release: how much of its promised privacy loss is really there.

The neighbours are the worst that the guarantee covers: a canary is in all the counts that a unit
may be in, and nobody else is in them. The attacker knows every count and every sigma, and reads
the one number that holds the whole privacy loss: the counts projected on what the canary adds
(Neyman & Pearson 1933). If the release keeps its promise exactly, readings with the canary are
N(mu, 1) and readings without N(0, 1), where mu is what the ledger charges for.

Canaries share no count, so one release is one independent reading of each; and a list of marginals
that says the same ones many times is as many releases, made by one call of the product's code.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.clopper_pearson import Counts, epsilon_lower_bound
from sordino_audit.bounds.ranges import require_confidence
from sordino_audit.bounds.trade_off import gaussian_curve, rejection_p_value
from sordino_audit.probes.sources import Constant
from sordino_audit.synthesis.subject import (
    Asked,
    Cells,
    Floats,
    Release,
    ReleaseCase,
    case_of,
    measured,
)
from sordino_client.training.noise import Noise, SecureNoise
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

RUNS = 40_000
"""Readings with a canary, and as many without."""

_CANARIES = 16
_SET_CANARIES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """The attacker's number for each run, in units of its claimed noise.

    Attributes:
        inserted: with the canary, shape (runs,).
        held_out: without it, shape (runs,).
        claimed_mu: what the ledger charged.
    """

    inserted: Floats
    held_out: Floats
    claimed_mu: float

    @property
    def counts(self) -> Counts:
        """Errors of guessing "inserted" above the middle, which is fixed beforehand."""
        threshold = self.claimed_mu / 2
        return Counts(
            false_positives=int(np.sum(self.held_out > threshold)),
            held_out=self.held_out.size,
            false_negatives=int(np.sum(self.inserted <= threshold)),
            inserted=self.inserted.size,
        )


@dataclass(frozen=True, slots=True)
class WhiteBox:
    """What the readings show, in rising order of what is assumed.

    Attributes:
        claimed_mu: what the ledger charged.
        claimed_epsilon: the same at `delta`.
        delta: of the guarantee.
        counts: errors at a threshold that was fixed beforehand.
        epsilon_low: a bound that assumes nothing of the noise.
        mu_low_of_counts: a bound from the same errors, if the noise is Gaussian of any scale.
        mu_low: a bound from all readings, if the noise is Gaussian of any scale.
        mu_estimate: how far apart the readings are, in measured standard deviations.
        p_value: that counts like these contradict the claimed trade-off curve by chance.
        confidence: of all bounds.
    """

    claimed_mu: float
    claimed_epsilon: float
    delta: float
    counts: Counts
    epsilon_low: float
    mu_low_of_counts: float
    mu_low: float
    mu_estimate: float
    p_value: float
    confidence: float


def canary_case(*, noise_multiplier: float) -> tuple[ReleaseCase, Cells]:
    """A plan of two columns, and canaries that share no count of it, [canaries, positions]."""
    column = SingleShape(groups=(1,) * _CANARIES)
    shape = DomainShape(columns=(column, column), label=None)
    rows = np.repeat(np.arange(_CANARIES, dtype=np.int32)[:, None], 2, axis=1)
    return case_of("canaries in a table", shape, noise_multiplier=noise_multiplier), rows


def set_canary_case(*, noise_multiplier: float) -> tuple[ReleaseCase, Cells]:
    """The same with a set, of which each canary has as many items as anybody may have."""
    column = SingleShape(groups=(1,) * _SET_CANARIES)
    items = SetShape(items=2 * _SET_CANARIES, at_most=2)
    shape = DomainShape(columns=(column, items), label=None)
    having = np.repeat(np.eye(_SET_CANARIES, dtype=np.int32), 2, axis=1)
    rows = np.concatenate([np.arange(_SET_CANARIES, dtype=np.int32)[:, None], having], axis=1)
    return case_of("canaries with sets", shape, noise_multiplier=noise_multiplier), rows


def attack(
    case: ReleaseCase,
    canaries: Cells,
    *,
    runs: int = RUNS,
    release: Release = measured,
    noise: Noise | None = None,
) -> Readings:
    """Read releases with and without each canary.

    Args:
        case: the plan.
        canaries: [canaries, positions], an even number of units that share no count.
        runs: readings with a canary, and as many without; rounded up to whole releases.
        release: the code that is attacked.
        noise: what it draws from; the product's source by default.

    Raises:
        ValueError: canaries share a count, or have no pair.
    """
    directions = _directions(case, canaries, release)
    repeats = -(-runs // len(canaries))
    is_even = np.arange(len(canaries)) % 2 == 0
    inserted, held_out = list[Floats](), list[Floats]()
    for is_in in (is_even, ~is_even):
        asked = Asked(canaries[is_in], case.marginals * repeats, case.shape, noise or SecureNoise())
        releases = release(asked).reshape(repeats, case.length)
        found = releases @ directions.T
        inserted.append(found[:, is_in].ravel())
        held_out.append(found[:, ~is_in].ravel())
    return Readings(np.concatenate(inserted), np.concatenate(held_out), case.mu)


def judge(readings: Readings, *, delta: float, confidence: float) -> WhiteBox:
    """What readings show of the claim.

    Args:
        readings: independent.
        delta: at which epsilon is bounded.
        confidence: of every bound.

    Raises:
        ValueError: delta or confidence outside their range.
    """
    counts = readings.counts
    return WhiteBox(
        claimed_mu=readings.claimed_mu,
        claimed_epsilon=gaussian.epsilon_from_mu(readings.claimed_mu, delta),
        delta=delta,
        counts=counts,
        epsilon_low=epsilon_lower_bound(counts, delta=delta, confidence=confidence),
        mu_low_of_counts=gaussian.mu_lower_bound(counts, confidence=confidence),
        mu_low=distance_lower_bound(readings.inserted, readings.held_out, confidence=confidence),
        mu_estimate=_distance(readings.inserted, readings.held_out),
        p_value=rejection_p_value(counts, gaussian_curve(readings.claimed_mu)),
        confidence=confidence,
    )


def distance_lower_bound(inserted: Floats, held_out: Floats, *, confidence: float) -> float:
    """A bound that the distance of two Gaussians of one unknown scale is at least, in that scale.

    Student's statistic has a non-central t distribution, whose parameter is solved for: exact for
    Gaussian readings, and the bound is exceeded with probability `1 - confidence` at most.

    Raises:
        ValueError: confidence outside (0, 1).
    """
    require_confidence(confidence)
    unit = float(np.sqrt(1 / inserted.size + 1 / held_out.size))
    freedom = inserted.size + held_out.size - 2
    statistic = _distance(inserted, held_out) / unit
    if stats.t.cdf(statistic, freedom) < confidence:
        return 0.0
    # No statistic falls short of its parameter by 40 standard deviations.
    found = optimize.brentq(
        lambda parameter: stats.nct.cdf(statistic, freedom, parameter) - confidence,
        0.0,
        statistic + 40.0,
    )
    return float(found) * unit


def _distance(inserted: Floats, held_out: Floats) -> float:
    """Difference of the means over the pooled standard deviation."""
    squares = float(np.var(inserted)) * inserted.size + float(np.var(held_out)) * held_out.size
    pooled = np.sqrt(squares / (inserted.size + held_out.size - 2))
    return float((inserted.mean() - held_out.mean()) / pooled)


def _directions(case: ReleaseCase, canaries: Cells, release: Release) -> Floats:
    """What to read a canary by: its counts over the variances, so scaled that noise is N(0, 1)."""
    silent = Constant(0.0)
    nobody = release(case.asked(case.nobody(), silent))
    added = np.stack([release(case.asked(each[np.newaxis], silent)) - nobody for each in canaries])
    if len(canaries) % 2 or bool(np.any(np.count_nonzero(added, axis=0) > 1)):
        raise ValueError("expected an even number of canaries that share no count")
    stds = case.noise_stds()
    by_variance = added / stds**2
    lengths = np.sqrt(np.sum((by_variance * stds) ** 2, axis=1, keepdims=True))
    directions: Floats = by_variance / lengths
    return directions
