"""How good a model is, from a noisy table of counts: all that a federation sees of its evaluation.

Each task has its own table and its own figures; the intervals are those of `noisy_ratios`. A table
may be one site's or a sum over sites.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.noisy_ratios import (
    Estimate,
    Excess,
    candidates_up_to,
    estimate,
    mean_excess,
    mean_of_independent,
)
from sordino_protocols.plan import LossName

__all__ = [
    "LARGEST_ERROR",
    "LARGEST_SURPRISE",
    "ClassScorecard",
    "ErrorScorecard",
    "Estimate",
    "Figure",
    "LikelihoodScorecard",
    "Scorecard",
    "TaskScorecard",
    "check_scores",
    "class_scorecard",
    "error_scorecard",
    "figures",
    "scorecard",
    "task_scorecard",
]

LARGEST_ERROR = 2.0
"""The largest error that a prediction can have: the width of the range of a scaled label."""

LARGEST_SURPRISE = 4.0
"""Nats a column, from which on records count as the last bin: as of 55 equally likely cells."""

NoisyTable = npt.NDArray[np.float64]
Figure = Literal[
    "accuracy",
    "auc",
    "balanced_accuracy",
    "mean_absolute_error",
    "root_mean_squared_error",
    "negative_log_likelihood",
]


@dataclass(frozen=True, slots=True)
class Scorecard:
    """How good a model of two classes is on held-out units, as far as the noise lets one say.

    Attributes:
        accuracy: share of units on the right side of a score of one half.
        auc: probability that a positive unit scores higher than a negative one; a tie, which here
            is the same bin, counts half.
        confidence: of each interval alone.
    """

    accuracy: Estimate
    auc: Estimate
    confidence: float


@dataclass(frozen=True, slots=True)
class ClassScorecard:
    """How good a model of several classes is.

    Attributes:
        accuracy: share of units whose largest output is that of their class.
        balanced_accuracy: mean of the recalls; a class without held-out units counts as unknown.
        recalls: the same share among the units of each class.
        confidence: of each interval alone.
    """

    accuracy: Estimate
    balanced_accuracy: Estimate
    recalls: tuple[Estimate, ...]
    confidence: float


@dataclass(frozen=True, slots=True)
class ErrorScorecard:
    """How good a model of a number is, in units of the scaled label.

    Predictions are outputs kept in [-1, 1], as labels are. The table knows each error up to half a
    bin, so the intervals reach half a bin further than noise and chance do.

    Attributes:
        mean_absolute_error: of the units.
        root_mean_squared_error: of the units.
        confidence: of each interval alone.
    """

    mean_absolute_error: Estimate
    root_mean_squared_error: Estimate
    confidence: float


@dataclass(frozen=True, slots=True)
class LikelihoodScorecard:
    """How well a generator's network knows held-out units.

    The table knows each unit up to half a bin, so the interval reaches half a bin further than
    noise and chance do. What is above `LARGEST_SURPRISE` counts as that.

    Attributes:
        negative_log_likelihood: of a column given those before it, in nats; mean over columns and
            units.
        confidence: of the interval.
    """

    negative_log_likelihood: Estimate
    confidence: float


TaskScorecard = Scorecard | ClassScorecard | ErrorScorecard | LikelihoodScorecard


def task_scorecard(
    loss: LossName, table: NoisyTable, *, noise_std: float, confidence: float
) -> TaskScorecard:
    """Read what the table of a task shows; arguments as of `scorecard`.

    Raises:
        InputError: a table that no evaluation of this loss gives, or as `scorecard`.
    """
    match loss:
        case "binary":
            return scorecard(table, noise_std=noise_std, confidence=confidence)
        case "cross_entropy":
            return class_scorecard(table, noise_std=noise_std, confidence=confidence)
        case "squared":
            return error_scorecard(table, noise_std=noise_std, confidence=confidence)
        case "likelihood":
            return likelihood_scorecard(table, noise_std=noise_std, confidence=confidence)


def figures(card: TaskScorecard) -> Mapping[Figure, Estimate]:
    """The card's figures by name, the most telling first; recalls excepted."""
    match card:
        case Scorecard():
            return {"accuracy": card.accuracy, "auc": card.auc}
        case ClassScorecard():
            return {"accuracy": card.accuracy, "balanced_accuracy": card.balanced_accuracy}
        case ErrorScorecard():
            return {
                "mean_absolute_error": card.mean_absolute_error,
                "root_mean_squared_error": card.root_mean_squared_error,
            }
        case LikelihoodScorecard():
            return {"negative_log_likelihood": card.negative_log_likelihood}


def scorecard(histogram: NoisyTable, *, noise_std: float, confidence: float) -> Scorecard:
    """Read accuracy and AUC off a noisy histogram of scores.

    Args:
        histogram: [2, bins], negative class first; a sum over sites is fine.
        noise_std: standard deviation of the noise on every cell. Over k sites that add the same
            noise, sqrt(k) times one site's. 0 for exact counts.
        confidence: of each interval, in (0, 1).

    Raises:
        InputError: a shape that is not [2, even number of bins] (one half must be an edge), values
            that are not finite, or noise or confidence out of range.
    """
    width = check_scores(histogram, noise_std, confidence)
    bins = histogram.shape[1]
    variance = noise_std**2
    is_right = np.zeros((2, bins))
    is_right[0, : bins // 2] = is_right[1, bins // 2 :] = 1
    return Scorecard(
        accuracy=_share(histogram, is_right, variance, width),
        auc=estimate(_auc_excess(histogram, variance), width),
        confidence=confidence,
    )


def class_scorecard(table: NoisyTable, *, noise_std: float, confidence: float) -> ClassScorecard:
    """Read accuracy and recalls off a noisy table of wrong and right answers.

    Args:
        table: [classes, 2], wrong answers first.
        noise_std: as for `scorecard`.
        confidence: as for `scorecard`.

    Raises:
        InputError: a shape that is not [classes, 2], or as `scorecard`.
    """
    width = _checked(table, noise_std, confidence)
    if table.shape[0] < 2 or table.shape[1] != 2:  # noqa: PLR2004
        raise InputError(f"table has shape {table.shape}; expected [classes, 2]")
    variance, is_right = noise_std**2, np.array([[0.0, 1.0]])
    recalls = tuple(_share(row[np.newaxis], is_right, variance, width) for row in table)
    return ClassScorecard(
        accuracy=_share(table, np.repeat(is_right, len(table), axis=0), variance, width),
        balanced_accuracy=mean_of_independent(recalls),
        recalls=recalls,
        confidence=confidence,
    )


def error_scorecard(table: NoisyTable, *, noise_std: float, confidence: float) -> ErrorScorecard:
    """Read the sizes of errors off a noisy histogram of them.

    Args:
        table: [1, bins] over [0, `LARGEST_ERROR`].
        noise_std: as for `scorecard`.
        confidence: as for `scorecard`.

    Raises:
        InputError: a shape that is not [1, bins], or as `scorecard`.
    """
    width = _checked_row(table, noise_std, confidence)
    counts, variance = table[0], noise_std**2
    half_bin, centres = _bins(len(counts), LARGEST_ERROR)
    candidates = candidates_up_to(LARGEST_ERROR)
    mean = estimate(mean_excess(counts, centres, candidates=candidates, variance=variance), width)
    square = estimate(
        mean_excess(counts, centres**2, candidates=candidates**2, variance=variance), width
    )
    root = Estimate(*(math.sqrt(end) for end in (square.value, square.lower, square.upper)))
    # Errors are half a bin from their bin's centre at most, and so are both means (Minkowski).
    return ErrorScorecard(
        mean_absolute_error=_widened(mean, half_bin, LARGEST_ERROR),
        root_mean_squared_error=_widened(root, half_bin, LARGEST_ERROR),
        confidence=confidence,
    )


def likelihood_scorecard(
    table: NoisyTable, *, noise_std: float, confidence: float
) -> LikelihoodScorecard:
    """Read the mean negative log-likelihood off a noisy histogram of it.

    Args:
        table: [1, bins] over [0, `LARGEST_SURPRISE`].
        noise_std: as for `scorecard`.
        confidence: as for `scorecard`.

    Raises:
        InputError: a shape that is not [1, bins], or as `scorecard`.
    """
    width = _checked_row(table, noise_std, confidence)
    half_bin, centres = _bins(table.shape[1], LARGEST_SURPRISE)
    candidates = candidates_up_to(LARGEST_SURPRISE)
    mean = mean_excess(table[0], centres, candidates=candidates, variance=noise_std**2)
    return LikelihoodScorecard(
        _widened(estimate(mean, width), half_bin, LARGEST_SURPRISE), confidence
    )


def _share(counts: NoisyTable, is_right: NoisyTable, variance: float, width: float) -> Estimate:
    """The share of units in the cells where `is_right` is 1."""
    candidates = candidates_up_to(1.0)
    return estimate(
        mean_excess(counts.ravel(), is_right.ravel(), candidates=candidates, variance=variance),
        width,
    )


def _bins(count: int, largest: float) -> tuple[float, NoisyTable]:
    """Half the width of a bin of [0, largest], and the bins' centres."""
    half_bin = largest / count / 2
    return half_bin, np.linspace(half_bin, largest - half_bin, count)


def _widened(found: Estimate, margin: float, largest: float) -> Estimate:
    lower, upper = max(found.lower - margin, 0.0), min(found.upper + margin, largest)
    return Estimate(found.value, lower, upper)


def _auc_excess(histogram: NoisyTable, variance: float) -> Excess:
    """Ordered pairs minus the candidate times all pairs; bilinear in the counts."""
    candidates = candidates_up_to(1.0)
    negative, positive = histogram
    bins = len(negative)
    # [positive's bin, negative's bin]: 1 where the positive scores higher, half at a tie.
    wins = np.tri(bins, k=-1) + np.eye(bins) / 2
    # [candidate, bin]: what one more positive, or negative, in the bin would add.
    of_positive = wins @ negative - np.outer(candidates, np.full(bins, negative.sum()))
    of_negative = positive @ wins - np.outer(candidates, np.full(bins, positive.sum()))
    counted = np.maximum(of_positive**2 @ positive + of_negative**2 @ negative, 0)
    noised = variance * ((of_positive**2).sum(axis=1) + (of_negative**2).sum(axis=1))
    squares = (wins**2).sum() - 2 * candidates * wins.sum() + (candidates * bins) ** 2
    return Excess(
        candidates,
        distance=of_positive @ positive,
        variance=counted + noised + variance**2 * squares,
    )


def check_scores(histogram: NoisyTable, noise_std: float, confidence: float) -> float:
    """Return how many standard deviations an interval reaches, for a histogram of scores.

    Raises:
        InputError: as `scorecard`.
    """
    width = _checked(histogram, noise_std, confidence)
    if histogram.shape[0] != 2:  # noqa: PLR2004
        raise InputError(f"histogram has shape {histogram.shape}; expected [2, bins]")
    bins = histogram.shape[1]
    if bins < 2 or bins % 2:  # noqa: PLR2004
        raise InputError(f"histogram has {bins} bins; expected an even number")
    return width


def _checked_row(table: NoisyTable, noise_std: float, confidence: float) -> float:
    """How many standard deviations an interval reaches, for one row of bins."""
    width = _checked(table, noise_std, confidence)
    if table.shape[0] != 1 or table.shape[1] < 2:  # noqa: PLR2004
        raise InputError(f"table has shape {table.shape}; expected [1, bins]")
    return width


def _checked(table: NoisyTable, noise_std: float, confidence: float) -> float:
    """How many standard deviations an interval reaches."""
    if table.ndim != 2:  # noqa: PLR2004
        raise InputError(f"table has shape {table.shape}; expected two axes")
    if not np.isfinite(table).all():
        raise InputError("the table holds a value that is not finite")
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise InputError(f"noise_std is {noise_std}; expected >= 0")
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; expected between 0 and 1")
    return NormalDist().inv_cdf((1 + confidence) / 2)
