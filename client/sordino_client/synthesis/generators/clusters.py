"""Clusters of records with differential privacy: k-means on random features (Acs et al. 2018, 4.1).

Records are mapped to random Fourier features (Rahimi & Recht 2007), whose distances are those of a
kernel and whose norm is 1; then each round of k-means releases every cluster's noisy count and sum
(Blum et al. 2005). A unit is in one cluster a round, so what is released has an L2 sensitivity of
the square root of 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_client.training.noise import Noise, noisy_on_grid

Cells = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

_FREQUENCIES = 32
_BANDWIDTH = 0.5
# Of the sums: features are cut to it, so that sums are exact.
_GRID = 2.0**-20
_SENSITIVITY = math.sqrt(2.0)


@dataclass(frozen=True, slots=True)
class Clusters:
    """A partition of the units, and what is known of it to everybody.

    Attributes:
        members: [units], the cluster of each: a secret.
        units: how many units each cluster seems to have, at least 0.
    """

    members: Indices
    units: Numbers

    def __repr__(self) -> str:
        """Nothing about the records, whatever logs it."""
        return "Clusters(...)"


def find_clusters(
    coarse: Cells,
    sizes: Sequence[int],
    *,
    clusters: int,
    rounds: int,
    noise_multiplier: float,
    noise: Noise,
) -> Clusters:
    """Cluster records: costs `rounds` times `Gaussian(noise_multiplier)`.

    The members of the last round are kept with the counts that were released of them, so a record's
    cluster is a function of that record and of what was released before.

    Args:
        coarse: [units, columns]; a secret.
        sizes: cells of each column.
        clusters: how many to find, some of which may stay empty.
        rounds: of k-means.
        noise_multiplier: of each round.
        noise: source of the randomness.
    """
    features = kernel_features(coarse, sizes)
    centres = _first_centres(sizes, clusters)
    noise_std = noise_multiplier * _SENSITIVITY
    while True:
        members = _nearest(features, centres)
        released = noisy_on_grid(
            cluster_sums(features, members, clusters).ravel(),
            noise=noise,
            noise_std=noise_std,
            step=_GRID,
        ).reshape(clusters, -1)
        counts, sums = released[:, 0], released[:, 1:]
        rounds -= 1
        if rounds == 0:
            return Clusters(members, np.maximum(counts, 0.0))
        # A cluster whose count drowns in noise stays where it is.
        is_known = counts > 3 * noise_std * math.sqrt(features.shape[1])
        centres[is_known] = on_grid(sums[is_known] / counts[is_known, None])


def on_grid(centres: Numbers) -> Numbers:
    """Centres whose products with features are exact in double precision.

    Otherwise the order in which a library adds, which depends on how many records there are, could
    move a record that is as near to one centre as to another because of somebody else's.
    """
    return np.clip(np.rint(centres / _GRID) * _GRID, -1.0, 1.0)


def cluster_sums(features: Numbers, members: Indices, clusters: int) -> Numbers:
    """Exact count and sum of each cluster, [clusters, 1 + features]: a secret."""
    sums = np.zeros((clusters, 1 + features.shape[1]))
    for cluster in range(clusters):
        chosen = features[members == cluster]
        sums[cluster, 0] = len(chosen)
        sums[cluster, 1:] = chosen.sum(axis=0)
    return sums


def kernel_features(coarse: Cells, sizes: Sequence[int]) -> Numbers:
    """[units, features], of norm 1 at most: multiples of the grid's step, cut towards zero.

    The frequencies are public, and the same for everybody.
    """
    frequencies = np.random.default_rng(0).standard_normal((sum(sizes), _FREQUENCIES))
    scale = 1 / (_BANDWIDTH * math.sqrt(len(sizes)))
    angles = np.zeros((len(coarse), _FREQUENCIES))
    for cells, start in zip(coarse.T, np.cumsum([0, *sizes]), strict=False):
        angles += frequencies[start + cells] * scale
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / math.sqrt(_FREQUENCIES)
    return np.asarray(np.trunc(waves / _GRID) * _GRID)


def _first_centres(sizes: Sequence[int], clusters: int) -> Numbers:
    """Features of made-up records, the same for everybody."""
    rng = np.random.default_rng(1)
    made_up = np.stack([rng.integers(size, size=clusters) for size in sizes], axis=1)
    return kernel_features(made_up.astype(np.int32), sizes)


def _nearest(features: Numbers, centres: Numbers) -> Indices:
    distances = (centres**2).sum(axis=1) - 2 * features @ centres.T
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)
