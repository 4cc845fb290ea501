"""A lower bound on epsilon from one run with many canaries, each inserted by its own fair coin.

The auditor guesses the coins of some canaries and abstains from the others. Under (epsilon, delta)
the number of correct guesses is hardly more than that of randomised response, however the canaries
influence each other: no independence is assumed, and nothing about the noise. The number of guesses
is fixed before the coins are revealed.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from sordino_audit.bounds.ranges import (
    require_confidence,
    require_delta,
    require_epsilon,
    require_guesses,
)

Floats = NDArray[np.float64]

_BISECTIONS = 60


def p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Probability of so many correct guesses, or more, under (epsilon, delta), at most.

    Steinke, Nasr & Jagielski 2023, theorem 5.2: the correct guesses are dominated by
    `Binomial(guesses, e^epsilon / (1 + e^epsilon)) + F`, with F independent of it, >= 0, and of
    mean 2 * canaries * delta at most. The worst F takes two values; it is found by trying all. It
    grows with epsilon. With 2 * canaries * delta < 1 that is the expression that the paper states.

    Raises:
        ValueError: numbers that no audit has; see `ranges`.
    """
    require_guesses(canaries, guesses, correct)
    require_epsilon(epsilon)
    require_delta(delta)
    return _worst_tail(canaries, guesses, correct, epsilon, delta)


def epsilon_lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float
) -> float:
    """A bound that the true epsilon at `delta` is at least, with the given confidence.

    The largest epsilon whose `p_value` is at most `1 - confidence` (Steinke, Nasr & Jagielski 2023,
    sec. 5). One-sided: at 95 % the published values are met with the whole of the 5 %.

    Args:
        canaries: how many were inserted or not, each by a fair coin.
        guesses: for how many of them the auditor guessed.
        correct: how many of the guesses were right.
        delta: of the guarantee, in [0, 1).
        confidence: in (0, 1).

    Returns:
        epsilon >= 0, never above `cap(guesses, confidence=confidence)`.

    Raises:
        ValueError: numbers that no audit has; see `ranges`.
    """
    require_guesses(canaries, guesses, correct)
    require_delta(delta)
    require_confidence(confidence)
    error = 1 - confidence
    if _worst_tail(canaries, guesses, correct, 0.0, delta) > error:
        return 0.0
    low, high = 0.0, cap(guesses, confidence=confidence)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _worst_tail(canaries, guesses, correct, middle, delta) > error:
            high = middle
        else:
            low = middle
    return low


def cap(guesses: int, *, confidence: float) -> float:
    """The bound of an auditor that is always right, at delta = 0: none can be higher.

    It solves `(e^epsilon / (1 + e^epsilon))^guesses = 1 - confidence`.
    """
    require_guesses(guesses, guesses, guesses)
    require_confidence(confidence)
    if guesses == 0:
        return 0.0
    log_rate = math.log(1 - confidence) / guesses
    return max(0.0, log_rate - math.log(-math.expm1(log_rate)))


def _worst_tail(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    mean_shift = 2 * canaries * delta
    if mean_shift >= correct:
        return 1.0
    rate = float(special.expit(epsilon))
    # tails[i]: probability that the binomial, shifted by i, reaches `correct`.
    shifts = np.arange(correct + 1)
    tails: Floats = stats.binom.sf(correct - 1 - shifts, guesses, rate)
    first_above = math.floor(mean_shift) + 1
    below, above = shifts[:first_above, np.newaxis], shifts[np.newaxis, first_above:]
    share = (mean_shift - below) / (above - below)
    worst = (1 - share) * tails[:first_above, np.newaxis] + share * tails[np.newaxis, first_above:]
    return min(1.0, float(worst.max()))
