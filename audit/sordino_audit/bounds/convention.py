"""What much of the literature reports as a lower bound, and is none: for comparison only.

Many papers try every threshold on the scores that they report on, and keep the best confidence
bound without paying for the choice; and they give each of the two error rates the whole error. That
exceeds the true value far more often than the stated error: see the benchmark of bounds for how
often. Nothing here may decide a verdict.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from sordino_audit.bounds.clopper_pearson import upper_limit
from sordino_audit.bounds.ranges import require_confidence

Floats = NDArray[np.float64]


def best_threshold_mu(
    scores_inserted: Floats, scores_held_out: Floats, *, confidence: float
) -> float:
    """The best Gaussian-DP Clopper-Pearson value over all thresholds, uncorrected. NOT a bound.

    At each threshold it is the value of Nasr et al. 2023 (sec. 5), from two limits that hold with
    the stated confidence each, not together; and the same scores choose the threshold.

    Args:
        scores_inserted: one a canary, shape (inserted,); higher means more likely inserted.
        scores_held_out: one a held-out canary, shape (held_out,).
        confidence: nominal, in (0, 1).

    Returns:
        mu >= 0; 0 without scores on either side.

    Raises:
        ValueError: a score that is not a number, or a confidence outside (0, 1).
    """
    require_confidence(confidence)
    if np.isnan(scores_inserted).any() or np.isnan(scores_held_out).any():
        raise ValueError("every score must be a number")
    inserted, held_out = np.sort(scores_inserted), np.sort(scores_held_out)
    thresholds = np.concatenate([inserted, held_out])
    false_negatives = np.searchsorted(inserted, thresholds)
    false_positives = held_out.size - np.searchsorted(held_out, thresholds)
    tail = 1 - confidence
    missed = upper_limit(false_negatives, inserted.size, tail)
    alarmed = upper_limit(false_positives, held_out.size, tail)
    with np.errstate(invalid="ignore"):
        values = ndtri(1 - alarmed) - ndtri(missed)
    return float(np.max(values, initial=0.0, where=~np.isnan(values)))
