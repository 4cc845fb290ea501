"""One run, many canaries: published values, properties, and false alarms at the worst case."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from statistical import assert_rate

from sordino_audit.bounds import gaussian, one_run, one_run_f_dp
from sordino_audit.bounds.trade_off import gaussian_curve, guarantee_curve
from sordino_protocols.privacy import Guarantee

PUBLISHED = [
    (1000, 100, 95, 2.1652, 3.3233),
    (1000, 200, 190, 2.3936, 3.9161),
    (1000, 500, 400, 1.1980, 2.0768),
    (5000, 100, 100, 3.3524, 4.6242),
    (10000, 1000, 900, 2.0152, 2.8026),
]

guesses_of_canaries = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)).map(
    sorted
)


@pytest.mark.parametrize(("canaries", "guesses", "correct", "pure", "f_dp"), PUBLISHED)
def test_reproduces_published_bounds(
    canaries: int, guesses: int, correct: int, pure: float, f_dp: float
) -> None:
    numbers = {"canaries": canaries, "guesses": guesses, "correct": correct}
    bound = one_run.epsilon_lower_bound(**numbers, delta=1e-5, confidence=0.95)
    assert bound == pytest.approx(pure, abs=1e-3)
    bound = one_run_f_dp.epsilon_lower_bound(**numbers, delta=1e-5, confidence=0.95)
    assert bound == pytest.approx(f_dp, abs=1e-3)


def test_without_delta_the_p_value_is_the_binomial_tail() -> None:
    value = one_run.p_value(canaries=40, guesses=30, correct=25, epsilon=1.0, delta=0.0)
    expected = stats.binom.sf(24, 30, math.e / (1 + math.e))
    assert value == pytest.approx(expected, rel=1e-12)


def test_the_worst_shift_is_no_better_than_any_other_of_the_same_mean() -> None:
    """F may be any independent variable with mean 2 * m * delta: try many, among them mixtures."""
    rng = np.random.default_rng(5)
    canaries, guesses, correct, epsilon, delta = 500, 60, 50, 0.7, 2e-3
    mean = 2 * canaries * delta
    stated = one_run.p_value(
        canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
    )
    rate = 1 / (1 + math.exp(-epsilon))
    tails = stats.binom.sf(correct - 1 - np.arange(61), guesses, rate)
    for _ in range(2_000):
        law = rng.dirichlet(np.full(61, 0.05))
        if (excess := float(law @ np.arange(61)) / mean) > 1:
            law /= excess
            law[0] += 1 - law.sum()
        assert float(law @ tails) <= stated + 1e-12
    assert stated > tails[0]


def test_an_ever_larger_delta_leaves_no_bound() -> None:
    bounds = [
        one_run.epsilon_lower_bound(
            canaries=1000, guesses=100, correct=95, delta=delta, confidence=0.95
        )
        for delta in (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.5)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[2] > 0
    assert bounds[-1] == 0.0


@given(guesses_of_canaries, st.floats(0, 1e-3), st.floats(0.5, 0.999))
@settings(deadline=None, max_examples=40)
def test_never_exceeds_the_cap_of_perfect_guesses(
    numbers: list[int], delta: float, confidence: float
) -> None:
    correct, guesses, canaries = numbers
    bound = one_run.epsilon_lower_bound(
        canaries=canaries, guesses=guesses, correct=correct, delta=delta, confidence=confidence
    )
    assert 0 <= bound <= one_run.cap(guesses, confidence=confidence)


@given(guesses_of_canaries)
@settings(deadline=None, max_examples=40)
def test_one_more_right_guess_never_lowers_a_bound(numbers: list[int]) -> None:
    correct, guesses, canaries = numbers
    assume(correct < guesses)
    for module in (one_run, one_run_f_dp):
        low, high = (
            module.epsilon_lower_bound(
                canaries=canaries, guesses=guesses, correct=each, delta=1e-5, confidence=0.9
            )
            for each in (correct, correct + 1)
        )
        assert low <= high + 1e-9


@given(guesses_of_canaries)
@settings(deadline=None, max_examples=40)
def test_knowing_the_family_raises_the_bound_but_for_a_hundredth_near_zero(
    numbers: list[int],
) -> None:
    correct, guesses, canaries = numbers
    pure, f_dp = (
        module.epsilon_lower_bound(
            canaries=canaries, guesses=guesses, correct=correct, delta=1e-5, confidence=0.95
        )
        for module in (one_run, one_run_f_dp)
    )
    assert f_dp >= pure - 0.02


def test_all_guesses_right_meets_the_cap_without_delta() -> None:
    bound = one_run.epsilon_lower_bound(
        canaries=100, guesses=100, correct=100, delta=0.0, confidence=0.95
    )
    assert bound == pytest.approx(one_run.cap(100, confidence=0.95), abs=1e-12)
    assert bound == pytest.approx(-math.log(0.05 ** (-1 / 100) - 1), rel=1e-9)


@pytest.mark.parametrize("numbers", [(0, 0, 0), (50, 0, 0), (50, 50, 0), (50, 50, 25)])
def test_says_nothing_where_there_is_nothing_to_say(numbers: tuple[int, int, int]) -> None:
    canaries, guesses, correct = numbers
    for module in (one_run, one_run_f_dp):
        bound = module.epsilon_lower_bound(
            canaries=canaries, guesses=guesses, correct=correct, delta=1e-5, confidence=0.95
        )
        assert bound == 0.0


def test_impossible_numbers_are_refused() -> None:
    for module in (one_run, one_run_f_dp):
        with pytest.raises(ValueError, match="correct <= guesses <= canaries"):
            module.epsilon_lower_bound(
                canaries=10, guesses=5, correct=6, delta=1e-5, confidence=0.95
            )
        with pytest.raises(ValueError, match="confidence"):
            module.epsilon_lower_bound(
                canaries=10, guesses=5, correct=5, delta=1e-5, confidence=1.0
            )
        with pytest.raises(ValueError, match="delta"):
            module.epsilon_lower_bound(canaries=10, guesses=5, correct=5, delta=1.0, confidence=0.9)
    with pytest.raises(ValueError, match="no epsilon at delta = 0"):
        one_run_f_dp.epsilon_lower_bound(
            canaries=10, guesses=5, correct=5, delta=0.0, confidence=0.9
        )
    with pytest.raises(ValueError, match="error"):
        one_run_f_dp.is_rejected(gaussian_curve(1.0), canaries=10, guesses=5, correct=5, error=0.0)


def test_a_curve_is_rejected_exactly_below_its_family_bound() -> None:
    numbers = {"canaries": 1000, "guesses": 200, "correct": 190}
    mu = one_run_f_dp.mu_lower_bound(**numbers, confidence=0.95)
    assert one_run_f_dp.is_rejected(gaussian_curve(mu * 0.999), **numbers, error=0.05)
    assert not one_run_f_dp.is_rejected(gaussian_curve(mu * 1.001), **numbers, error=0.05)


def test_the_curve_of_a_pure_guarantee_agrees_with_the_pure_bound_or_is_weaker() -> None:
    """Randomised response attains both, so the recursion must not reject what is possible."""
    rng, trials, lanes, epsilon = np.random.default_rng(6), 3_000, 80, 1.2
    curve = guarantee_curve(Guarantee(epsilon, 1e-12))
    correct = rng.binomial(lanes, 1 / (1 + math.exp(-epsilon)), size=trials)
    rejected = {
        int(each): one_run_f_dp.is_rejected(
            curve, canaries=lanes, guesses=lanes, correct=int(each), error=0.05
        )
        for each in np.unique(correct)
    }
    assert_rate(sum(rejected[int(each)] for each in correct), trials, 0.05, at_most=True)
    assert any(rejected.values())


def test_clean_audits_exceed_the_truth_no_more_often_than_stated() -> None:
    """Worst case of (epsilon, 0): randomised response, every canary guessed."""
    rng, trials, canaries, epsilon = np.random.default_rng(7), 4_000, 200, 1.0
    correct = rng.binomial(canaries, 1 / (1 + math.exp(-epsilon)), size=trials)
    bounds = {
        int(each): one_run.epsilon_lower_bound(
            canaries=canaries, guesses=canaries, correct=int(each), delta=1e-5, confidence=0.95
        )
        for each in np.unique(correct)
    }
    exceeded = sum(bounds[int(each)] > epsilon for each in correct)
    assert_rate(exceeded, trials, 0.05, at_most=True)
    # The check can fail: the same audits contradict a smaller claim most of the time.
    smaller = sum(bounds[int(each)] > epsilon / 2 for each in correct)
    assert_rate(smaller, trials, 0.5, at_least=True)


def test_clean_gaussian_audits_exceed_the_truth_no_more_often_than_stated() -> None:
    rng, trials, canaries, guesses, mu = np.random.default_rng(8), 1_500, 200, 60, 1.0
    inserted = rng.random((trials, canaries)) < 0.5
    scores = mu * inserted + rng.standard_normal((trials, canaries)) - mu / 2
    chosen = np.argsort(-np.abs(scores), axis=1)[:, :guesses]
    guessed = np.take_along_axis(scores, chosen, axis=1) > 0
    correct = np.sum(guessed == np.take_along_axis(inserted, chosen, axis=1), axis=1)
    bounds = {
        int(each): one_run_f_dp.epsilon_lower_bound(
            canaries=canaries, guesses=guesses, correct=int(each), delta=1e-5, confidence=0.95
        )
        for each in np.unique(correct)
    }
    truth = gaussian.epsilon_from_mu(mu, 1e-5)
    assert_rate(sum(bounds[int(each)] > truth for each in correct), trials, 0.05, at_most=True)
    assert np.median([bounds[int(each)] for each in correct]) > 0.4 * truth
