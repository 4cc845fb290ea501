"""A source of noise that a test can repeat. It lives here because the product must not have one."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sordino_client.training.discrete_gaussian import discrete_gaussian


@dataclass
class SeededNoise:
    """Repeats itself from `seed`; says that it is not secure.

    Coins and noise come from two streams, so that neighbouring data sets see the same noise.
    """

    seed: int
    _normal: np.random.Generator = field(init=False, repr=False)
    _coins: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._normal, self._coins = np.random.default_rng(self.seed).spawn(2)

    @property
    def is_secure(self) -> bool:
        return False

    def standard_normal(self, count: int) -> NDArray[np.float64]:
        return self._normal.standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        return discrete_gaussian(count, noise_std=noise_std, words=self._words)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        return np.asarray(self._coins.random(count) < probability)

    def _words(self, count: int) -> NDArray[np.uint64]:
        return self._normal.integers(2**64, size=count, dtype=np.uint64)


class NoNoise:
    """No noise, and every coin lands as the test says: shows the exact sum."""

    def __init__(self, coins: NDArray[np.bool_] | None = None) -> None:
        self._coins = coins

    @property
    def is_secure(self) -> bool:
        return False

    def standard_normal(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        del noise_std
        return np.zeros(count, dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        del probability
        return np.ones(count, dtype=np.bool_) if self._coins is None else self._coins[:count]
