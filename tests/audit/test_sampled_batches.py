"""Whether batches are drawn by coins: exact p-values, and what they find."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statistical import assert_rate

from sordino_audit.sampled_batches import evenness_p_value, rate_p_values, sampling_ratio


def _coins(
    rng: np.random.Generator, *, steps: int, canaries: int, rate: float
) -> NDArray[np.bool_]:
    return rng.random((steps, canaries)) < rate


def _turns(rng: np.random.Generator, *, steps: int, canaries: int) -> NDArray[np.bool_]:
    """Shuffled batches: everybody once in every ten steps."""
    epochs = [rng.permutation(canaries) % 10 for _ in range(steps // 10)]
    return np.array([epochs[step // 10] == step % 10 for step in range(steps)])


@pytest.mark.parametrize(("trials", "rate"), [(4, 0.3), (30, 0.05), (12, 0.5)])
def test_evenness_is_exact(trials: int, rate: float) -> None:
    """Against every outcome of three counts, enumerated."""
    possible = np.arange(trials + 1)
    weights = stats.binom.pmf(possible, trials, rate)
    outcomes = np.stack(np.meshgrid(possible, possible, possible, indexing="ij"), -1).reshape(-1, 3)
    chances = np.prod(weights[outcomes], axis=1)
    deviation = np.sum((outcomes - round(trials * rate)) ** 2, axis=1)
    for counts in ([0, 0, 0], [1, 2, 3], [4, 0, 1]):
        mine = np.sum((np.array(counts) - round(trials * rate)) ** 2)
        tails = chances[deviation <= mine].sum(), chances[deviation >= mine].sum()
        found = evenness_p_value(np.array(counts), trials=trials, rate=rate)
        assert found == pytest.approx(min(1.0, 2 * min(tails)), abs=1e-12)


@pytest.mark.parametrize(("steps", "canaries", "rate"), [(200, 60, 0.02), (50, 200, 0.3)])
def test_honest_coins_are_called_uneven_no_more_often_than_stated(
    steps: int, canaries: int, rate: float
) -> None:
    rng, trials = np.random.default_rng(3), 400
    p_values = [
        evenness_p_value(
            _coins(rng, steps=steps, canaries=canaries, rate=rate).sum(axis=0),
            trials=steps,
            rate=rate,
        )
        for _ in range(trials)
    ]
    for level in (0.01, 0.1, 0.5):
        assert_rate(sum(p <= level for p in p_values), trials, level, at_most=True)
    # And it is no test that never says anything.
    assert_rate(sum(p <= 0.5 for p in p_values), trials, 0.3, at_least=True)


def test_batches_in_turns_are_too_even() -> None:
    turns = _turns(np.random.default_rng(4), steps=100, canaries=100)
    assert rate_p_values(turns, rate=0.1)[0] > 0.01
    assert evenness_p_value(turns.sum(axis=0), trials=100, rate=0.1) < 1e-9
    assert evenness_p_value(turns.sum(axis=1), trials=100, rate=0.1) < 1e-9


def test_coins_that_repeat_are_too_uneven() -> None:
    once = _coins(np.random.default_rng(5), steps=1, canaries=100, rate=0.1)
    always = np.repeat(once, 50, axis=0)
    assert evenness_p_value(always.sum(axis=0), trials=50, rate=0.1) < 1e-9


def test_a_wrong_rate_is_found_on_the_right_side() -> None:
    sampled = _coins(np.random.default_rng(6), steps=200, canaries=200, rate=0.1)
    more, less = rate_p_values(sampled, rate=0.08)
    assert more < 1e-6
    assert less > 0.99
    more, less = rate_p_values(sampled, rate=0.12)
    assert less < 1e-6
    assert more > 0.99


def test_the_interval_of_the_rate_covers_it_as_often_as_stated() -> None:
    rng, trials = np.random.default_rng(7), 500
    covered = 0
    for _ in range(trials):
        sampled = _coins(rng, steps=40, canaries=50, rate=0.05)
        interval = sampling_ratio(sampled, rate=0.05, confidence=0.9)
        assert interval.low <= interval.estimate <= interval.high
        covered += interval.low <= 1 <= interval.high
    assert_rate(covered, trials, 0.9, at_least=True)


def test_nothing_sampled_shows_nothing() -> None:
    nobody = np.zeros((10, 0), dtype=np.bool_)
    assert rate_p_values(nobody, rate=0.1) == (1.0, 1.0)
    assert evenness_p_value(nobody.sum(axis=0), trials=10, rate=0.1) == 1.0
    assert not np.isfinite(sampling_ratio(nobody, rate=0.1, confidence=0.95).high)
    everybody = np.ones((10, 4), dtype=np.bool_)
    assert evenness_p_value(everybody.sum(axis=0), trials=10, rate=1.0) == 1.0
