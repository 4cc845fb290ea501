"""Tests of a claim on one run's lanes: all can reject it, each with a valid p-value."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.clopper_pearson import Counts, upper_limit
from sordino_audit.bounds.trade_off import TradeOff, rejection_p_value
from sordino_audit.canary_signal import signal_p_values
from sordino_audit.conformance import (
    cross_layer_p_value,
    cross_site_p_value,
    freshness_p_value,
    quietest_round_p_value,
    repeated_rounds_p_value,
    scale_p_values,
    smallest,
)
from sordino_audit.findings import Severity
from sordino_audit.readings import LaneReadings, count_errors, held_out_noise, pooled_scores
from sordino_protocols.plan import TrainingPlan

Floats = NDArray[np.float64]

_NO_ASSUMPTION = "none on the noise; independent lanes"
_GAUSSIAN = "the planned noise is Gaussian"
_GAUSSIAN_AND_COINS = "the planned noise is Gaussian, batches are drawn by coins"
_ALWAYS, _WITH_LAYERS, _WITH_SITES = 9, 2, 1
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
    """Scale, freshness and independence of the noise in held-out lanes; weight of the canaries.

    Layers are compared where there are several parameter groups, sites where there are several.
    """
    noise = held_out_noise(observations, plan)
    tests = [*_scale_tests(noise), *_freshness_tests(noise), *_signal_tests(observations, plan)]
    if plan.lane_groups > 1:
        tests += _layer_tests(noise)
    if len(observations) > 1:
        tests.append(_site_test(observations))
    return tuple(tests)


def count_of_tests(*, sites: int, groups: int) -> int:
    """How many tests an audit of lanes runs: their error is divided before any reading."""
    return _ALWAYS + (_WITH_LAYERS if groups > 1 else 0) + (_WITH_SITES if sites > 1 else 0)


def _scale_tests(noise: Sequence[Floats]) -> tuple[Test, ...]:
    too_little, too_much = scale_p_values(np.concatenate(noise, axis=2))
    return (
        Test("noise scale", _GAUSSIAN, too_little, "there is less noise than claimed"),
        Test(
            "surplus noise",
            _GAUSSIAN,
            too_much,
            "there is more noise than planned: what ran is not the plan",
            worst=Severity.SUSPECT,
        ),
        Test(
            "noise scale by round",
            _GAUSSIAN,
            quietest_round_p_value(noise),
            "one round has less noise than claimed",
        ),
    )


def _freshness_tests(noise: Sequence[Floats]) -> tuple[Test, ...]:
    return (
        Test(
            "fresh noise",
            _GAUSSIAN,
            freshness_p_value(noise),
            "noise is not drawn anew for every round and lane",
        ),
        Test(
            "repeated noise",
            _GAUSSIAN,
            repeated_rounds_p_value(noise),
            "two rounds share their noise",
        ),
    )


def _signal_tests(observations: Sequence[LaneReadings], plan: TrainingPlan) -> tuple[Test, ...]:
    too_much, too_little = signal_p_values(observations, plan)
    return (
        Test(
            "signal by layer",
            _GAUSSIAN_AND_COINS,
            too_much,
            "canaries weigh more than the clipping norm allows, or enter more batches than planned",
        ),
        Test(
            "weak signal",
            _GAUSSIAN_AND_COINS,
            too_little,
            "canaries weigh less than planned: what was attacked is not what the plan describes",
            worst=Severity.SUSPECT,
        ),
    )


def _layer_tests(noise: Sequence[Floats]) -> tuple[Test, ...]:
    too_little = [
        scale_p_values(np.concatenate([each[:, group] for each in noise], axis=1))[0]
        for group in range(noise[0].shape[1])
    ]
    return (
        Test(
            "noise scale by layer",
            _GAUSSIAN,
            smallest(too_little),
            f"layer {int(np.argmin(too_little)) + 1} has less noise than claimed",
        ),
        Test(
            "independent layers",
            _GAUSSIAN,
            cross_layer_p_value(noise),
            "the noise of two layers is correlated",
        ),
    )


def _site_test(observations: Sequence[LaneReadings]) -> Test:
    shared = cross_site_p_value(
        [each.readings for each in observations], [~each.inserted for each in observations]
    )
    return Test("independent sites", _GAUSSIAN, shared, "the noise of two sites is correlated")
