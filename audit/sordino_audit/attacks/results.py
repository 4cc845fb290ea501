"""What an attack came to: AUC, hits at few false alarms, and a lower bound on epsilon.

Two traps are closed here. Rates are read off the step ROC: between two observed scores there is no
attack, and an interpolated curve would claim one. And the threshold of the bound never saw the
scores that it is judged on: the best threshold of all, evaluated on all, exceeds the true epsilon
of clean audits far more often than its confidence says.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.bounds import clopper_pearson, gaussian, one_run
from sordino_audit.bounds.clopper_pearson import Counts

Scores = NDArray[np.float64]

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.1)
_RANKS_TRIED = 16


class Assumption(StrEnum):
    """What must be true of the scores for the bound on epsilon to hold."""

    INDEPENDENT_RUNS = "each score comes from a run of its own"
    GAUSSIAN_RUNS = "each score comes from a run of its own, and the mechanism is Gaussian"
    ONE_RUN = "one run, in which each target was a member by its own fair coin"


@dataclass(frozen=True, slots=True)
class AttackResult:
    """One attack's scores and what they show.

    Attributes:
        name: the attack.
        assumption: what the bound on epsilon rests on, in words.
        members: one score a member, higher = more likely a member.
        others: one score a non-member.
        auc: probability that a member scores above another, ties counted half.
        tpr_at: pairs (false positive rate, true positive rate) on the step ROC.
        epsilon_low: a bound that the true epsilon at the audited delta is at least.
        confidence: with which `epsilon_low` holds.
        could_have_found: what this many scores could have shown at best, in words.
    """

    name: str
    assumption: str
    members: tuple[float, ...]
    others: tuple[float, ...]
    auc: float
    tpr_at: tuple[tuple[float, float], ...]
    epsilon_low: float
    confidence: float
    could_have_found: str

    def tpr(self, false_positive_rate: float) -> float:
        """The true positive rate at one of the reported false positive rates.

        Raises:
            KeyError: the rate is none of those in `tpr_at`.
        """
        return dict(self.tpr_at)[false_positive_rate]


def attack_result(
    name: str,
    members: Sequence[float] | Scores,
    others: Sequence[float] | Scores,
    *,
    assumption: Assumption,
    delta: float,
    confidence: float,
    rng: np.random.Generator | None = None,
    threshold: float | None = None,
) -> AttackResult:
    """Read an attack's scores.

    With `threshold` the bound is of all scores at it. With `rng`, half of the scores, drawn
    whatever they are of, choose the threshold, and the other half give the bound. Of one run the
    first half fixes how many to guess: the theorem wants that number before the scores.

    Args:
        name: the attack.
        members: one score a member, higher = more likely a member.
        others: one score a non-member.
        assumption: what is true of the scores.
        delta: the delta at which epsilon is bounded.
        confidence: of the bound on epsilon.
        rng: draws the halves, where no threshold is given.
        threshold: fixed before any of these scores was seen; "member" is a score above it.

    Raises:
        ValueError: fewer than two scores on a side, a score that is no number, not one of `rng`
            and `threshold`, or a threshold for one run.
    """
    inside, outside = _checked("members", members), _checked("others", others)
    match rng, threshold, assumption:
        case np.random.Generator(), None, _:
            counts = _split_counts(inside, outside, assumption, delta, rng=rng)
        case None, float(), (Assumption.INDEPENDENT_RUNS | Assumption.GAUSSIAN_RUNS):
            counts = counts_above(inside, outside, threshold)
        case _:
            raise ValueError(
                "expected a threshold for runs, or an rng that draws half of the scores"
            )
    return AttackResult(
        name,
        assumption,
        tuple(inside.tolist()),
        tuple(outside.tolist()),
        auc(inside, outside),
        tuple((rate, tpr_at_fpr(inside, outside, rate)) for rate in FALSE_POSITIVE_RATES),
        _BOUNDS[assumption](counts, delta, confidence),
        confidence,
        _could_have_found(counts, len(outside), _BOUNDS[assumption], delta, confidence),
    )


def auc(members: Scores, others: Scores) -> float:
    """The probability that a member scores above another, ties counted half (Mann & Whitney)."""
    ranks = stats.rankdata(np.concatenate([members, others]))[: len(members)]
    wins = float(ranks.sum()) - len(members) * (len(members) + 1) / 2
    return wins / (len(members) * len(others))


def tpr_at_fpr(members: Scores, others: Scores, false_positive_rate: float) -> float:
    """The largest true positive rate of a threshold with at most so many false positives.

    A point of the step ROC, never between two: with fewer than 1 / `false_positive_rate` others
    it is the share of members that score above all others.
    """
    allowed = math.floor(false_positive_rate * len(others) + 1e-9)
    if allowed >= len(others):
        return 1.0
    threshold = np.sort(others)[::-1][allowed]
    return float((members > threshold).mean())


def counts_above(members: Scores, others: Scores, threshold: float) -> Counts:
    """What guessing "member" above the threshold gets wrong."""
    return Counts(
        false_positives=int((others > threshold).sum()),
        held_out=len(others),
        false_negatives=int((members <= threshold).sum()),
        inserted=len(members),
    )


_Bound = Callable[[Counts, float, float], float]


def _any_mechanism(counts: Counts, delta: float, confidence: float) -> float:
    return clopper_pearson.epsilon_lower_bound(counts, delta=delta, confidence=confidence)


def _gaussian_mechanism(counts: Counts, delta: float, confidence: float) -> float:
    mu = gaussian.mu_lower_bound(counts, confidence=confidence)
    return gaussian.epsilon_from_mu(mu, delta)


def _fair_coins(counts: Counts, delta: float, confidence: float) -> float:
    """Guess "member" of the highest scores, and abstain from the rest."""
    correct = counts.inserted - counts.false_negatives
    return one_run.epsilon_lower_bound(
        canaries=counts.inserted + counts.held_out,
        guesses=correct + counts.false_positives,
        correct=correct,
        delta=delta,
        confidence=confidence,
    )


_BOUNDS: dict[Assumption, _Bound] = {
    Assumption.INDEPENDENT_RUNS: _any_mechanism,
    Assumption.GAUSSIAN_RUNS: _gaussian_mechanism,
    Assumption.ONE_RUN: _fair_coins,
}


def _checked(side: str, scores: Sequence[float] | Scores) -> Scores:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:  # noqa: PLR2004 - one to choose on, one to judge
        raise ValueError(f"{side} have shape {values.shape}; expected at least two scores")
    if np.isnan(values).any():
        raise ValueError(f"{side} hold a score that is no number")
    return values


def _split_counts(
    members: Scores,
    others: Scores,
    assumption: Assumption,
    delta: float,
    *,
    rng: np.random.Generator,
) -> Counts:
    """What guessing gets wrong on half of all scores, by the threshold that is best on the rest."""
    # Not by membership: how many members a half has must tell nothing about any one coin.
    is_judged = rng.permutation(len(members) + len(others)) % 2 == 0
    inside, outside = is_judged[: len(members)], is_judged[len(members) :]
    choosing = members[~inside], others[~outside]
    threshold = _best_threshold(*choosing, _BOUNDS[assumption], delta)
    if assumption is not Assumption.ONE_RUN:
        return counts_above(members[inside], others[outside], threshold)
    above = sum(int((side > threshold).sum()) for side in choosing)
    # The halves differ by chance; a guess too few costs less than one too many.
    guesses = above - math.isqrt(above)
    return _counts_of_highest(members[inside], others[outside], guesses, rng=rng)


def _counts_of_highest(
    members: Scores, others: Scores, guesses: int, *, rng: np.random.Generator
) -> Counts:
    """What guessing "member" of so many gets wrong; equal scores are ranked by `rng`."""
    scores = np.concatenate([members, others])
    order = np.lexsort([rng.permutation(len(scores)), -scores])
    correct = int((order[:guesses] < len(members)).sum())
    return Counts(
        false_positives=guesses - correct,
        held_out=len(others),
        false_negatives=len(members) - correct,
        inserted=len(members),
    )


def _best_threshold(members: Scores, others: Scores, bound: _Bound, delta: float) -> float:
    """The threshold with the highest bound here: never to be judged on the same scores.

    It is looked for ever more finely around the best so far, halfway between neighbouring scores.
    """
    ordered = np.sort(np.concatenate([members, others]))
    low, high = 0, len(ordered) - 2
    while True:
        ranks = _spread(low, high)
        candidates = _halfway(ordered, ranks)
        worth = [bound(counts_above(members, others, float(at)), delta, 0.9) for at in candidates]
        best = _middle_of_the_best(np.asarray(worth))
        if high - low < len(ranks):
            return float(candidates[best])
        low, high = int(ranks[max(best - 1, 0)]), int(ranks[min(best + 1, len(ranks) - 1)])


def _spread(low: int, high: int) -> NDArray[np.int64]:
    """Whole numbers from `low` to `high`: few, and dense at either end, where the bounds peak."""
    inward = np.geomspace(1, high - low + 1, _RANKS_TRIED).astype(np.int64) - 1
    even = np.linspace(low, high, _RANKS_TRIED).astype(np.int64)
    return np.unique(np.concatenate([low + inward, even, high - inward]))


def _halfway(ordered: Scores, ranks: NDArray[np.int64]) -> Scores:
    below, above = ordered[ranks], ordered[ranks + 1]
    # An infinite score has no middle with another, but its neighbour below separates as well.
    has_middle = np.isfinite(below) & np.isfinite(above)
    gap = np.subtract(above, below, where=has_middle, out=np.zeros(len(ranks)))
    return below + gap / 2


def _middle_of_the_best(worth: Scores) -> int:
    """Of a stretch of equally good thresholds the middle errs least on scores to come."""
    best = np.flatnonzero(worth == worth.max())
    return int(best[len(best) // 2])


def _could_have_found(
    counts: Counts, others: int, bound: _Bound, delta: float, confidence: float
) -> str:
    perfect = Counts(0, counts.held_out, 0, counts.inserted)
    highest = bound(perfect, delta, confidence)
    return (
        f"at best, without one wrong guess on {counts.inserted} members and {counts.held_out} "
        f"others, an epsilon of {highest:.2f}; false positive rates in steps of {1 / others:.2g}"
    )
