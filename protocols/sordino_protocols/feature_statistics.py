"""What a release of feature statistics looks like, and the scaling that is made of it.

Site and server read the shape and the sensitivity of the release off the same functions. All here
is public or works on what was released: the server, an auditor and a data scientist come to the
same scaling. Only features that the schema declares as numbers are measured: an indicator is 0 or 1
already, and one more number that is measured is more noise on all others.
"""

import math

import numpy as np
import numpy.typing as npt

from sordino_protocols.columns import IntegerColumn, NumberColumn, VectorColumn, width_of
from sordino_protocols.errors import InputError
from sordino_protocols.plan import StatisticsPlan
from sordino_protocols.scaling import FloatVector, Scaling
from sordino_protocols.schema import Schema

Chosen = npt.NDArray[np.bool_]

# A feature's spread is never taken to be smaller: dividing by less would magnify noise.
_SMALLEST_SPREAD = 0.01
# Where the noise on a mean is larger than this, of features in [-1, 1], nothing is scaled.
_LARGEST_ERROR = 0.1
# So many standard deviations of its noise must a variance have to be believed.
_BELIEVED = 2.0
_QUARTILES = (0.25, 0.5, 0.75)


def measured_features(schema: Schema) -> Chosen:
    """Which features are measured, bool [features]: numbers, no indicators and no tokens."""
    chosen: list[bool] = []
    for _, column in schema.features:
        match column:
            case IntegerColumn() | NumberColumn():
                chosen += [True, *[False] * column.nullable]
            case VectorColumn():
                chosen += [True] * column.count
            case _:
                chosen += [False] * width_of(column)
    return np.array(chosen, dtype=np.bool_)


def release_length(plan: StatisticsPlan, features: int) -> int:
    """How many numbers are released of so many measured features.

    Moments: sums of the features, sums of their squares, and the number of units. Quantiles: counts
    by feature and bin.
    """
    return 2 * features + 1 if plan.kind == "moments" else features * plan.bins


def sensitivity(plan: StatisticsPlan, features: int) -> float:
    """The largest L2 norm of what one unit adds to the release.

    Moments: every feature, its square and the unit itself are at most 1. Quantiles: each feature is
    in one bin.
    """
    return math.sqrt(2 * features + 1) if plan.kind == "moments" else math.sqrt(features)


def noise_std(plan: StatisticsPlan, features: int) -> float:
    """Standard deviation of the noise on every released number."""
    return plan.noise_multiplier * sensitivity(plan, features)


def make_scaling(
    plan: StatisticsPlan, totals: FloatVector, *, sites: int, measured: Chosen
) -> Scaling:
    """The scaling that noisy statistics give; post-processing, so it costs nothing.

    With "moments" a feature gets mean 0 and variance 1; with "quantiles" median 0, and its middle
    half within 1. A spread has a floor, and where the noise drowns the counts a feature stays as
    the schema scales it. Features that are not measured stay as they are.

    Args:
        plan: what was released.
        totals: the releases' sum over the sites.
        sites: how many sites are in the sum, each with noise of its own.
        measured: which features, bool [features].

    Raises:
        InputError: `totals` has another length.
    """
    count = int(measured.sum())
    if totals.shape != (release_length(plan, count),):
        raise InputError(f"statistics have shape {totals.shape}")
    noise = noise_std(plan, count) * math.sqrt(sites)
    if plan.kind == "moments":
        centre, spread = _moments(totals, noise)
    else:
        centre, spread = _quantiles(totals.reshape(count, plan.bins), noise)
    shift, factor = np.zeros(len(measured)), np.ones(len(measured))
    shift[measured], factor[measured] = centre, 1 / spread
    return Scaling(shift, factor)


def _moments(totals: FloatVector, noise: float) -> tuple[FloatVector, FloatVector]:
    """Means and standard deviations."""
    features = len(totals) // 2
    units = float(totals[-1])
    error = noise / units if units > 0 else math.inf
    if error > _LARGEST_ERROR:
        return np.zeros(features), np.ones(features)
    means = np.clip(totals[:features] / units, -1, 1)
    variances = totals[features:-1] / units - means**2
    # Of the mean of squares, and of a squared mean, whose slope is at most 2.
    floor = max(_SMALLEST_SPREAD**2, _BELIEVED * math.sqrt(5) * error)
    return means, np.sqrt(np.clip(variances, min(floor, 1.0), 1.0))


def _quantiles(counts: FloatVector, noise: float) -> tuple[FloatVector, FloatVector]:
    """Medians and halves of interquartile ranges, of counts [features, bins] over [-1, 1]."""
    features, bins = counts.shape
    edges = np.linspace(-1, 1, bins + 1)
    floor = max(_SMALLEST_SPREAD, 1 / bins)
    centres, spreads = np.zeros(features), np.ones(features)
    for feature, row in enumerate(counts):
        below = np.concatenate([[0.0], np.cumsum(row)])
        # The noise on the last of the cumulative counts, as a share of all.
        if not noise * math.sqrt(bins) < _LARGEST_ERROR * below[-1]:
            continue
        low, centres[feature], high = np.interp(_QUARTILES, _rising(below), edges)
        spreads[feature] = max((high - low) / 2, floor)
    return centres, spreads


def _rising(below: FloatVector) -> FloatVector:
    """Noisy cumulative counts as shares that rise from 0 to 1: the middle of two monotone hulls."""
    shares = np.clip(below / below[-1], 0, 1)
    above = np.maximum.accumulate(shares)
    beneath = np.minimum.accumulate(shares[::-1])[::-1]
    return np.asarray((above + beneath) / 2)
