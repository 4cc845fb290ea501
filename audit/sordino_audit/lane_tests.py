"""Tests of a claim on one run's lanes: all can reject it, each with a valid p-value."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.clopper_pearson import Counts, upper_limit
from sordino_audit.bounds.trade_off import TradeOff, rejection_p_value
from sordino_audit.conformance import cross_site_p_value, freshness_p_value, scale_p_values
from sordino_audit.findings import Severity
from sordino_audit.readings import LaneReadings, count_errors, held_out_noise, pooled_scores
from sordino_protocols.plan import TrainingPlan

Floats = NDArray[np.float64]

_NO_ASSUMPTION = "none on the noise; independent lanes"
_GAUSSIAN = "the planned noise is Gaussian"
_ADAPTIVE_ERROR = 0.05
_ADAPTIVE_CANDIDATES = 64


@dataclass(frozen=True, slots=True)
class Test:
    """A test of the claim.

    Attributes:
        name: what is tested.
        assumption: what must hold for the p-value to be valid.
        p_value: probability of such readings, or worse, if the plan is what ran; uncorrected.
        message: what a rejection means.
        worst: the most severe finding that a rejection can be.
    """

    __test__ = False  # not a test case, whatever pytest thinks of the name

    name: str
    assumption: str
    p_value: float
    message: str
    worst: Severity = Severity.VIOLATION


def curve_test(counts: Counts, claimed: TradeOff) -> Test:
    """Counts at a threshold that was fixed before any reading, against the claimed curve."""
    return Test(
        "claimed curve",
        _NO_ASSUMPTION,
        rejection_p_value(counts, claimed),
        "inserted canaries are told from held-out ones better than the claim allows",
    )


def split_half_test(
    observations: Sequence[LaneReadings], plan: TrainingPlan, claimed: TradeOff
) -> Test:
    """Choose a threshold on the even lanes, test on the odd ones.

    A threshold fixed for the claimed noise can be blind when the code is very wrong.
    """
    scores, coins = pooled_scores(observations, plan)
    is_even = np.tile(np.arange(plan.lanes) % 2 == 0, len(observations))
    threshold = _widest_gap(scores[is_even], coins[is_even], claimed)
    counts = count_errors(scores[~is_even], coins[~is_even], threshold)
    return Test(
        "claimed curve, adaptive threshold",
        _NO_ASSUMPTION,
        rejection_p_value(counts, claimed),
        "canaries are told apart better than the claim allows, at a threshold chosen on one half",
    )


def _widest_gap(scores: Floats, inserted: NDArray[np.bool_], claimed: TradeOff) -> float:
    """The threshold whose confidence rectangle lies furthest below the claimed curve."""
    if scores.size == 0:
        return 0.0
    candidates = np.quantile(scores, np.linspace(0.01, 0.99, _ADAPTIVE_CANDIDATES))
    held_out, present = np.sort(scores[~inserted]), np.sort(scores[inserted])
    false_positives = held_out.size - np.searchsorted(held_out, candidates)
    false_negatives = np.searchsorted(present, candidates)
    error = _ADAPTIVE_ERROR / 2
    gap = claimed(upper_limit(false_positives, held_out.size, error)) - upper_limit(
        false_negatives, present.size, error
    )
    return float(candidates[int(np.argmax(gap))])


def conformance_tests(observations: Sequence[LaneReadings], plan: TrainingPlan) -> tuple[Test, ...]:
    """Scale, freshness and (with several sites) independence of the noise in held-out lanes."""
    noise = held_out_noise(observations, plan)
    too_little, too_much = scale_p_values(np.concatenate(noise, axis=1))
    tests = (
        Test("noise scale", _GAUSSIAN, too_little, "there is less noise than claimed"),
        Test(
            "surplus noise",
            _GAUSSIAN,
            too_much,
            "there is more noise than planned: what ran is not the plan",
            worst=Severity.SUSPECT,
        ),
        Test(
            "fresh noise",
            _GAUSSIAN,
            freshness_p_value(noise),
            "noise is not drawn anew for every round and lane",
        ),
    )
    if len(observations) == 1:
        return tests
    shared = cross_site_p_value(
        [each.readings for each in observations], [~each.inserted for each in observations]
    )
    message = "the noise of two sites is correlated"
    return (*tests, Test("independent sites", _GAUSSIAN, shared, message))
