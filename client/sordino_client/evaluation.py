"""The evaluation that leaves a site: how many held-out records of each class got which score.

A unit is counted in one cell, so the L2 sensitivity is 1. Accuracy, AUC and calibration are read
off the noisy histogram by anyone (`sordino_protocols.scorecard`); the exact one stays here.
"""

import numpy as np
import numpy.typing as npt

from sordino_client.training.noise import Noise
from sordino_protocols.plan import EvaluationPlan

Histogram = npt.NDArray[np.int64]
NoisyHistogram = npt.NDArray[np.float64]


def score_histogram(
    scores: npt.NDArray[np.float64], labels: npt.NDArray[np.float32], *, bins: int
) -> Histogram:
    """Exact counts by class and score. Un-noised: must not leave the site.

    Args:
        scores: [records] in [0, 1]; one that is no number counts as 0.
        labels: [records], 0 or 1.
        bins: equal-width bins of [0, 1]; the last one holds 1 as well.

    Returns:
        [2, bins]: row 0 the negative class, row 1 the positive. Each record is in one cell.
    """
    bounded = np.clip(np.nan_to_num(scores, nan=0.0), 0.0, 1.0)
    cells = np.minimum((bounded * bins).astype(np.int64), bins - 1)
    flat = np.bincount(bins * (labels > 0) + cells, minlength=2 * bins)
    return flat.reshape(2, bins).astype(np.int64)


def noisy_histogram(
    scores: npt.NDArray[np.float64],
    labels: npt.NDArray[np.float32],
    plan: EvaluationPlan,
    *,
    noise: Noise,
) -> NoisyHistogram:
    """The histogram with Gaussian noise on every cell, rounded to whole numbers.

    Satisfies what `plan.event` says, if `noise` is secure. Counts are integers and so is what
    leaves, so floating point has no low-order bits to leak.

    Args:
        scores: [records] in [0, 1].
        labels: [records], 0 or 1.
        plan: bins and noise.
        noise: `SecureNoise` in the product.

    Returns:
        [2, bins], possibly negative: anything that hides it would bias sums over sites.
    """
    exact = score_histogram(scores, labels, bins=plan.bins)
    drawn = noise.standard_normal(exact.size).reshape(exact.shape)
    return np.rint(exact + plan.noise_multiplier * drawn)
