"""Tests of a claim on the steps that a site noted: each has a valid p-value.

They come on top of `lane_tests`, which run on the same readings with every step taken as a round.
Here the site's knowledge counts: which canaries were in which batch, and each layer's real noise.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.bounds.e_process import claimed_wagers
from sordino_audit.bounds.trade_off import gaussian_curve, is_rejected, rejection_p_value
from sordino_audit.conformance import smallest
from sordino_audit.e_values import PairEvidence, configuration_of
from sordino_audit.findings import Severity
from sordino_audit.lane_tests import Test
from sordino_audit.preregistration import POWER
from sordino_audit.sampled_batches import evenness_p_value, rate_p_values
from sordino_audit.step_view import StepReadings
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

Floats = NDArray[np.float64]

STEP_TESTS = 8
"""How many tests there are: their error is divided before any reading."""

_DEFICITS = np.concatenate([np.linspace(0.005, 0.2, 40), np.linspace(0.22, 0.96, 38)])
_NO_ASSUMPTION = "none on the noise; independent readings"
_GAUSSIAN = "the planned noise is Gaussian"
_COINS = "none"


def step_tests(seen: StepReadings, counts: Counts, plan: TrainingPlan) -> tuple[Test, ...]:
    """All tests of the steps.

    Args:
        seen: what the site noted.
        counts: errors of guessing from a single step, at a threshold fixed before.
        plan: the claimed plan.
    """
    return (
        Test(
            "claimed curve of a step",
            _NO_ASSUMPTION,
            rejection_p_value(counts, gaussian_curve(1 / plan.noise_multiplier)),
            "in single steps, sampled canaries are told from others better than the claim allows",
        ),
        Test(
            "clipping by layer",
            _GAUSSIAN,
            _clipping_p_value(seen.canaries, plan),
            "sampled canaries weigh more than the clipping norm allows",
        ),
        *_model_noise_tests(seen),
        *_sampling_tests(seen, plan),
    )


def step_evidence(seen: StepReadings, plan: TrainingPlan, claim: Guarantee) -> PairEvidence:
    """Pairs of a sampled canary and a held-out lane of the same step, for an e-process.

    Scores are the log-likelihood ratios of one step under the claim.
    """
    variance = plan.noise_multiplier**2
    inserted, held_out = seen.pairs()
    return PairEvidence(
        site=seen.lanes.site,
        test="single steps",
        configuration=configuration_of(plan, claim, view="steps"),
        wagers=claimed_wagers(gaussian_curve(1 / plan.noise_multiplier)),
        inserted=(inserted - 0.5) / variance,
        held_out=(held_out - 0.5) / variance,
    )


def detectable_by_step(plan: TrainingPlan, threshold: float, *, error: float) -> float:
    """Smallest fraction of missing noise that the claimed curve of a step finds with `POWER`.

    By half the lanes, as the coins are expected to fall; each side's count at its own unlucky end,
    so that the power is at least what is said. Nothing that was measured enters.

    Returns:
        1 if it would find nothing.
    """
    readings = plan.lanes * plan.rounds // 2
    hits = int(readings * plan.sampling_rate)
    claimed = gaussian_curve(1 / plan.noise_multiplier)
    unlucky = 1 - (1 - POWER) / 2

    def is_found(deficit: float) -> bool:
        std = plan.noise_multiplier * (1 - deficit)
        alarms = stats.binom.ppf(unlucky, readings, ndtr(-threshold / std))
        misses = stats.binom.ppf(unlucky, hits, ndtr((threshold - 1) / std))
        counts = Counts(int(alarms), readings, int(misses), hits)
        return is_rejected(counts, claimed, error=error)

    return next((float(each) for each in _DEFICITS if is_found(float(each))), 1.0)


def _clipping_p_value(canaries: Floats, plan: TrainingPlan) -> float:
    """That no group's mean reading is above its share of the norm: a test of a Gaussian's mean."""
    hits, groups = canaries.shape
    if hits == 0:
        return 1.0
    excess = canaries.mean(axis=0) - 1 / math.sqrt(groups)
    return smallest(ndtr(-excess * math.sqrt(hits) / plan.noise_multiplier).tolist())


def _model_noise_tests(seen: StepReadings) -> tuple[Test, ...]:
    squares, count = seen.squares.sum(axis=0), seen.coordinates * len(seen.squares)
    by_layer = stats.chi2.cdf(squares, count)
    by_step = stats.chi2.cdf(seen.squares, seen.coordinates)
    return (
        Test(
            "noise of the model by layer",
            _GAUSSIAN,
            smallest(by_layer.tolist()),
            f"layer {int(np.argmin(by_layer)) + 1} of the model has less noise than claimed",
        ),
        Test(
            "noise of the model by step",
            _GAUSSIAN,
            smallest(by_step.ravel().tolist()),
            "in one step, a layer of the model has less noise than claimed",
        ),
        Test(
            "surplus noise of the model",
            _GAUSSIAN,
            smallest(stats.chi2.sf(squares, count).tolist()),
            "a layer of the model has more noise than planned: what ran is not the plan",
            worst=Severity.SUSPECT,
        ),
    )


def _sampling_tests(seen: StepReadings, plan: TrainingPlan) -> tuple[Test, ...]:
    sampled, rate = seen.sampled_inserted, plan.sampling_rate
    steps, inserted = sampled.shape
    more, less = rate_p_values(sampled, rate=rate)
    even = [
        evenness_p_value(sampled.sum(axis=0), trials=steps, rate=rate),
        evenness_p_value(sampled.sum(axis=1), trials=inserted, rate=rate),
    ]
    return (
        Test(
            "sampling rate",
            _COINS,
            more,
            "canaries enter more batches than the claim accounts for",
        ),
        Test(
            "rare sampling",
            _COINS,
            less,
            "canaries enter fewer batches than planned: what ran is not the plan",
            worst=Severity.SUSPECT,
        ),
        Test(
            "independent sampling",
            _COINS,
            smallest(even),
            "batches are not drawn by independent coins, which the claim accounts for",
        ),
    )
