"""What an audit fixes before it looks: its thresholds, and what it will be able to find.

Everything here is computed from the plan, the claim and the number of lanes. No function takes a
reading, so no threshold can depend on one.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit import conformance
from sordino_audit.bounds import one_run
from sordino_audit.bounds.clopper_pearson import upper_limit
from sordino_audit.bounds.trade_off import TradeOff
from sordino_audit.view import OperatingCurve, operating_curve
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

Floats = NDArray[np.float64]

POWER = 0.9
"""Probability with which a fault of the stated size would be found."""

_CANDIDATES = 40
_RAREST = 2e-3
_DESIGN_RATIOS = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
_DEFICITS = np.concatenate([np.linspace(0.02, 0.5, 25), np.linspace(0.55, 0.95, 9)])
_REFINEMENTS = 5
_EVERY = 4
_FAMILY_RATIOS = np.geomspace(1.02, 6.0, 16).tolist()
_TIE_BREAK = 1e-3
_TINY = 1e-300
_SPREAD = 6.0


@dataclass(frozen=True, slots=True)
class Detectable:
    """Smallest fraction of missing noise that is called a violation with probability `POWER`.

    Attributes:
        by_membership: by rejection of the claimed curve at the fixed threshold; 1 if by nothing.
        by_conformance: by the scale of the noise in held-out lanes; 1 if by nothing.
        in_one_layer: by the same, where noise is missing in a single parameter group.
    """

    by_membership: float
    by_conformance: float
    in_one_layer: float

    @property
    def deficit(self) -> float:
        """The smaller of both: what the audit as a whole can find."""
        return min(self.by_membership, self.by_conformance)

    @property
    def sentence(self) -> str:
        """What would have been noticed, in words."""
        if self.deficit >= 1:
            return "It would not have noticed that all of the noise was missing."
        found = (
            f"It would have noticed, with probability {POWER:.0%}, if {self.deficit:.1%} or more "
            "of the noise had been missing"
        )
        # A model of one layer has nothing to tell apart.
        is_harder = self.by_conformance < self.in_one_layer < 1
        layer = f", or {self.in_one_layer:.1%} in one layer alone" if is_harder else ""
        blind = (
            f"; without any assumption on the noise, {self.by_membership:.0%} or more."
            if self.by_membership < 1
            else "; without any assumption on the noise, nothing at the threshold fixed beforehand."
        )
        return found + layer + blind

    @property
    def check(self) -> str:
        """The check that finds it."""
        return "conformance" if self.by_conformance <= self.by_membership else "membership"


@dataclass(frozen=True, slots=True)
class Preregistration:
    """The fixed part of an audit.

    Attributes:
        bound_threshold: score from which a lane counts as inserted, for the bound on epsilon.
        family_threshold: the same, for the bound within the mechanism's family.
        curve_threshold: the same, for the rejection of the claimed curve.
        guesses: how many lanes are guessed to be inserted, for the bound of one run.
        detectable: what this audit would find.
    """

    bound_threshold: float
    family_threshold: float
    curve_threshold: float
    guesses: int
    detectable: Detectable


@dataclass(frozen=True, slots=True)
class _Rejections:
    """Which pairs of counts reject the curve: `false_negatives <= most[false_positives]`."""

    lanes: int
    most: Floats

    def probability(self, false_positive_rate: float, false_negative_rate: float) -> float:
        mean, half = self.lanes * false_positive_rate, _SPREAD * np.sqrt(self.lanes) / 2 + 5
        counts = np.arange(max(0, int(mean - half)), min(self.lanes, int(mean + half)) + 1)
        mass = stats.binom.pmf(counts, self.lanes, false_positive_rate)
        return float(mass @ stats.binom.cdf(self.most[counts], self.lanes, false_negative_rate))


def preregister(
    plan: TrainingPlan,
    claimed: TradeOff,
    *,
    claim: Guarantee,
    lanes: int,
    confidence: float,
    error: float,
) -> Preregistration:
    """Fix the thresholds of an audit, and compute what it will be able to find.

    Args:
        plan: the claimed plan.
        claimed: the claimed trade-off curve.
        claim: the claimed guarantee.
        lanes: number of lanes over all sites; half of them are expected to be inserted.
        confidence: of the bound on epsilon.
        error: level of each single test that can call a violation.
    """
    half = max(1, lanes // 2)
    clean = operating_curve(plan)
    candidates = _candidates(clean)
    # What the limits of the error rates will be if the plan is what runs.
    false_positives, false_negatives = (
        upper_limit(half * rates, half, (1 - confidence) / 2) for rates in clean.rates(candidates)
    )
    rejections = _rejections(claimed, half, error)
    curve_threshold = _most_powerful(plan, candidates, rejections)
    return Preregistration(
        bound_threshold=_best_bound(candidates, false_positives, false_negatives, claim.delta),
        family_threshold=_best_in_family(plan, candidates, false_positives, false_negatives),
        curve_threshold=curve_threshold,
        guesses=_best_guesses(clean, candidates, half, delta=claim.delta, confidence=confidence),
        detectable=Detectable(
            by_membership=_detectable(plan, curve_threshold, rejections),
            by_conformance=conformance.detectable_deficit(
                half * plan.rounds * plan.lane_groups, error=error, power=POWER
            ),
            in_one_layer=conformance.detectable_deficit(
                half * plan.rounds, error=error / plan.lane_groups, power=POWER
            ),
        ),
    )


def _candidates(clean: OperatingCurve) -> Floats:
    """Thresholds from a rare false positive to a rare false negative."""
    rates = np.geomspace(_RAREST, 0.5, _CANDIDATES // 2)
    falling = np.interp(rates, clean.false_positive_rates[::-1], clean.thresholds[::-1])
    rising = np.interp(rates, clean.false_negative_rates, clean.thresholds)
    return np.unique(np.concatenate([falling, rising]))


def _rejections(claimed: TradeOff, lanes: int, error: float) -> _Rejections:
    limits = upper_limit(np.arange(lanes + 1), lanes, error / 2)
    return _Rejections(lanes, np.searchsorted(limits, claimed(limits)).astype(np.float64) - 1)


def _most_powerful(plan: TrainingPlan, candidates: Floats, rejections: _Rejections) -> float:
    """The threshold with the largest mean power over faults from slight to gross."""
    # The clean gap breaks ties: with few lanes, no threshold has any power.
    false_positives, false_negatives = operating_curve(plan).rates(candidates)
    power = _TIE_BREAK * (1 - false_positives - false_negatives)
    for ratio in _DESIGN_RATIOS:
        rates = operating_curve(plan, noise_ratio=ratio).rates(candidates)
        power += [rejections.probability(float(a), float(b)) for a, b in zip(*rates, strict=True)]
    return float(candidates[int(np.argmax(power))])


def _best_bound(
    candidates: Floats, false_positives: Floats, false_negatives: Floats, delta: float
) -> float:
    """The threshold with the largest bound on epsilon at the expected limits."""
    above = np.maximum(1 - false_negatives - delta, _TINY) / false_positives
    below = np.maximum(1 - false_positives - delta, _TINY) / false_negatives
    return float(candidates[int(np.argmax(np.maximum(above, below)))])


def _best_guesses(
    clean: OperatingCurve, candidates: Floats, half: int, *, delta: float, confidence: float
) -> int:
    """The number of lanes above a threshold whose bound by one run is expected to be largest."""
    alarms, misses = clean.rates(candidates[::_EVERY])
    hits = np.rint(half * (1 - misses)).astype(np.int64)
    guesses = hits + np.rint(half * alarms).astype(np.int64)
    expected = [
        one_run.epsilon_lower_bound(
            canaries=2 * half, guesses=total, correct=right, delta=delta, confidence=confidence
        )
        for total, right in zip(guesses.tolist(), hits.tolist(), strict=True)
    ]
    return int(guesses[int(np.argmax(expected))])


def _best_in_family(
    plan: TrainingPlan, candidates: Floats, false_positives: Floats, false_negatives: Floats
) -> float:
    """The threshold that contradicts the most mechanisms with more noise than the plan's."""
    contradicted = np.zeros(candidates.size)
    for ratio in _FAMILY_RATIOS:
        weaker = replace(plan, noise_multiplier=plan.noise_multiplier * ratio)
        gap = operating_curve(weaker).trade_off(false_positives) - false_negatives
        contradicted += (gap > 0) + _TIE_BREAK * gap
    return float(candidates[int(np.argmax(contradicted))])


def _detectable(plan: TrainingPlan, threshold: float, rejections: _Rejections) -> float:
    def is_found(deficit: float) -> bool:
        rates = operating_curve(plan, noise_ratio=1 - deficit).rates(np.array([threshold]))
        return rejections.probability(float(rates[0][0]), float(rates[1][0])) >= POWER

    # Scanned, not bisected from the ends: a fixed threshold can be blind to a gross fault.
    found = next((index for index, each in enumerate(_DEFICITS) if is_found(float(each))), None)
    if found is None:
        return 1.0
    low, high = float(_DEFICITS[found - 1]) if found else 0.0, float(_DEFICITS[found])
    for _ in range(_REFINEMENTS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high
