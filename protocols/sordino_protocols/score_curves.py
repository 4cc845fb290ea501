"""ROC and calibration of a model of two classes, read off a noisy histogram of its scores.

The histogram knows each score up to its bin, so a ROC has a point an inner edge, and calibration is
judged a bin at a time. Intervals cover the privacy noise and the accident of which units were held
out. Those of one curve hold all together, so that a band may be drawn around it: Bonferroni's
inequality shares the error among them.

Tables of other tasks have no scores: the one of several classes counts right and wrong answers, the
one of numbers the sizes of errors. The latter has neither the errors' signs nor the labels, so a
bias or a share of explained variance cannot be read off it: they would need cells, and so noise, of
their own.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from sordino_protocols.noisy_ratios import Estimate, estimate, share_excess
from sordino_protocols.scorecard import check_scores

NoisyTable = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

# Of the absolute value of a standard normal.
_MEAN_ABSOLUTE = math.sqrt(2 / math.pi)


@dataclass(frozen=True, slots=True)
class RocPoint:
    """What a threshold does.

    Attributes:
        threshold: scores from here on count as positive.
        false_positive_rate: share of the negative units with such a score.
        true_positive_rate: share of the positive ones.
    """

    threshold: float
    false_positive_rate: Estimate
    true_positive_rate: Estimate


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The units with a score in one bin.

    Attributes:
        lower: edge of the bin.
        upper: edge of the bin.
        observed_rate: share of positive units among them.
    """

    lower: float
    upper: float
    observed_rate: Estimate


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether scores are probabilities.

    Attributes:
        bins: by score; the intervals hold all together.
        expected_error: mean over the units of how far the observed rate of their bin is from its
            mean score; the interval holds on its own.
    """

    bins: tuple[CalibrationBin, ...]
    expected_error: Estimate


def roc_curve(
    histogram: NoisyTable, *, noise_std: float, confidence: float
) -> tuple[RocPoint, ...]:
    """The ROC at the inner edges of the bins, thresholds rising; both rates fall.

    Args:
        histogram: [2, bins], negative class first; a sum over sites is fine.
        noise_std: standard deviation of the noise on every cell.
        confidence: that all intervals hold together.

    Raises:
        InputError: as `scorecard.scorecard`.
    """
    check_scores(histogram, noise_std, confidence)
    bins = histogram.shape[1]
    width = _width(confidence, intervals=2 * (bins - 1))
    rates = []
    for counts in histogram:
        shares = [
            _share(counts, np.arange(bins) >= edge, noise_std=noise_std, width=width)
            for edge in range(1, bins)
        ]
        rates.append(_falling(shares))
    return tuple(
        RocPoint(edge / bins, false_positive, true_positive)
        for edge, false_positive, true_positive in zip(range(1, bins), *rates, strict=True)
    )


def calibration(histogram: NoisyTable, *, noise_std: float, confidence: float) -> Calibration:
    """Observed rates by bin, and the expected calibration error (Naeini et al. 2015).

    Args:
        histogram: as for `roc_curve`.
        noise_std: as for `roc_curve`.
        confidence: that all bins' intervals hold together; and that the error's holds.

    Raises:
        InputError: as `scorecard.scorecard`.
    """
    check_scores(histogram, noise_std, confidence)
    bins = histogram.shape[1]
    width = _width(confidence, intervals=bins)
    is_positive = np.array([False, True])
    observed = [
        _share(counts, is_positive, noise_std=noise_std, width=width) for counts in histogram.T
    ]
    return Calibration(
        tuple(CalibrationBin(i / bins, (i + 1) / bins, rate) for i, rate in enumerate(observed)),
        _expected_error(histogram, variance=noise_std**2, confidence=confidence),
    )


def _expected_error(histogram: NoisyTable, *, variance: float, confidence: float) -> Estimate:
    """Sum over bins of |positives - centre * units|, over all units.

    The noise in a bin's difference moves its absolute value by its own absolute value at most. The
    sum of those has a mean, and is a Lipschitz function of independent normal variables, so it
    passes the mean by more than `reach` times its constant with probability 1 - confidence at most
    (Boucheron, Lugosi & Massart 2013, thm. 5.6). A score is half a bin from its bin's centre at
    most, and the interval is wider by that.
    """
    negative, positive = histogram
    bins = len(positive)
    half_bin = 0.5 / bins
    centres = (np.arange(bins) + 0.5) / bins
    differences = positive - centres * (positive + negative)
    # One unit moves its bin's difference by 1 - centre or by centre, and so does the noise.
    counted = (1 - centres) ** 2 * positive + centres**2 * negative
    variances = np.maximum(counted, 0) + variance * ((1 - centres) ** 2 + centres**2)
    reach = math.sqrt(2 * math.log(1 / (1 - confidence)))
    slack = _MEAN_ABSOLUTE * np.sqrt(variances).sum() + reach * math.sqrt(variances.sum())
    units_slack = (_MEAN_ABSOLUTE + reach) * math.sqrt(2 * bins * variance)
    units, total = float(histogram.sum()), float(np.abs(differences).sum())
    fewest, most = units - units_slack, units + units_slack
    lower = max((total - slack) / most - half_bin, 0.0) if most > 0 else 0.0
    upper = min((total + slack) / fewest + half_bin, 1.0) if fewest > 0 else 1.0
    if units <= 0:
        return Estimate(0.5, 0.0, 1.0)
    # What is left of each square when the noise's share is taken off: noise adds to |difference|.
    value = float(np.sqrt(np.maximum(differences**2 - variances, 0)).sum()) / units
    return Estimate(min(max(value, lower), upper), lower, upper)


def _share(
    counts: Vector, is_in: npt.NDArray[np.bool_], *, noise_std: float, width: float
) -> Estimate:
    return estimate(share_excess(counts, is_in, variance=noise_std**2, width=width), width)


def _falling(shares: list[Estimate]) -> list[Estimate]:
    """The shares above rising thresholds: since they fall, each interval narrows the others."""
    upper = np.minimum.accumulate([each.upper for each in shares])
    lower = np.maximum.accumulate([each.lower for each in shares][::-1])[::-1]
    values = np.array([each.value for each in shares])
    # Between the largest of what follows and the smallest of what came before; both fall.
    above = np.maximum.accumulate(values[::-1])[::-1]
    middle = (above + np.minimum.accumulate(values)) / 2
    # Where noise makes the bounds cross, the truth is outside anyway.
    low, high = np.minimum(lower, upper), np.maximum(lower, upper)
    return [
        Estimate(*map(float, each))
        for each in zip(np.clip(middle, low, high), low, high, strict=True)
    ]


def _width(confidence: float, *, intervals: int) -> float:
    """How many standard deviations each of several intervals reaches."""
    return NormalDist().inv_cdf(1 - (1 - confidence) / intervals / 2)
