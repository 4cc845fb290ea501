"""The randomness of a release: Gaussian noise and secret samples from the operating system's keys.

Everything random that privacy rests on comes through `Noise`. The one source in the product,
`SecureNoise`, ignores every seed anywhere and keeps no state: each draw is an AES-256-CTR
keystream under a key that the operating system made for that draw. So there is nothing to repeat
after a fork, in another thread, at another site or in the next round. It costs about as much as an
insecure generator. A 53-bit Box-Muller is not an exact Gaussian: its tail ends at 9.4 standard
deviations, which no test of a feasible size can see.
"""

import math
import os
from typing import Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

_KEY_BYTES = 32
_WORD_BYTES = 8
_WORD_SPAN = 2**64
# A key is used once, so the counter may start anywhere.
_COUNTER_START = bytes(16)


class Noise(Protocol):
    """A source of the randomness that a release rests on."""

    @property
    def is_secure(self) -> bool:
        """Whether nobody can predict or repeat what is drawn.

        A release made with an insecure source is not private, and must not leave a site.
        """

    def standard_normal(self, count: int) -> FloatVector:
        """`count` independent draws from N(0, 1)."""

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        """`count` independent coins that are true with `probability`, in [0, 1]."""


class SecureNoise:
    """Randomness that nobody can predict or repeat; the only source in the product."""

    @property
    def is_secure(self) -> bool:
        """Always true."""
        return True

    def standard_normal(self, count: int) -> FloatVector:
        """`count` independent draws from N(0, 1), float64 throughout."""
        pairs = (count + 1) // 2
        words = _secret_words(2 * pairs)
        return gaussian(words[:pairs], words[pairs:])[:count]

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        """`count` independent coins, true with `probability` rounded down by less than 2^-64.

        Raises:
            ValueError: the probability is not in [0, 1].
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; expected a number in [0, 1]")
        if probability == 1:
            return np.ones(count, dtype=np.bool_)
        return _secret_words(count) < np.uint64(int(probability * _WORD_SPAN))


def gaussian(radii: Words, angles: Words) -> FloatVector:
    """Two standard normal numbers from each pair of uniform 64-bit words (Box & Muller 1958)."""
    # Half a step above zero: the logarithm is finite, and the tail reaches 9.4.
    radius_uniform = (radii.astype(np.float64) + 0.5) / _WORD_SPAN
    radius = np.sqrt(-2 * np.log(np.minimum(radius_uniform, 1.0)))
    angle = angles.astype(np.float64) * (2 * math.pi / _WORD_SPAN)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


def _secret_words(count: int) -> Words:
    """`count` uniform 64-bit words under a key of their own."""
    encryptor = Cipher(AES256(os.urandom(_KEY_BYTES)), CTR(_COUNTER_START)).encryptor()
    keystream = encryptor.update(bytes(count * _WORD_BYTES))
    return np.frombuffer(keystream, dtype=np.uint64)
