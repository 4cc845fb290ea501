"""Randomness that a probe knows: replayed, constant, or coins alone. None of it is secure.

Every source here says so, and a site refuses to release anything that was made with one.
"""

import numpy as np
import numpy.typing as npt

from sordino_client.training.discrete_gaussian import discrete_gaussian
from sordino_client.training.noise import BoolVector, FloatVector, SecureNoise, Words


class Constant:
    """The same number for all noise, and the same coins in every step.

    What a release gains when the number goes from 0 to 1 is its noise's standard deviation,
    coordinate by coordinate.
    """

    def __init__(self, value: float, coins: BoolVector | None = None) -> None:
        """A source.

        Args:
            value: of every draw of noise.
            coins: who takes part, at least as many as there are units; None: everybody.
        """
        self._value = value
        self._coins = coins

    @property
    def is_secure(self) -> bool:
        """Never."""
        return False

    def standard_normal(self, count: int) -> FloatVector:
        """`count` times the number."""
        return np.full(count, self._value)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        """`count` times the number in units of `noise_std`, rounded."""
        return np.full(count, round(self._value * noise_std), dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        """The coins, whatever the probability; over again where more are asked for."""
        del probability
        return np.ones(count, np.bool_) if self._coins is None else np.resize(self._coins, count)


class Replayed:
    """Pseudo-random draws that two neighbouring data sets share.

    The k-th draw comes from a stream of its own, of which a longer draw sees more: a unit more
    changes the coins and the noise of no other, however many numbers are drawn for it.
    """

    def __init__(self, seed: int, coins: BoolVector | None = None) -> None:
        """A source.

        Args:
            seed: two sources of one seed repeat each other.
            coins: who takes part in every step; None: drawn at the rate that is asked for.
        """
        self._seed = seed
        self._coins = coins
        self._draws = 0

    @property
    def is_secure(self) -> bool:
        """Never."""
        return False

    def standard_normal(self, count: int) -> FloatVector:
        """`count` draws from N(0, 1)."""
        return self._next().standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        """`count` draws from the discrete Gaussian."""
        stream = self._next()

        def words(count: int) -> npt.NDArray[np.uint64]:
            return stream.integers(2**64, size=count, dtype=np.uint64)

        return discrete_gaussian(count, noise_std=noise_std, words=words)

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        """The coins that were given, or such as land true with `probability`."""
        stream = self._next()
        if self._coins is not None:
            return np.resize(self._coins, count)
        return np.asarray(stream.random(count) < probability)

    def _next(self) -> np.random.Generator:
        self._draws += 1
        return np.random.default_rng([self._seed, self._draws])


class CoinsOnly:
    """The product's own coins, and no noise: shows who was sampled."""

    def __init__(self) -> None:
        self._secret = SecureNoise()

    @property
    def is_secure(self) -> bool:
        """Never: nothing hides what is summed."""
        return False

    def standard_normal(self, count: int) -> FloatVector:
        """`count` zeros."""
        return np.zeros(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        """`count` zeros."""
        del noise_std
        return np.zeros(count, dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        """Coins as in the product."""
        return self._secret.bernoulli(count, probability=probability)
