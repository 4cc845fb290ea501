"""A lower bound from one run with many canaries, for a mechanism with a known trade-off curve.

Where `one_run` assumes only (epsilon, delta), this assumes a whole curve (for a bound on epsilon:
that the mechanism is mu-GDP for some mu, as Gaussian noise without subsampling is), and shows about
half as much again. The canaries were inserted by fair coins of their own; they may influence each
other, and the number of guesses is fixed before the coins are revealed.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.ranges import (
    require_confidence,
    require_delta,
    require_error,
    require_guesses,
)
from sordino_audit.bounds.trade_off import TradeOff

Shrinking = Callable[[float], float]
"""Least probability under a neighbour of an event that has the given probability."""

_LARGEST_MU = 30.0
_BISECTIONS = 45


def is_rejected(
    claimed: TradeOff, *, canaries: int, guesses: int, correct: int, error: float
) -> bool:
    """Whether the guesses contradict a curve; a true one is rejected with probability <= `error`.

    The recursion of Mahloujifar, Melis & Chaudhuri 2024, with abstentions; `_is_impossible` says
    why it holds.

    Args:
        claimed: symmetric: it bounds both neighbours' tests, as that of add-or-remove does.
        canaries: how many were inserted or not, each by a fair coin.
        guesses: for how many of them the auditor guessed.
        correct: how many of the guesses were right.
        error: level of the test, in (0, 1).

    Raises:
        ValueError: numbers that no audit has; see `ranges`.
    """
    require_guesses(canaries, guesses, correct)
    require_error(error)
    return _is_impossible(
        lambda probability: float(claimed(np.array(1 - probability))),
        canaries=canaries,
        guesses=guesses,
        correct=correct,
        tail=error,
    )


def mu_lower_bound(*, canaries: int, guesses: int, correct: int, confidence: float) -> float:
    """A bound that the true mu is at least, with the given confidence, if there is a true mu.

    Arguments and errors as for `epsilon_lower_bound`.
    """
    require_guesses(canaries, guesses, correct)
    require_confidence(confidence)
    low, high = 0.0, _LARGEST_MU
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _is_impossible(
            _gaussian_shrinking(middle),
            canaries=canaries,
            guesses=guesses,
            correct=correct,
            tail=1 - confidence,
        ):
            low = middle
        else:
            high = middle
    return low


def epsilon_lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float
) -> float:
    """A bound that the true epsilon at `delta` is at least, if the mechanism is mu-GDP.

    Mahloujifar, Melis & Chaudhuri 2024, with the Gaussian family. One-sided: at 95 % the published
    values are met with the whole of the 5 %.

    Args:
        canaries: how many were inserted or not, each by a fair coin.
        guesses: for how many of them the auditor guessed.
        correct: how many of the guesses were right.
        delta: of the guarantee, in (0, 1).
        confidence: in (0, 1).

    Raises:
        ValueError: numbers that no audit has (see `ranges`), or delta = 0, at which no mu > 0 has
            an epsilon.
    """
    require_delta(delta)
    if delta == 0:
        raise ValueError("delta must be above 0: Gaussian noise has no epsilon at delta = 0")
    mu = mu_lower_bound(canaries=canaries, guesses=guesses, correct=correct, confidence=confidence)
    return gaussian.epsilon_from_mu(mu, delta)


def _gaussian_shrinking(mu: float) -> Shrinking:
    return lambda probability: float(ndtr(ndtri(probability) - mu))


def _is_impossible(
    shrinking: Shrinking, *, canaries: int, guesses: int, correct: int, tail: float
) -> bool:
    """Whether no distribution of the number of right guesses reaches `correct` with mass `tail`.

    With p_i the probability of i right guesses, `right` is the sum over j >= i of p_j * j, and
    `wrong` that of p_j * (guesses - j), both divided by the number of canaries. Flipping the coin
    of a random canary turns a right guess into a wrong one, so f-DP bounds `wrong` at i - 1 by
    `right` at i. Going down from `correct`, each step adds the least mass that this allows; what it
    would take altogether must not exceed 1. More mass in the tail needs no less (the curve is
    convex), so a tail that is impossible makes every heavier one impossible.
    """
    right, wrong = tail * correct / canaries if canaries else 0.0, 0.0
    if correct:
        wrong = tail * (guesses - correct) / canaries
    whole = guesses / canaries if canaries else 1.0
    for index in range(correct - 1, -1, -1):
        least = max(wrong, shrinking(right))
        right += index / (guesses - index) * (least - wrong)
        wrong = least
        if right + wrong > whole:
            return True
    return False
