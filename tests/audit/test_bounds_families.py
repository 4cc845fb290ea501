"""Bounds within a family of mechanisms, and from single steps."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from statistical import assert_rate

from sordino_audit.bounds import families, gaussian, step_level
from sordino_audit.bounds.clopper_pearson import Counts, epsilon_lower_bound
from sordino_audit.bounds.trade_off import gaussian_curve
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.privacy import PoissonGaussian

DELTA = 1e-5


def expected_counts(noise: float, threshold: float, *, inserted: int, held_out: int) -> Counts:
    return Counts(
        round(held_out * ndtr(-threshold / noise)),
        held_out,
        round(inserted * ndtr((threshold - 1) / noise)),
        inserted,
    )


def test_the_largest_noise_is_the_first_member_that_is_contradicted() -> None:
    counts = Counts(20, 500, 100, 500)
    noise = families.largest_noise(
        counts, families.subsampled_gaussian(sampling_rate=1, steps=4), confidence=0.95
    )
    exact = 2 / gaussian.mu_lower_bound(counts, confidence=0.95)
    assert exact <= noise <= exact * 1.008


def test_counts_that_contradict_nothing_bound_nothing() -> None:
    family = families.subsampled_gaussian(sampling_rate=1, steps=1)
    hopeless = Counts(50, 100, 50, 100)
    assert families.largest_noise(hopeless, family, confidence=0.95) == math.inf
    bound = families.epsilon_lower_bound(
        hopeless, sampling_rate=0.1, steps=10, delta=DELTA, confidence=0.95
    )
    assert bound == 0.0


def test_counts_without_any_error_are_bounded_all_the_same() -> None:
    bound = families.epsilon_lower_bound(
        Counts(0, 5000, 0, 5000), sampling_rate=0.5, steps=10, delta=DELTA, confidence=0.95
    )
    assert 7.0 < bound <= 101


def test_the_family_shows_far_more_than_no_assumption() -> None:
    counts = Counts(20, 2000, 1000, 2000)
    alone = epsilon_lower_bound(counts, delta=DELTA, confidence=0.95)
    within = families.epsilon_lower_bound(
        counts, sampling_rate=0.2, steps=30, delta=DELTA, confidence=0.95
    )
    assert within > 1.5 * alone > 0


def test_without_subsampling_the_family_is_gaussian_dp() -> None:
    counts = Counts(20, 500, 100, 500)
    bound = families.epsilon_lower_bound(
        counts, sampling_rate=1, steps=9, delta=DELTA, confidence=0.95
    )
    mu = gaussian.mu_lower_bound(counts, confidence=0.95)
    assert bound == pytest.approx(gaussian.epsilon_from_mu(mu, DELTA))


def test_a_sampled_member_is_never_above_the_unsampled_one() -> None:
    rates = np.geomspace(1e-4, 1, 50)
    sampled = families.subsampled_gaussian(sampling_rate=0.3, steps=1)(1.0)(rates)
    whole = gaussian_curve(1.0)(rates)
    assert np.all(sampled >= whole - 1e-9)
    # Exact for one step, where a canary is in the batch with probability .3 (direction: insert).
    attainable = 0.3 * whole + 0.7 * (1 - rates)
    assert np.all(sampled <= attainable + 1e-9)


def test_step_level_bound_reaches_most_of_epsilon() -> None:
    event = PoissonGaussian(0.01, 0.9591362, 1000)
    truth = epsilon_by_pld(event, DELTA)
    inserted, held_out = 10_000, 990_000  # 2,000 lanes, half of them with a canary
    threshold = step_level.planned_threshold(
        noise_multiplier=event.noise_multiplier,
        inserted=inserted,
        held_out=held_out,
        confidence=0.999,
    )
    counts = expected_counts(
        event.noise_multiplier, threshold, inserted=inserted, held_out=held_out
    )
    bound = step_level.epsilon_lower_bound(
        counts, sampling_rate=0.01, steps=1000, delta=DELTA, confidence=0.999
    )
    assert 0.85 * truth <= bound < truth


def test_the_planned_threshold_is_better_than_others() -> None:
    noise, inserted, held_out = 1.3, 2_000, 200_000
    planned = step_level.planned_threshold(
        noise_multiplier=noise, inserted=inserted, held_out=held_out, confidence=0.99
    )
    bounds = [
        gaussian.mu_lower_bound(
            expected_counts(noise, threshold, inserted=inserted, held_out=held_out),
            confidence=0.99,
        )
        for threshold in (planned - 1, planned, planned + 1)
    ]
    assert bounds[1] == max(bounds)


def test_steps_compose_exactly_without_subsampling() -> None:
    shown = step_level.epsilon_from_step_mu(0.25, sampling_rate=1, steps=16, delta=DELTA)
    assert shown == pytest.approx(gaussian.epsilon_from_mu(1.0, DELTA))
    assert step_level.epsilon_from_step_mu(0.0, sampling_rate=0.5, steps=16, delta=DELTA) == 0.0


def test_almost_no_noise_gives_a_bound_and_not_an_upper_bound() -> None:
    shown = step_level.epsilon_from_step_mu(60.0, sampling_rate=0.5, steps=100, delta=DELTA)
    assert 20 < shown <= 101


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.5, 0.9999))
@settings(deadline=None)
def test_one_error_less_never_lowers_the_step_bound(
    alarms: int, misses: int, confidence: float
) -> None:
    worse, fewer_alarms, fewer_misses = (
        step_level.epsilon_lower_bound(
            Counts(fp, 300, fn, 300), sampling_rate=1, steps=5, delta=DELTA, confidence=confidence
        )
        for fp, fn in ((alarms, misses), (max(alarms - 1, 0), misses), (alarms, max(misses - 1, 0)))
    )
    assert worse <= fewer_alarms + 1e-9
    assert worse <= fewer_misses + 1e-9


def test_bad_numbers_are_refused() -> None:
    counts = Counts(1, 10, 1, 10)
    with pytest.raises(ValueError, match="delta"):
        step_level.epsilon_lower_bound(
            counts, sampling_rate=0.1, steps=10, delta=0.0, confidence=0.9
        )
    with pytest.raises(ValueError, match="confidence"):
        families.epsilon_lower_bound(
            counts, sampling_rate=0.1, steps=10, delta=1e-5, confidence=0.0
        )
    with pytest.raises(ValueError, match="sampling_rate"):
        step_level.epsilon_lower_bound(
            counts, sampling_rate=1.5, steps=10, delta=1e-5, confidence=0.9
        )
    with pytest.raises(ValueError, match="steps"):
        families.epsilon_lower_bound(counts, sampling_rate=0.5, steps=0, delta=1e-5, confidence=0.9)
    with pytest.raises(ValueError, match="noise_multiplier"):
        step_level.planned_threshold(
            noise_multiplier=math.nan, inserted=10, held_out=10, confidence=0.9
        )


def test_clean_steps_exceed_the_truth_no_more_often_than_stated() -> None:
    rng, trials, noise, error = np.random.default_rng(9), 1_500, 1.2, 0.05
    inserted, held_out = 400, 2_000
    threshold = step_level.planned_threshold(
        noise_multiplier=noise, inserted=inserted, held_out=held_out, confidence=1 - error
    )
    alarms = rng.binomial(held_out, ndtr(-threshold / noise), size=trials)
    misses = rng.binomial(inserted, ndtr((threshold - 1) / noise), size=trials)
    bounds = [
        step_level.epsilon_lower_bound(
            Counts(int(fp), held_out, int(fn), inserted),
            sampling_rate=1,
            steps=10,
            delta=DELTA,
            confidence=1 - error,
        )
        for fp, fn in zip(alarms, misses, strict=True)
    ]
    truth = gaussian.epsilon_from_mu(math.sqrt(10) / noise, DELTA)
    assert_rate(sum(bound > truth for bound in bounds), trials, error, at_most=True)
    assert float(np.median(bounds)) > 0.7 * truth


def test_a_true_member_is_contradicted_no_more_often_than_stated() -> None:
    rng, trials, lanes, error = np.random.default_rng(10), 1_500, 300, 0.05
    family = families.subsampled_gaussian(sampling_rate=1, steps=1)
    alarms = rng.binomial(lanes, ndtr(-1.0), size=trials)
    misses = rng.binomial(lanes, 0.5, size=trials)
    noises = [
        families.largest_noise(Counts(int(fp), lanes, int(fn), lanes), family, confidence=1 - error)
        for fp, fn in zip(alarms, misses, strict=True)
    ]
    assert_rate(sum(noise < 1.0 for noise in noises), trials, error, at_most=True)
    assert np.median(noises) < 1.5
