"""What is no bound, and is labelled so: credible intervals, the one-shot estimate, convention."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statistical import assert_rate

from sordino_audit.bounds import convention, credible, gaussian, one_shot
from sordino_audit.bounds.clopper_pearson import Counts, epsilon_from_rates, epsilon_lower_bound

DELTA = 1e-5


def test_credible_interval_agrees_with_sampling_from_the_posterior() -> None:
    counts, rng = Counts(20, 500, 250, 500), np.random.default_rng(11)
    alarms = rng.beta(20.5, 480.5, size=200_000)
    misses = rng.beta(250.5, 250.5, size=200_000)
    shown = np.array(
        [
            epsilon_from_rates(float(a), float(b), DELTA)
            for a, b in zip(alarms[:20_000], misses[:20_000], strict=True)
        ]
    )
    low, high = credible.epsilon_interval(counts, delta=DELTA)
    assert low == pytest.approx(float(np.quantile(shown, 0.025)), abs=0.03)
    assert high == pytest.approx(float(np.quantile(shown, 0.975)), abs=0.03)
    below = credible.posterior_probability(counts, epsilon=2.5, delta=DELTA)
    assert_rate(int(np.sum(shown <= 2.5)), shown.size, below, false_failure=1e-6)


def test_credible_interval_is_shorter_than_confidence_limits_at_few_canaries() -> None:
    counts = Counts(2, 50, 10, 50)
    low, high = credible.epsilon_interval(counts, delta=DELTA, credibility=0.9)
    assert epsilon_lower_bound(counts, delta=DELTA, confidence=0.9) < low < high


def test_credible_interval_of_no_canaries_and_of_guessing_starts_at_zero() -> None:
    assert credible.epsilon_interval(Counts(0, 0, 0, 0), delta=DELTA)[0] == 0.0
    assert credible.epsilon_interval(Counts(250, 500, 250, 500), delta=DELTA)[0] == 0.0


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.5, 0.99))
@settings(deadline=None, max_examples=6)
def test_credible_interval_is_ordered_and_widens(
    alarms: int, misses: int, credibility: float
) -> None:
    counts = Counts(alarms, 60, misses, 60)
    low, high = credible.epsilon_interval(counts, delta=DELTA, credibility=credibility)
    wider = credible.epsilon_interval(counts, delta=DELTA, credibility=(1 + credibility) / 2)
    assert 0 <= wider[0] <= low <= high <= wider[1]


def test_credible_interval_refuses_bad_numbers() -> None:
    with pytest.raises(ValueError, match="confidence"):
        credible.epsilon_interval(Counts(0, 1, 0, 1), delta=DELTA, credibility=1.0)
    with pytest.raises(ValueError, match="epsilon"):
        credible.posterior_probability(Counts(0, 1, 0, 1), epsilon=-1.0, delta=DELTA)


@pytest.mark.parametrize("mu", [0.3, 1.0, 4.0])
def test_two_gaussians_of_one_scale_are_gaussian_dp(mu: float) -> None:
    shown = one_shot.gaussian_pair_epsilon(mean=mu * 0.2, std=0.2, null_std=0.2, delta=DELTA)
    assert shown == pytest.approx(gaussian.epsilon_from_mu(mu, DELTA), rel=1e-5)


def test_two_gaussians_of_different_scale_agree_with_the_region_of_their_ratio() -> None:
    mean, std, null_std = 0.8, 1.5, 1.0
    epsilon = one_shot.gaussian_pair_epsilon(mean=mean, std=std, null_std=null_std, delta=DELTA)

    def excess(first: tuple[float, float], second: tuple[float, float]) -> float:
        """P(ratio > e^epsilon) - e^epsilon Q(the same), the region from a quadratic equation."""
        (m, s), (k, t) = first, second
        square, linear = 1 / (2 * t**2) - 1 / (2 * s**2), m / s**2 - k / t**2
        constant = math.log(t / s) - m**2 / (2 * s**2) + k**2 / (2 * t**2) - epsilon
        root = linear**2 - 4 * square * constant
        if root < 0:
            return 1 - math.exp(epsilon) if square > 0 else 0.0
        ends = sorted((-linear + sign * math.sqrt(root)) / (2 * square) for sign in (-1, 1))
        inside = [
            stats.norm.cdf(ends[1], c, d) - stats.norm.cdf(ends[0], c, d)
            for c, d in (first, second)
        ]
        outside = [
            stats.norm.sf(ends[1], c, d) + stats.norm.cdf(ends[0], c, d) for c, d in (first, second)
        ]
        masses = outside if square > 0 else inside
        return float(masses[0] - math.exp(epsilon) * masses[1])

    present, absent = (mean, std), (0.0, null_std)
    assert max(excess(present, absent), excess(absent, present)) == pytest.approx(DELTA, rel=1e-3)


def test_one_shot_estimate_finds_the_epsilon_of_a_gaussian_mechanism() -> None:
    """Random directions of 10,000 dimensions, their sum released with noise (Andrew 2023, 3.1)."""
    rng, dimensions, canaries, noise = np.random.default_rng(12), 10_000, 400, 1.5
    directions = rng.standard_normal((canaries, dimensions))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    released = directions.sum(axis=0) + noise * rng.standard_normal(dimensions)
    cosines = directions @ released / np.linalg.norm(released)
    estimate = one_shot.epsilon_estimate(cosines, dimensions=dimensions, delta=DELTA)
    assert estimate == pytest.approx(gaussian.epsilon_from_mu(1 / noise, DELTA), abs=0.6)


def test_one_shot_estimate_of_nothing_inserted_is_near_zero() -> None:
    rng, dimensions = np.random.default_rng(13), 1_000
    cosines = rng.standard_normal(2_000) / math.sqrt(dimensions)
    estimate = one_shot.epsilon_estimate(cosines, dimensions=dimensions, delta=DELTA)
    assert estimate < 0.6


def test_one_shot_estimate_refuses_what_is_no_cosine() -> None:
    for cosines in (np.array([0.1]), np.array([0.1, 1.5]), np.array([0.1, math.nan])):
        with pytest.raises(ValueError, match="cosines"):
            one_shot.epsilon_estimate(cosines, dimensions=100, delta=DELTA)
    with pytest.raises(ValueError, match="delta"):
        one_shot.epsilon_estimate(np.array([0.1, 0.2]), dimensions=100, delta=0.0)


def test_the_convention_takes_the_best_of_all_thresholds() -> None:
    rng = np.random.default_rng(14)
    inserted, held_out = 1.0 + rng.standard_normal(300), rng.standard_normal(200)
    best = convention.best_threshold_mu(inserted, held_out, confidence=0.95)
    # Each limit gets the whole 5 %, where the bound gives it half.
    values = [
        gaussian.mu_lower_bound(
            Counts(int(np.sum(held_out >= t)), 200, int(np.sum(inserted < t)), 300),
            confidence=0.90,
        )
        for t in np.concatenate([inserted, held_out])
    ]
    assert best == pytest.approx(max(values), abs=1e-12)


def test_the_convention_is_no_bound() -> None:
    """At nominal 5 % it exceeds the true mu in far more than 5 % of clean audits."""
    rng, trials, mu = np.random.default_rng(15), 200, 1.0
    exceeded = sum(
        convention.best_threshold_mu(
            mu + rng.standard_normal(1_000), rng.standard_normal(1_000), confidence=0.95
        )
        > mu
        for _ in range(trials)
    )
    assert stats.binomtest(exceeded, trials, 0.05, alternative="greater").pvalue < 1e-6


def test_the_convention_without_scores_is_zero_and_refuses_nan() -> None:
    empty = np.array([])
    assert convention.best_threshold_mu(empty, empty, confidence=0.95) == 0.0
    assert convention.best_threshold_mu(np.array([1.0]), empty, confidence=0.95) == 0.0
    with pytest.raises(ValueError, match="every score"):
        convention.best_threshold_mu(np.array([math.nan]), empty, confidence=0.95)
