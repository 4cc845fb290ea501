import math

import numpy as np
import pytest
from seeded_noise import SeededNoise
from statistical import assert_rate

from sordino_client.synthesis.generators.selection import choose

SCORES = [0.0, 4.0, 10.0, 10.0]
DRAWS = 4_000


def assert_drawn_for(epsilon: float, *, at: float) -> None:
    """Assert that choices at one epsilon are distributed as the mechanism's at `epsilon` are."""
    noise, scores = SeededNoise(3), np.array(SCORES)
    drawn = [choose(scores, epsilon=at, sensitivity=2.0, noise=noise) for _ in range(DRAWS)]
    weights = [math.exp(epsilon * score / (2 * 2.0)) for score in SCORES]
    for index, weight in enumerate(weights):
        assert_rate(drawn.count(index), DRAWS, weight / sum(weights))


def test_candidates_are_drawn_as_the_exponential_mechanism_says() -> None:
    assert_drawn_for(0.8, at=0.8)


def test_a_choice_that_forgot_the_two_would_be_seen() -> None:
    with pytest.raises(AssertionError):
        assert_drawn_for(0.8, at=1.6)


def test_scores_far_apart_neither_overflow_nor_keep_it_waiting() -> None:
    scores = np.array([-1e9, 0.0, 1e9])
    assert choose(scores, epsilon=1.0, sensitivity=1.0, noise=SeededNoise(1)) == 2
    assert choose(np.zeros(1), epsilon=1e-9, sensitivity=1.0, noise=SeededNoise(1)) == 0


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf, 0.0]])
def test_refuses_what_is_no_score(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        choose(np.array(scores), epsilon=1.0, sensitivity=1.0, noise=SeededNoise(1))
