"""Feature statistics as a release: what a federation scales its features by.

Every unit speaks once, entities through one record drawn at random, and adds a vector whose length
has a public bound. Features are rounded to a grid before they are added: sums of whole numbers are
exact, so two neighbours' sums differ by one unit's vector and by nothing that rounding did; and the
noisy sum is rounded to the same grid, so that its low-order bits, which floating-point noise would
leave readable, are gone (Mironov 2012).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sordino_client.data.storage import FeatureArray
from sordino_client.training.noise import Noise
from sordino_protocols.feature_statistics import Chosen, noise_std
from sordino_protocols.plan import StatisticsPlan

Indices = npt.NDArray[np.int64]
Sums = npt.NDArray[np.int64]
NoisySums = npt.NDArray[np.float64]

# Squares of multiples of 2^-10 are multiples of 2^-20: far below any noise, exact to 2^33 units.
_FEATURE_STEPS = 2**10
_SQUARE_STEPS = _FEATURE_STEPS**2
_CHUNK_VALUES = 2**20


def exact_statistics(
    features: FeatureArray, rows: Indices, plan: StatisticsPlan, *, measured: Chosen
) -> Sums:
    """Exact sums, in steps of `grid_step`. Un-noised: must not leave the site.

    Args:
        features: [records, features], encoded, in [-1, 1]; what is not counts as the nearest bound,
            and what is no number as 0.
        rows: the records that speak, one a unit.
        plan: what is summed.
        measured: which features, bool [features].

    Returns:
        int64, laid out as `feature_statistics` says.
    """
    columns = np.flatnonzero(measured)
    if plan.kind == "moments":
        sums = np.zeros(2 * len(columns) + 1, dtype=np.int64)
        for chunk in _chunks(features, rows, columns):
            steps = np.rint(chunk * _FEATURE_STEPS).astype(np.int64)
            sums[: len(columns)] += steps.sum(axis=0) * _FEATURE_STEPS
            sums[len(columns) : -1] += (steps**2).sum(axis=0)
            sums[-1] += len(steps) * _SQUARE_STEPS
        return sums
    counts = np.zeros(len(columns) * plan.bins, dtype=np.int64)
    first_cells = np.arange(len(columns)) * plan.bins
    for chunk in _chunks(features, rows, columns):
        cells = np.minimum(((chunk + 1) / 2 * plan.bins).astype(np.int64), plan.bins - 1)
        counts += np.bincount((cells + first_cells).ravel(), minlength=len(counts))
    return counts


def grid_step(plan: StatisticsPlan) -> float:
    """What the sums are multiples of: a power of two."""
    return 1 / _SQUARE_STEPS if plan.kind == "moments" else 1.0


def noisy_statistics(
    features: FeatureArray, rows: Indices, plan: StatisticsPlan, *, measured: Chosen, noise: Noise
) -> NoisySums:
    """The sums with Gaussian noise on every number, rounded to the grid.

    Satisfies what `plan.event` says, if `noise` is secure and each unit has one row.

    Args:
        features: as for `exact_statistics`.
        rows: as for `exact_statistics`.
        plan: what is summed, and the noise.
        measured: which features, bool [features].
        noise: `SecureNoise` in the product.
    """
    exact, step = exact_statistics(features, rows, plan, measured=measured), grid_step(plan)
    drawn = noise.standard_normal(len(exact)) * noise_std(plan, int(measured.sum()))
    return np.asarray(np.rint(exact + drawn / step) * step)


def _chunks(
    features: FeatureArray, rows: Indices, columns: Indices
) -> Iterator[npt.NDArray[np.float64]]:
    """The measured features of some units at a time: a mapped file must not come into memory."""
    size = max(1, _CHUNK_VALUES // max(1, features.shape[1]))
    for start in range(0, len(rows), size):
        chunk = features[rows[start : start + size]][:, columns].astype(np.float64)
        yield np.clip(np.nan_to_num(chunk, nan=0.0), -1.0, 1.0)
