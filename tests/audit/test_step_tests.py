"""Tests on single steps: valid p-values on simulated notes, power as stated, honest pairs."""

from functools import cache

import numpy as np
import pytest
from lane_simulation import claim_of, training_plan
from statistical import assert_rate
from step_simulation import ONE_LAYER, observe

from sordino_audit.bounds import step_level
from sordino_audit.bounds.trade_off import gaussian_curve, is_rejected
from sordino_audit.e_values import weigh_alone
from sordino_audit.lanes import VIOLATION_ERROR
from sordino_audit.preregistration import POWER
from sordino_audit.readings import LaneReadings
from sordino_audit.step_tests import STEP_TESTS, detectable_by_step, step_evidence, step_tests
from sordino_audit.step_view import StepReadings, step_readings

PLAN = training_plan(sampling_rate=0.2, noise_multiplier=1.0, rounds=20, lanes=60, groups=2)
COORDINATES = np.array([7, 40])


def _seen(
    rng: np.random.Generator, *, noise_ratio: float = 1.0, weight: float = 1.0
) -> StepReadings:
    """What a site notes, drawn from its law: every step a round."""
    inserted = rng.random(PLAN.lanes) < 0.5
    sampled = (rng.random((PLAN.rounds, PLAN.lanes)) < PLAN.sampling_rate) & inserted
    noise = rng.normal(0, PLAN.noise_multiplier * noise_ratio, (PLAN.rounds, 2, PLAN.lanes))
    readings = noise + weight * sampled[:, np.newaxis] / np.sqrt(2)
    squares = noise_ratio**2 * rng.chisquare(COORDINATES, size=(PLAN.rounds, 2))
    return StepReadings(LaneReadings("north", readings, inserted), sampled, squares, COORDINATES)


@cache
def _threshold() -> float:
    return step_level.planned_threshold(
        noise_multiplier=1.0, inserted=120, held_out=600, confidence=0.95
    )


def _p_values(seen: StepReadings) -> dict[str, float]:
    tests = step_tests(seen, seen.counts(_threshold()), PLAN)
    assert len(tests) == STEP_TESTS
    return {each.name: each.p_value for each in tests}


def test_p_values_of_honest_steps_are_valid() -> None:
    rng, trials = np.random.default_rng(1), 500
    found = [_p_values(_seen(rng)) for _ in range(trials)]
    for name in found[0]:
        for level in (0.01, 0.1):
            wrong = sum(each[name] <= level for each in found)
            assert_rate(wrong, trials, level, at_most=True)
        if name not in {"claimed curve of a step", "independent sampling"}:
            # Discrete ones waste a part of their level.
            wrong = sum(each[name] <= 0.1 for each in found)
            assert_rate(wrong, trials, 0.05, at_least=True)


def test_every_kind_of_missing_noise_shows_in_its_test() -> None:
    found = _p_values(_seen(np.random.default_rng(2), noise_ratio=0.5))
    for name in ("claimed curve of a step", "noise of the model by layer"):
        assert found[name] < 1e-6
    heavy = _p_values(_seen(np.random.default_rng(3), weight=2.0))
    assert heavy["clipping by layer"] < 1e-6
    assert heavy["noise of the model by layer"] > 1e-3


def test_a_step_finds_the_stated_deficit_with_the_stated_power() -> None:
    rng, trials, error = np.random.default_rng(4), 300, VIOLATION_ERROR / 19
    deficit = detectable_by_step(PLAN, _threshold(), error=error)
    assert 0.1 < deficit < 0.95
    claimed = gaussian_curve(1 / PLAN.noise_multiplier)
    found = sum(
        is_rejected(_seen(rng, noise_ratio=1 - deficit).counts(_threshold()), claimed, error=error)
        for _ in range(trials)
    )
    assert_rate(found, trials, POWER - 0.05, at_least=True, false_failure=1e-6)


def test_too_few_steps_find_nothing() -> None:
    plan = training_plan(sampling_rate=0.2, noise_multiplier=1.0, rounds=1, lanes=4)
    assert detectable_by_step(plan, _threshold(), error=1e-4) == 1.0


def test_pairs_are_of_one_step_and_in_the_order_of_lanes() -> None:
    inserted = np.array([True, False, True, False, True])
    sampled = np.array([[True, False, True, False, True], [False, False, True, False, False]])
    readings = np.arange(10.0).reshape(2, 1, 5)
    seen = StepReadings(
        LaneReadings("north", readings, inserted), sampled, np.ones((2, 1)), np.array([1])
    )
    present, absent = seen.pairs()
    # Three canaries and two held-out lanes: the third canary of the first step has no partner.
    assert present.tolist() == [0.0, 2.0, 7.0]
    assert absent.tolist() == [1.0, 3.0, 6.0]


def test_counts_are_of_the_sampled_and_of_the_held_out() -> None:
    observed = observe(ONE_LAYER)
    seen = step_readings(observed.rounds, observed.run.inserted, ONE_LAYER, site="north")
    counts = seen.counts(0.5)
    combined = seen.lanes.combined
    assert counts.inserted == int(seen.sampled.sum())
    assert counts.held_out == 40 * int(np.sum(~observed.run.inserted))
    assert counts.false_negatives == int(np.sum(combined[seen.sampled] < 0.5))
    assert counts.false_positives == int(np.sum(combined[:, ~observed.run.inserted] >= 0.5))


@pytest.mark.parametrize(("noise_ratio", "is_strong"), [(1.0, False), (0.6, True)])
def test_pairs_of_steps_are_evidence_of_missing_noise(
    noise_ratio: float, *, is_strong: bool
) -> None:
    rng = np.random.default_rng(5)
    values = [
        weigh_alone([step_evidence(_seen(rng, noise_ratio=noise_ratio), PLAN, claim_of(PLAN))])[0]
        for _ in range(30)
    ]
    assert values[0].test == "single steps"
    assert (float(np.mean([each.log_value for each in values])) > 1) == is_strong
