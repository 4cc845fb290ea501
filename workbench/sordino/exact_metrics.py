"""How good a model is, exactly: for records that are public or one's own, never a release."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ExactMetrics:
    """How good a model of two classes is on some records, without noise.

    Attributes:
        accuracy: share of records on the right side of a score of one half.
        auc: probability that a positive record scores higher than a negative one, ties half.
    """

    accuracy: float
    auc: float


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """How good a model of several classes is.

    Attributes:
        accuracy: share of records whose class has the largest output.
        balanced_accuracy: the mean over classes of the share of their records that are found.
    """

    accuracy: float
    balanced_accuracy: float


@dataclass(frozen=True, slots=True)
class NumberMetrics:
    """How far off a model of a number is, in units of scaled labels: their range has length 2.

    Attributes:
        mean_absolute_error: of predictions kept in [-1, 1].
        root_mean_squared_error: of the same.
    """

    mean_absolute_error: float
    root_mean_squared_error: float


TaskMetrics = ExactMetrics | ClassMetrics | NumberMetrics


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


def class_metrics(outputs: Scores, labels: Labels) -> ClassMetrics:
    """Metrics of outputs [n, classes], labels being class indices; ties go to the first class.

    Classes without a record do not count for the balanced accuracy.

    Raises:
        ValueError: no records.
    """
    if not len(labels):
        raise ValueError("expected records")
    is_right = outputs.argmax(axis=1) == labels
    recalls = [float(is_right[labels == each].mean()) for each in np.unique(labels)]
    return ClassMetrics(float(is_right.mean()), float(np.mean(recalls)))


def number_metrics(outputs: Scores, labels: Labels) -> NumberMetrics:
    """Metrics of outputs [n], labels being numbers scaled to [-1, 1].

    Raises:
        ValueError: no records.
    """
    if not len(labels):
        raise ValueError("expected records")
    errors = np.clip(outputs, -1.0, 1.0) - labels
    return NumberMetrics(float(np.abs(errors).mean()), float(np.sqrt(np.square(errors).mean())))


def _auc(scores: Scores, positive: npt.NDArray[np.bool_]) -> float:
    """The Mann-Whitney statistic by mean ranks (Hanley & McNeil 1982)."""
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last_rank = np.cumsum(counts)
    ranks = (last_rank - (counts - 1) / 2)[index]
    positives = int(positive.sum())
    wins = float(ranks[positive].sum()) - positives * (positives + 1) / 2
    return wins / (positives * (len(scores) - positives))
