"""Accuracy and AUC from exact scores: for records that are public or one's own, never a release."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ExactMetrics:
    """How good a model is on some records, without noise.

    Attributes:
        accuracy: share of records on the right side of a score of one half.
        auc: probability that a positive record scores higher than a negative one, ties half.
    """

    accuracy: float
    auc: float


def exact_metrics(scores: Scores, labels: Labels) -> ExactMetrics:
    """Accuracy and AUC of scores in [0, 1].

    Raises:
        ValueError: no records, or not both classes: neither number means anything then.
    """
    positive = labels > 0
    if not (positive.any() and (~positive).any()):
        raise ValueError("expected records of both classes")
    accuracy = float(np.mean((scores >= 0.5) == positive))  # noqa: PLR2004
    return ExactMetrics(accuracy, _auc(scores, positive))


def _auc(scores: Scores, positive: npt.NDArray[np.bool_]) -> float:
    """The Mann-Whitney statistic by mean ranks (Hanley & McNeil 1982)."""
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    ranks = (last_rank - (counts - 1) / 2)[index]
    positives = int(positive.sum())
    wins = float(ranks[positive].sum()) - positives * (positives + 1) / 2
    return wins / (positives * (len(scores) - positives))
