"""From scores to p-values, bounds and power: on made-up scores, whose truth is known."""

import numpy as np
import pytest
from scipy import stats
from small_replay import small_plan
from statistical import assert_rate

from sordino_audit.bounds.trade_off import guarantee_curve
from sordino_audit.findings import Severity
from sordino_audit.replay.judging import (
    ONE_RUN,
    Claim,
    Guesses,
    bounds_of,
    claim_of,
    curve_p_value,
    detectable_deficit,
    findable_share,
    guess,
    guess_counts,
    layer_noise,
    membership_test,
    noise_test,
    result_of,
    surplus_test,
)
from sordino_audit.replay.observation import Observation
from sordino_audit.replay.portfolio import Scored
from sordino_protocols.privacy import Guarantee

GUARANTEE = Guarantee(1.0, 1e-5)
CLAIM = Claim(GUARANTEE, guarantee_curve(GUARANTEE), 1.0)


def coins_and_scores(
    canaries: int, *, epsilon: float, seed: int
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], Scored]:
    """Randomised response, the worst mechanism of its epsilon."""
    rng = np.random.default_rng(seed)
    coins = rng.random((4, canaries // 4)) < 0.5
    is_true = rng.random(coins.shape) < np.exp(epsilon) / (1 + np.exp(epsilon))
    said = np.where(is_true, coins, ~coins)
    return coins, Scored("attack", said + 0.01 * rng.random(coins.shape))


def observation(squares: list[float], counts: list[int]) -> Observation:
    nothing = np.zeros(0)
    return Observation(
        np.zeros(0, dtype=np.bool_),
        nothing,
        nothing,
        nothing,
        nothing,
        np.array(squares),
        np.array(counts),
    )


def test_the_highest_scores_are_guessed_in_and_the_lowest_out() -> None:
    scores = np.array([[5.0, 1.0, 4.0], [2.0, 3.0, 0.0]])
    coins = np.array([[True, False, False], [False, True, True]])

    assert guess(scores, coins, guesses=6) == Guesses(6, 6, 4)
    assert guess(scores, coins, guesses=2) == Guesses(6, 2, 1)
    assert guess(scores, coins, guesses=3) == Guesses(6, 3, 1)
    assert guess(scores, coins, guesses=4) == Guesses(6, 4, 2)


def test_an_attacker_who_is_always_right_contradicts_a_claim_of_1() -> None:
    coins = np.random.default_rng(1).random((4, 50)) < 0.5
    test = membership_test(Scored("attack", coins.astype(np.float64)), coins, CLAIM)

    # Not below delta: with that probability the claim allows everything.
    assert test.p_value < 1e-4
    assert test.worst is Severity.VIOLATION


def test_a_claim_that_holds_is_rejected_no_more_often_than_promised() -> None:
    """Randomised response at the claimed epsilon: every guess leaks as much as it may."""
    trials = 100
    p_values = [
        membership_test(scored, coins, CLAIM).p_value
        for coins, scored in (
            coins_and_scores(120, epsilon=1.0, seed=seed) for seed in range(trials)
        )
    ]

    for level in (0.05, 0.2):
        assert_rate(sum(p <= level for p in p_values), trials, level, at_most=True)


def test_a_claim_that_is_broken_is_rejected() -> None:
    rejected = [
        membership_test(scored, coins, CLAIM).p_value < 1e-3
        for coins, scored in (coins_and_scores(400, epsilon=2.5, seed=seed) for seed in range(5))
    ]

    assert all(rejected)


def test_bounds_hold_for_randomised_response_and_come_close() -> None:
    trials, delta = 40, 1e-5
    bounds = []
    for seed in range(trials):
        coins, scored = coins_and_scores(400, epsilon=2.0, seed=seed)
        bounds.append(bounds_of(scored, coins, delta=delta, confidence=0.9)[0].epsilon_low)

    # Guesses are halves, so a few scores close to the middle are turned around.
    assert_rate(sum(bound > 2.0 for bound in bounds), trials, 0.1, at_most=True)
    assert np.median(bounds) >= 1.5


def test_p_values_fall_as_more_guesses_are_right() -> None:
    p_values = [
        curve_p_value(Guesses(100, 100, correct), CLAIM.curve) for correct in range(60, 101, 5)
    ]

    assert p_values[0] == 1.0
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[-1] < 1e-4


def test_the_number_of_guesses_is_fixed_by_the_number_of_canaries() -> None:
    assert guess_counts(192) == (192, 24)
    assert guess_counts(8) == (8, 2)


def test_what_could_have_been_found_is_what_is_found() -> None:
    share = findable_share(200, CLAIM, error=1e-3)

    assert share is not None
    least = round(share * 200)
    assert curve_p_value(Guesses(200, 200, least), CLAIM.curve) <= 1e-3
    assert curve_p_value(Guesses(200, 200, least - 1), CLAIM.curve) > 1e-3
    assert findable_share(8, CLAIM, error=1e-3) is None


def test_the_claim_of_a_plan_is_that_of_all_its_steps() -> None:
    plan = small_plan().job.plan.require_training()
    claim = claim_of(plan, GUARANTEE)

    mu = np.sqrt(3) / plan.noise_multiplier
    rates = np.array([0.01, 0.3])
    exact = stats.norm.cdf(stats.norm.ppf(1 - rates) - mu)
    assert np.all(claim.curve(rates) >= exact - 1e-12)
    # The evaluation has its share of the guarantee.
    assert 0.8 < claim.ceiling < 1.0


def test_the_result_of_an_attack_carries_its_bound_and_its_steps() -> None:
    coins, scored = coins_and_scores(400, epsilon=2.0, seed=1)
    bound = bounds_of(scored, coins, delta=1e-5, confidence=0.9)[0]
    result = result_of(scored, coins, bound, confidence=0.9)

    assert result.epsilon_low == bound.epsilon_low > 0
    assert result.assumption == ONE_RUN
    assert len(result.members) == int(coins.sum())
    assert 0.8 < result.auc < 0.95


# -------------------------------------------------------------------------------------- noise


def test_noise_as_claimed_passes_and_too_little_in_one_layer_does_not() -> None:
    rng = np.random.default_rng(2)
    honest = observation([float(rng.chisquare(500)), float(rng.chisquare(60))], [500, 60])
    quiet = observation([float(rng.chisquare(500)), 0.25 * float(rng.chisquare(60))], [500, 60])

    assert noise_test([honest]).p_value > 1e-6
    assert noise_test([quiet]).p_value < 1e-6
    assert noise_test([observation([0.0, 0.0], [500, 60])]).p_value == 0.0


def test_a_surplus_in_one_layer_is_suspect() -> None:
    rng = np.random.default_rng(2)
    honest = observation([float(rng.chisquare(500)), float(rng.chisquare(60))], [500, 60])
    loud = observation([float(rng.chisquare(500)), 4 * float(rng.chisquare(60))], [500, 60])

    assert surplus_test([honest]).p_value > 1e-6
    assert surplus_test([loud]).p_value < 1e-6
    assert surplus_test([loud]).worst is Severity.SUSPECT


def test_noise_tests_are_rejected_no_more_often_than_promised() -> None:
    rng, trials = np.random.default_rng(3), 2000
    drawn = zip(rng.chisquare(500, trials), rng.chisquare(60, trials), strict=True)
    p_values = [noise_test([observation([a, b], [500, 60])]).p_value for a, b in drawn]

    assert_rate(sum(p <= 0.05 for p in p_values), trials, 0.05, at_most=True)
    assert_rate(sum(p <= 0.05 for p in p_values), trials, 0.04, at_least=True)


def test_layers_report_their_own_noise() -> None:
    noise = layer_noise([observation([500.0, 15.0], [500, 60])] * 2, confidence=0.95)

    assert [round(each.estimate, 3) for each in noise] == [1.0, 0.5]
    assert noise[1].low < 0.5 < noise[1].high


@pytest.mark.parametrize("error", [1e-3, 1e-4])
def test_the_stated_deficit_is_found_with_the_stated_power(error: float) -> None:
    rng, trials, count = np.random.default_rng(4), 400, 800
    deficit = detectable_deficit([observation([float(count)], [count])], error=error)

    assert 0.02 < deficit < 0.2
    squares = (1 - deficit) ** 2 * rng.chisquare(count, trials)
    found = sum(noise_test([observation([s], [count])]).p_value <= error for s in squares.tolist())
    assert_rate(found, trials, 0.9)


def test_sampling_takes_power_away_and_the_statement_says_so() -> None:
    clean = detectable_deficit([observation([800.0], [800])], error=1e-3)
    some = detectable_deficit([observation([800.0 * 1.3], [800])], error=1e-3)
    none = detectable_deficit([observation([800.0 * 2.5], [800])], error=1e-3)

    assert clean < some < none == 1.0
    assert detectable_deficit([], error=1e-3) == 1.0
