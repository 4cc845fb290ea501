"""The computed view against simulation and against exact formulas."""

import math

import numpy as np
import pytest
from lane_simulation import DELTA, training_plan
from statistical import assert_rate

from sordino_audit.bounds import gaussian
from sordino_audit.view import operating_curve, score, server_view, shown_epsilon
from sordino_protocols.plan import TrainingPlan

PLANS = [
    training_plan(rounds=30),
    training_plan(sampling_rate=0.05, noise_multiplier=1.0, rounds=30),
    training_plan(sampling_rate=0.1, noise_multiplier=1.0, rounds=10, local_steps=4),
]


def test_without_subsampling_the_score_is_the_sum_of_the_readings() -> None:
    plan = training_plan(noise_multiplier=2.0, rounds=3, local_steps=2)
    readings = np.array([[0.5, -1.0], [1.0, 0.0], [2.0, 3.0]])
    # Normal(2, 8) against Normal(0, 8), a round: (4 y - 4) / 16.
    assert score(readings, plan) == pytest.approx((4 * readings - 4).sum(axis=0) / 16)


def test_one_subsampled_step_scores_by_the_published_formula() -> None:
    plan = training_plan(sampling_rate=0.05, noise_multiplier=0.9, rounds=4)
    readings = np.random.default_rng(5).normal(size=(4, 6))
    expected = np.log(0.95 + 0.05 * np.exp((readings - 0.5) / 0.81)).sum(axis=0)
    assert score(readings, plan) == pytest.approx(expected)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("noise_ratio", [1.0, 0.7])
def test_computed_error_rates_agree_with_simulation(plan: TrainingPlan, noise_ratio: float) -> None:
    rng, lanes = np.random.default_rng(6), 20_000
    std = math.sqrt(plan.local_steps) * plan.noise_multiplier * noise_ratio
    noise = rng.normal(0, std, size=(2, plan.rounds, lanes))
    hits = rng.binomial(plan.local_steps, plan.sampling_rate, size=(plan.rounds, lanes))
    held_out, inserted = score(noise[0], plan), score(noise[1] + hits, plan)
    thresholds = np.quantile(np.concatenate([held_out, inserted]), [0.05, 0.3, 0.5, 0.7, 0.95])
    rates = operating_curve(plan, noise_ratio=noise_ratio).rates(thresholds)
    for threshold, fpr, fnr in zip(thresholds, *rates, strict=True):
        # 1e-7: the threshold is itself a quantile of these scores.
        assert_rate(int(np.sum(held_out >= threshold)), lanes, float(fpr), false_failure=1e-7)
        assert_rate(int(np.sum(inserted < threshold)), lanes, float(fnr), false_failure=1e-7)


@pytest.mark.parametrize("plan", PLANS)
def test_the_claimed_curve_is_never_above_what_an_honest_run_shows(plan: TrainingPlan) -> None:
    actual = operating_curve(plan)
    claimed = server_view(plan, delta=DELTA).curve(actual.false_positive_rates)
    middle = (actual.false_positive_rates > 1e-6) & (actual.false_positive_rates < 1 - 1e-6)
    assert np.all(claimed[middle] <= actual.false_negative_rates[middle] + 1e-5)


@pytest.mark.parametrize("plan", PLANS)
def test_the_shown_epsilon_is_just_below_the_ceiling(plan: TrainingPlan) -> None:
    ceiling = server_view(plan, delta=DELTA).ceiling
    shown = shown_epsilon(plan, noise_ratio=1.0, delta=DELTA)
    assert 0.97 * ceiling <= shown <= 1.001 * ceiling
    assert shown_epsilon(plan, noise_ratio=2.0, delta=DELTA) < shown


def test_without_subsampling_the_ceiling_is_exact() -> None:
    plan = training_plan(noise_multiplier=5.0, rounds=8, local_steps=2)
    expected = gaussian.epsilon_from_mu(4 / 5.0, DELTA)
    assert server_view(plan, delta=DELTA).ceiling == pytest.approx(expected)


def test_several_local_steps_show_less_than_as_many_rounds() -> None:
    summed = training_plan(sampling_rate=0.05, noise_multiplier=1.0, rounds=4, local_steps=5)
    apart = training_plan(sampling_rate=0.05, noise_multiplier=1.0, rounds=20, local_steps=1)
    summed_ceiling = server_view(summed, delta=DELTA).ceiling
    assert summed_ceiling < 0.9 * server_view(apart, delta=DELTA).ceiling
