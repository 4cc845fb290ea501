"""Accuracy and AUC from a noisy histogram of scores: all that a federation sees of its evaluation.

Both are ratios of noisy sums, and at a small epsilon the noise is as large as the counts. So the
intervals do not trust the ratio: they hold every value that the noisy numbers do not contradict
(Fieller 1954). They cover the privacy noise and the accident of which records were held out. Noise
that drowns the counts gives the interval [0, 1], not a narrow one around a wrong value.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError

_CANDIDATES = np.linspace(0, 1, 1001)
# Rounding to whole counts adds the variance of a uniform error of width 1.
_ROUNDING_VARIANCE = 1 / 12

NoisyHistogram = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with an interval that holds the truth with the scorecard's confidence."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Scorecard:
    """How good a model is on held-out records, as far as the noise lets one say.

    Attributes:
        accuracy: share of records on the right side of a score of one half.
        auc: probability that a positive record scores higher than a negative one; a tie, which
            here is the same bin, counts half.
        confidence: of each interval alone.
    """

    accuracy: Estimate
    auc: Estimate
    confidence: float


def scorecard(histogram: NoisyHistogram, *, noise_std: float, confidence: float) -> Scorecard:
    """Read accuracy and AUC off a noisy histogram.

    Args:
        histogram: [2, bins], negative class first; a sum over sites is fine.
        noise_std: standard deviation of the noise on every cell. Over k sites that add the same
            noise, sqrt(k) times one site's. 0 for an exact histogram.
        confidence: of each interval, in (0, 1).

    Raises:
        InputError: a shape that is not [2, even number of bins] (one half must be an edge), values
            that are not finite, or noise or confidence out of range.
    """
    _check(histogram, noise_std, confidence)
    variance = noise_std**2 + (_ROUNDING_VARIANCE if noise_std > 0 else 0.0)
    width = NormalDist().inv_cdf((1 + confidence) / 2)
    return Scorecard(
        accuracy=_estimate(_accuracy_excess(histogram, variance), width),
        auc=_estimate(_auc_excess(histogram, variance), width),
        confidence=confidence,
    )


@dataclass(frozen=True, slots=True)
class _Excess:
    """For each candidate: a number that is zero on average at the truth, and its variance."""

    distance: Vector
    variance: Vector


def _estimate(excess: _Excess, width: float) -> Estimate:
    """Invert the test "the truth is this candidate".

    Candidates `width` standard deviations away or less are kept; the interval is their hull,
    widened by one step.
    """
    # The distance is linear in the candidate: the first is the numerator, this the denominator.
    total = excess.distance[0] - excess.distance[-1]
    # Without a positive count there is no ratio to speak of; the interval says so.
    value = float(np.clip(excess.distance[0] / total, 0, 1)) if total > 0 else 0.5
    kept = np.flatnonzero(np.abs(excess.distance) <= width * np.sqrt(excess.variance))
    if len(kept) == 0:
        return Estimate(value, 0.0, 1.0)
    first, last = max(kept[0] - 1, 0), min(kept[-1] + 1, len(_CANDIDATES) - 1)
    lower, upper = float(_CANDIDATES[first]), float(_CANDIDATES[last])
    return Estimate(value, min(lower, value), max(upper, value))


def _accuracy_excess(histogram: NoisyHistogram, variance: float) -> _Excess:
    """Right answers minus the candidate times all answers."""
    bins = histogram.shape[1]
    right = float(histogram[0, : bins // 2].sum() + histogram[1, bins // 2 :].sum())
    wrong = float(histogram.sum()) - right
    # A right answer adds 1 - candidate, a wrong one -candidate; so does the noise in each cell.
    squares = np.stack([(1 - _CANDIDATES) ** 2, _CANDIDATES**2])
    counted = np.maximum(right * squares[0] + wrong * squares[1], 0)
    return _Excess(
        distance=right - _CANDIDATES * (right + wrong),
        variance=counted + variance * bins * squares.sum(axis=0),
    )


def _auc_excess(histogram: NoisyHistogram, variance: float) -> _Excess:
    """Ordered pairs minus the candidate times all pairs; bilinear in the counts."""
    negative, positive = histogram
    bins = len(negative)
    # [positive's bin, negative's bin]: 1 where the positive scores higher, half at a tie.
    wins = np.tri(bins, k=-1) + np.eye(bins) / 2
    # [candidate, bin]: what one more positive, or negative, in the bin would add.
    of_positive = wins @ negative - np.outer(_CANDIDATES, np.full(bins, negative.sum()))
    of_negative = positive @ wins - np.outer(_CANDIDATES, np.full(bins, positive.sum()))
    counted = np.maximum(of_positive**2 @ positive + of_negative**2 @ negative, 0)
    noised = variance * ((of_positive**2).sum(axis=1) + (of_negative**2).sum(axis=1))
    squares = (wins**2).sum() - 2 * _CANDIDATES * wins.sum() + (_CANDIDATES * bins) ** 2
    return _Excess(
        distance=of_positive @ positive, variance=counted + noised + variance**2 * squares
    )


def _check(histogram: NoisyHistogram, noise_std: float, confidence: float) -> None:
    if histogram.ndim != 2 or histogram.shape[0] != 2:  # noqa: PLR2004
        raise InputError(f"histogram has shape {histogram.shape}; expected [2, bins]")
    if histogram.shape[1] < 2 or histogram.shape[1] % 2:  # noqa: PLR2004
        raise InputError(f"histogram has {histogram.shape[1]} bins; expected an even number")
    if not np.isfinite(histogram).all():
        raise InputError("histogram holds a value that is not finite")
    if not (math.isfinite(noise_std) and noise_std >= 0):
        raise InputError(f"noise_std is {noise_std}; expected >= 0")
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; expected between 0 and 1")
