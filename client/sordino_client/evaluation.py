"""Evaluation as a release: a noisy table of how many held-out units the model answers how.

A unit is counted in one cell, so the L2 sensitivity is 1: where a unit is an entity, one of its
records speaks for it, drawn at random. Accuracy and the rest are read off the noisy table by anyone
(`sordino_protocols.scorecard`); the exact one stays here.
"""

from typing import assert_never

import numpy as np
import numpy.typing as npt

from sordino_client.training.noise import Noise
from sordino_protocols.plan import EvaluationPlan
from sordino_protocols.scorecard import LARGEST_ERROR, LARGEST_SURPRISE

Outputs = npt.NDArray[np.float64]
Labels = npt.NDArray[np.float32]
Table = npt.NDArray[np.int64]
NoisyTable = npt.NDArray[np.float64]


def exact_table(outputs: Outputs, labels: Labels, plan: EvaluationPlan) -> Table:
    """Exact counts of `plan.shape`. Un-noised: must not leave the site.

    An output that is not finite counts as a wrong answer, or as the largest error.

    Args:
        outputs: [units, k] of the network, k = 1 for the losses "binary" and "squared".
        labels: [units], as the loss wants them; "likelihood" does not look at them.
        plan: what is counted.

    Returns:
        int64, each unit in one cell.
    """
    match plan.loss:
        case "binary":
            scores = _logistic(outputs[:, 0])
            return score_histogram(scores, labels, bins=plan.bins)
        case "cross_entropy":
            return answer_table(outputs, labels, classes=plan.classes)
        case "squared":
            return error_histogram(outputs[:, 0], labels, bins=plan.bins)
        case "likelihood":
            return surprise_histogram(outputs, bins=plan.bins)
        case _:
            assert_never(plan.loss)


def score_histogram(scores: Outputs, labels: Labels, *, bins: int) -> Table:
    """Counts by class and score.

    Args:
        scores: [units] in [0, 1]; what is no number counts as the wrong end.
        labels: [units], 0 or 1.
        bins: equal-width bins of [0, 1]; the last one holds 1 as well.

    Returns:
        [2, bins]: row 0 the negative class, row 1 the positive.
    """
    is_positive = labels > 0
    bounded = np.clip(np.where(np.isnan(scores), ~is_positive, scores), 0.0, 1.0)
    cells = np.minimum((bounded * bins).astype(np.int64), bins - 1)
    return _counts(bins * is_positive + cells, (2, bins))


def answer_table(outputs: Outputs, labels: Labels, *, classes: int) -> Table:
    """Counts by class of wrong and right answers: a right one has the class's output on top.

    Args:
        outputs: [units, classes].
        labels: [units], 0 to classes - 1.
        classes: how many.

    Returns:
        [classes, 2]: wrong, right.
    """
    known = np.clip(np.nan_to_num(labels, nan=0.0), 0, classes - 1).astype(np.int64)
    best = np.argmax(np.nan_to_num(outputs, nan=0.0), axis=1)
    is_right = (best == known) & np.isfinite(outputs).all(axis=1)
    return _counts(2 * known + is_right, (classes, 2))


def error_histogram(outputs: Outputs, labels: Labels, *, bins: int) -> Table:
    """Counts by absolute error of predictions, which are outputs kept in [-1, 1].

    Args:
        outputs: [units].
        labels: [units], scaled, so that no finite prediction is further off than `LARGEST_ERROR`.
        bins: equal-width bins of [0, `LARGEST_ERROR`]; the last one holds the largest as well.

    Returns:
        [1, bins].
    """
    known = np.clip(labels.astype(np.float64), -1, 1)
    errors = np.abs(np.clip(outputs, -1, 1) - known)
    errors = np.where(np.isfinite(outputs) & np.isfinite(known), errors, LARGEST_ERROR)
    cells = np.minimum((errors / LARGEST_ERROR * bins).astype(np.int64), bins - 1)
    return _counts(cells, (1, bins))


def surprise_histogram(log_probabilities: Outputs, *, bins: int) -> Table:
    """Counts by mean negative log-probability; what is no number counts as the largest.

    Args:
        log_probabilities: [units, columns], in nats.
        bins: equal-width bins of [0, `LARGEST_SURPRISE`]; the last one holds all above as well.

    Returns:
        [1, bins].
    """
    with np.errstate(invalid="ignore", over="ignore"):
        surprise = -log_probabilities.mean(axis=1) / LARGEST_SURPRISE
    shares = np.clip(np.where(np.isnan(surprise), 1.0, surprise), 0, 1)
    return _counts(np.minimum((shares * bins).astype(np.int64), bins - 1), (1, bins))


def noisy_table(exact: Table, plan: EvaluationPlan, *, noise: Noise) -> NoisyTable:
    """The table with discrete Gaussian noise on every cell (Canonne et al. 2020).

    Satisfies what `plan.event` says, if `noise` is secure and each unit is in one cell. Counts and
    noise are integers, so floating point has no low-order bits to leak.

    Args:
        exact: of `plan.shape`; a sum of tables of different units is one.
        plan: the noise.
        noise: `SecureNoise` in the product.

    Returns:
        Of `plan.shape`, possibly negative: anything that hides it would bias sums over sites.
    """
    drawn = noise.discrete_gaussian(exact.size, noise_std=plan.noise_multiplier)
    return (exact + drawn.reshape(exact.shape)).astype(np.float64)


def _logistic(logits: Outputs) -> Outputs:
    """Scores in [0, 1]; NaN stays."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits)))


def _counts(cells: npt.NDArray[np.int64], shape: tuple[int, int]) -> Table:
    flat = np.bincount(cells, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.int64)
