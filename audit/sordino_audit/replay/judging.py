"""From scores to p-values against the claim, bounds on epsilon, and what could have been found.

All canaries of all judged federations were inserted by fair coins of their own, and each federation
is private with regard to each of them. So all of them together are one experiment with many
canaries, whatever they have to do with each other: the setting of Steinke et al. (2023) and of
Mahloujifar et al. (2024). How many are guessed is fixed beforehand: all, and the surest eighth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.attacks.results import FALSE_POSITIVE_RATES, AttackResult, auc, tpr_at_fpr
from sordino_audit.bounds import one_run, one_run_f_dp
from sordino_audit.bounds.trade_off import TradeOff, guarantee_curve, strictest
from sordino_audit.conformance import ratio_of_squares
from sordino_audit.findings import Interval, Severity
from sordino_audit.lane_bounds import Bound
from sordino_audit.lane_tests import Test
from sordino_audit.preregistration import POWER
from sordino_audit.replay.observation import Observation
from sordino_audit.replay.portfolio import Scored
from sordino_audit.view import ServerView, server_view
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

Floats = NDArray[np.float64]
Coins = NDArray[np.bool_]

ONE_RUN = "canaries inserted by fair coins of their own"
_FAMILY = f"{ONE_RUN}; the mechanism is Gaussian"
_GAUSSIAN = "the planned noise is Gaussian, and independent of what it is added to"
_KNOWN_SUM = "the planned noise is Gaussian, and every record takes part in every step"
_SUREST_SHARE = 8
_LEAST_LOG_P = math.log(1e-12)
_BISECTIONS = 24


@dataclass(frozen=True, slots=True)
class Claim:
    """What the released updates promise each privacy unit.

    Attributes:
        guarantee: of the whole run.
        curve: the trade-off curve of all steps together, and the guarantee's where it is stricter.
        ceiling: the epsilon of all steps together.
    """

    guarantee: Guarantee
    curve: TradeOff
    ceiling: float


@dataclass(frozen=True, slots=True)
class Guesses:
    """How an attack's guesses came out.

    Attributes:
        canaries: that coins inserted or not.
        guesses: that were made.
        correct: of these.
    """

    canaries: int
    guesses: int
    correct: int


def claim_of(plan: TrainingPlan, guarantee: Guarantee) -> Claim:
    """The claim of a plan, judged as if every single step were seen."""
    steps = plan.rounds * plan.local_steps
    view: ServerView = server_view(
        replace(plan, rounds=steps, local_steps=1), delta=guarantee.delta
    )
    return Claim(guarantee, strictest(view.curve, guarantee_curve(guarantee)), view.ceiling)


def guess(scored: Floats, coins: Coins, *, guesses: int) -> Guesses:
    """Guess "inserted" for the highest scores and "not" for the lowest, half of the guesses each.

    Args:
        scored: [judged, canaries], higher = more likely inserted.
        coins: [judged, canaries].
        guesses: how many, fixed beforehand.
    """
    order = np.argsort(scored, axis=None, kind="stable")
    flat = coins.ravel()[order]
    low, high = guesses // 2, guesses - guesses // 2
    correct = int(np.sum(~flat[:low])) + int(np.sum(flat[len(flat) - high :]))
    return Guesses(len(flat), guesses, correct)


def guess_counts(canaries: int) -> tuple[int, int]:
    """How many guesses are made of so many canaries: two numbers, before any score is seen."""
    return canaries, max(2, canaries // _SUREST_SHARE)


def membership_test(scored: Scored, coins: Coins, claim: Claim) -> Test:
    """Whether the claim allows to guess that well, for either number of guesses, corrected."""
    p_values = [
        curve_p_value(guess(scored.scores, coins, guesses=count), claim.curve)
        for count in guess_counts(coins.size)
    ]
    return Test(
        f"one run, {scored.name}",
        ONE_RUN,
        min(1.0, len(p_values) * min(p_values)),
        "inserted canaries are told from held-out ones better than the claim allows",
    )


def curve_p_value(guesses: Guesses, curve: TradeOff) -> float:
    """The smallest error at which the guesses contradict the curve; between 1e-12 and 1."""

    def rejects(log_error: float) -> bool:
        return one_run_f_dp.is_rejected(
            curve,
            canaries=guesses.canaries,
            guesses=guesses.guesses,
            correct=guesses.correct,
            error=math.exp(log_error),
        )

    high, low = -1e-9, _LEAST_LOG_P
    if not rejects(high):
        return 1.0
    if rejects(low):
        return math.exp(low)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if rejects(middle) else (middle, high)
    return math.exp(high)


def noise_test(observations: Sequence[Observation]) -> Test:
    """Whether a layer's coordinates have less noise than claimed: the smallest p, corrected."""
    squares, counts = _pooled(observations)
    p_values = stats.chi2.cdf(squares[counts > 0], counts[counts > 0])
    smallest = float(p_values.min(initial=1.0))
    return Test(
        "noise in real coordinates",
        _GAUSSIAN,
        min(1.0, max(1, len(p_values)) * smallest),
        "the model's own coordinates have less noise than claimed, whatever the lanes show",
    )


def surplus_test(observations: Sequence[Observation]) -> Test:
    """Whether a layer's coordinates hold more than the claimed noise, where nothing else is left.

    For releases whose exact sum is known: then a surplus is not of the plan, be it noise or what
    another clipping lets through.
    """
    squares, counts = _pooled(observations)
    p_values = stats.chi2.sf(squares[counts > 0], counts[counts > 0])
    smallest = float(p_values.min(initial=1.0))
    return Test(
        "surplus in real coordinates",
        _KNOWN_SUM,
        min(1.0, max(1, len(p_values)) * smallest),
        "releases are further from what the plan's clipping gives than the plan's noise explains",
        worst=Severity.SUSPECT,
    )


def layer_noise(observations: Sequence[Observation], *, confidence: float) -> tuple[Interval, ...]:
    """What is left of releases in each layer, over the claimed noise: 1 and above, if all is well.

    Sampling adds to it, so that it is an upper bound on the noise.
    """
    squares, counts = _pooled(observations)
    return tuple(
        ratio_of_squares(float(total), int(count), confidence=confidence)
        for total, count in zip(squares, counts, strict=True)
    )


def bounds_of(
    scored: Scored, coins: Coins, *, delta: float, confidence: float
) -> tuple[Bound, ...]:
    """Bounds on epsilon by one attack, guessing all canaries, weakest assumption first."""
    made = guess(scored.scores, coins, guesses=coins.size)
    return (
        Bound(
            f"one run, {scored.name}",
            ONE_RUN,
            one_run.epsilon_lower_bound(
                canaries=made.canaries,
                guesses=made.guesses,
                correct=made.correct,
                delta=delta,
                confidence=confidence,
            ),
        ),
        Bound(
            f"one run in the Gaussian family, {scored.name}",
            _FAMILY,
            one_run_f_dp.epsilon_lower_bound(
                canaries=made.canaries,
                guesses=made.guesses,
                correct=made.correct,
                delta=delta,
                confidence=confidence,
            ),
        ),
    )


def result_of(scored: Scored, coins: Coins, bound: Bound, *, confidence: float) -> AttackResult:
    """An attack's scores, with the bound of one run."""
    inside, outside = scored.scores[coins], scored.scores[~coins]
    highest = one_run.cap(coins.size, confidence=confidence)
    return AttackResult(
        scored.name,
        bound.assumption,
        tuple(inside.tolist()),
        tuple(outside.tolist()),
        auc(inside, outside),
        tuple((rate, tpr_at_fpr(inside, outside, rate)) for rate in FALSE_POSITIVE_RATES),
        bound.epsilon_low,
        confidence,
        f"at best, without one wrong guess on {coins.size} canaries, an epsilon of {highest:.2f};"
        f" false positive rates in steps of {1 / max(len(outside), 1):.2g}",
    )


def findable_share(canaries: int, claim: Claim, *, error: float) -> float | None:
    """The share of right guesses from which all canaries together would contradict the claim.

    None where not even an attacker that is always right would.
    """

    def rejects(correct: int) -> bool:
        return one_run_f_dp.is_rejected(
            claim.curve, canaries=canaries, guesses=canaries, correct=correct, error=error
        )

    if not rejects(canaries):
        return None
    low, high = canaries // 2, canaries
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rejects(middle) else (middle, high)
    return high / canaries


def detectable_deficit(observations: Sequence[Observation], *, error: float) -> float:
    """Smallest fraction of noise, missing in every layer, that the noise test finds; 1 = nothing.

    What sampling adds is taken as it was seen.
    """
    squares, counts = _pooled(observations)
    there = counts > 0
    if not there.any():
        return 1.0
    added = np.maximum(squares[there] / counts[there] - 1, 0.0)
    level = stats.chi2.ppf(error / there.sum(), counts[there])
    least = level / stats.chi2.ppf(POWER, counts[there]) - added
    return float(1 - np.sqrt(np.clip(least, 0.0, 1.0)).max())


def _pooled(observations: Sequence[Observation]) -> tuple[Floats, NDArray[np.int64]]:
    if not observations:
        return np.zeros(0), np.zeros(0, dtype=np.int64)
    squares = np.sum([each.squares for each in observations], axis=0)
    return squares, np.sum([each.counts for each in observations], axis=0)
