"""Poisson batches: each unit enters on its own secret coin, so amplification is accounted as it is.

The size of a batch is a secret that depends on the records. Nothing may be divided by it. All that
is drawn here is drawn for each unit alone, so a unit more changes nothing about another's.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from sordino_client.entities import Entities
from sordino_client.training.noise import Noise

Indices = npt.NDArray[np.int64]

ABSENT = -1
"""In a table of rows, the place of a row that a unit does not have."""


def poisson_sample(unit_count: int, *, sampling_rate: float, noise: Noise) -> Indices:
    """The indices of a Poisson sample: each of `unit_count` units with `sampling_rate`, alone.

    Args:
        unit_count: how many units there are; a secret, as is the result.
        sampling_rate: probability in (0, 1] of each unit; 1 takes every unit.
        noise: source of the coins. Amplification by sampling holds only while they are secret.

    Returns:
        Increasing indices, possibly none.

    Raises:
        ValueError: the sampling rate is not in (0, 1].
    """
    if not 0 < sampling_rate <= 1:
        raise ValueError(f"sampling_rate is {sampling_rate}; expected a number in (0, 1]")
    coins = noise.bernoulli(unit_count, probability=sampling_rate)
    return np.flatnonzero(coins).astype(np.int64, copy=False)


def shuffled(batch: Indices, *, noise: Noise) -> Indices:
    """The batch in uniformly random order; why single precision needs it, `arithmetic` says."""
    return batch[np.argsort(noise.standard_normal(len(batch)), kind="stable")]


def draw_rows(entities: Entities, chosen: Indices, *, at_most: int, noise: Noise) -> Indices:
    """Up to `at_most` rows of each chosen entity, without replacement, every choice as likely.

    Args:
        entities: the rows of each.
        chosen: indices of entities.
        at_most: rows of one entity, at least 1.
        noise: orders each entity's rows at random.

    Returns:
        [chosen, at_most] row numbers; `ABSENT` where an entity has no more.
    """
    begins = entities.starts[chosen]
    sizes = entities.starts[chosen + 1] - begins
    owners = np.repeat(np.arange(len(chosen)), sizes)
    ranks = np.arange(len(owners)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = entities.order[np.repeat(begins, sizes) + ranks]
    rows = rows[np.lexsort((noise.standard_normal(len(rows)), owners))]
    drawn = np.full((len(chosen), at_most), ABSENT, dtype=np.int64)
    is_kept = ranks < at_most
    drawn[owners[is_kept], ranks[is_kept]] = rows[is_kept]
    return drawn


def uniform_integers(count: int, *, below: int, noise: Noise) -> Indices:
    """`count` independent draws from 0 to `below` - 1, equally likely up to float64 rounding."""
    positions: npt.NDArray[np.float64] = ndtr(noise.standard_normal(count)) * below
    return np.minimum(positions.astype(np.int64), below - 1)
