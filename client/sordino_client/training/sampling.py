"""Poisson batches: each unit enters on its own secret coin, so amplification is accounted as it is.

The size of a batch is a secret that depends on the records. Nothing may be divided by it.
"""

import numpy as np
import numpy.typing as npt

from sordino_client.training.noise import Noise

Indices = npt.NDArray[np.int64]


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
