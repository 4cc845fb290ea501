"""Lower bounds on epsilon from the counts of one membership guess a lane.

Assumed: the lanes are independent, and the threshold was fixed before their scores were seen.
Nothing about the noise, the sampler or the model.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sordino_audit.bounds.ranges import require_confidence, require_delta


@dataclass(frozen=True, slots=True)
class Counts:
    """What guessing "inserted" at a threshold got wrong.

    Attributes:
        false_positives: held-out lanes that were guessed to be inserted.
        held_out: lanes without a canary.
        false_negatives: inserted lanes that were guessed to be held out.
        inserted: lanes with a canary.
    """

    false_positives: int
    held_out: int
    false_negatives: int
    inserted: int

    def __post_init__(self) -> None:
        if not 0 <= self.false_positives <= self.held_out:
            raise ValueError("false_positives must be between 0 and held_out")
        if not 0 <= self.false_negatives <= self.inserted:
            raise ValueError("false_negatives must be between 0 and inserted")


def upper_limit(successes: ArrayLike, trials: ArrayLike, error: ArrayLike) -> NDArray[np.float64]:
    """One-sided upper confidence limit of a binomial rate (Clopper & Pearson 1934).

    The true rate exceeds the limit with probability at most `error`. Broadcasts over all three;
    without trials the limit is 1. `successes` may be fractional (an expected count).
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    tail = np.asarray(error, dtype=np.float64)
    limit = special.betainccinv(k + 1, np.maximum(n - k, 1e-12), tail)
    return np.where(k >= n, 1.0, limit)


def error_limits(counts: Counts, error: float) -> tuple[float, float]:
    """Upper limits of the false positive and false negative rates, that hold together.

    Both hold with probability at least `1 - error`: each side spends half of it (Bonferroni).
    """
    return (
        float(upper_limit(counts.false_positives, counts.held_out, error / 2)),
        float(upper_limit(counts.false_negatives, counts.inserted, error / 2)),
    )


def epsilon_from_rates(
    false_positive_rate: float, false_negative_rate: float, delta: float
) -> float:
    """The smallest epsilon that allows a test with these errors (Kairouz et al. 2015, thm. 2.1).

    Either event may show it: "score above" compares 1 - FNR with FPR, "score below" the reverse.

    Returns:
        epsilon >= 0; infinite when a rate of 0 faces a probability above `delta`.
    """
    above = _log_ratio(1 - false_negative_rate - delta, false_positive_rate)
    below = _log_ratio(1 - false_positive_rate - delta, false_negative_rate)
    return max(0.0, above, below)


def epsilon_lower_bound(counts: Counts, *, delta: float, confidence: float) -> float:
    """A bound that the true epsilon at `delta` is at least, with the given confidence.

    If what ran is (epsilon, delta)-DP, the bound exceeds epsilon with probability at most
    `1 - confidence`. Convention of Tramer et al. 2022 (sec. 3): two one-sided Clopper-Pearson
    limits, each at half the error.

    Raises:
        ValueError: delta outside [0, 1) or confidence outside (0, 1).
    """
    require_delta(delta)
    require_confidence(confidence)
    false_positive_rate, false_negative_rate = error_limits(counts, 1 - confidence)
    return epsilon_from_rates(false_positive_rate, false_negative_rate, delta)


def _log_ratio(numerator: float, denominator: float) -> float:
    if numerator <= 0:
        return -math.inf
    return math.inf if denominator <= 0 else math.log(numerator / denominator)
