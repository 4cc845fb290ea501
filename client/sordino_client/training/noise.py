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
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from sordino_client.training.discrete_gaussian import discrete_gaussian

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]
Words = npt.NDArray[np.int64]

_KEY_BYTES = 32
_WORD_BYTES = 8
# Words are signed 64-bit numbers.
_LEAST_WORD, _WORD_SPAN = -(2**63), 2**64
_WORD_STEP = 2.0**-63
# Numbers at a time, so that what is worked on stays in the processor's cache.
_BLOCK = 2**15


class Noise(Protocol):
    """A source of the randomness that a release rests on."""

    @property
    def is_secure(self) -> bool:
        """Whether nobody can predict or repeat what is drawn.

        A release made with an insecure source is not private, and must not leave a site.
        """

    def standard_normal(self, count: int) -> FloatVector:
        """`count` independent draws from N(0, 1)."""

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        """`count` independent draws from the discrete Gaussian with that sigma around 0."""

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
        drawn = np.empty(count)
        words = np.empty(min(count + count % 2, _BLOCK), dtype=np.int64)
        keystream = _Keystream(len(words))
        for start in range(0, count, _BLOCK):
            block = drawn[start : start + _BLOCK]
            used = words[: len(block) + len(block) % 2]
            keystream.fill(used)
            gaussian(used, out=block)
        return drawn

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        """`count` independent draws from the discrete Gaussian, exactly.

        Raises:
            ValueError: the sigma is not in [0.001, 1e5].
        """
        return discrete_gaussian(count, noise_std=noise_std, words=_uniform_words)

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        """`count` independent coins, true with `probability` rounded down by less than 2^-64.

        Raises:
            ValueError: the probability is not in [0, 1].
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; expected a number in [0, 1]")
        if probability == 1:
            return np.ones(count, dtype=np.bool_)
        words = _uniform_words(count).view(np.int64)
        return words < _LEAST_WORD + int(probability * _WORD_SPAN)


def _uniform_words(count: int) -> npt.NDArray[np.uint64]:
    """So many uniform words under a key of their own."""
    words = np.empty(count, dtype=np.int64)
    keystream = _Keystream(min(count, _BLOCK))
    for start in range(0, count, _BLOCK):
        keystream.fill(words[start : start + _BLOCK])
    return words.view(np.uint64)


def gaussian(words: Words, *, out: FloatVector) -> None:
    """Standard normal numbers from uniform 64-bit words (Box & Muller 1958), in double precision.

    A word, read as a signed number, is a multiple of 2^-63 in [-1, 1). Its square is u^2 for a
    uniform u, so -log u^2 is the squared radius of a pair; half a step keeps the logarithm finite.

    Args:
        words: as many as there are numbers, made up to an even number; the first half gives the
            pairs' radii, the second their angles.
        out: [count]; the first of each pair, then the second of each.
    """
    pairs = len(words) // 2
    first, second = out[:pairs], out[pairs:]
    # Numpy's calls cost less, torch's logarithms and cosines do: each does what it is better at.
    radius = words[:pairs] * _WORD_STEP
    radius *= radius
    radius += (_WORD_STEP / 2) ** 2
    torch.from_numpy(radius).log_().neg_().sqrt_()
    angle = words[pairs:] * (math.pi * _WORD_STEP)
    turned = torch.from_numpy(angle)
    torch.cos(turned, out=torch.from_numpy(first))
    first *= radius
    turned.sin_()
    np.multiply(angle[: len(second)], radius[: len(second)], out=second)


def noisy_on_grid(
    exact: FloatVector, *, noise: Noise, noise_std: float, step: float
) -> FloatVector:
    """`exact` on a grid, with Gaussian noise, on the grid again; why, `steps` says.

    Args:
        exact: what must not leave; it is not changed.
        noise: source of the randomness.
        noise_std: standard deviation of what is added to each coordinate.
        step: of the grid, a power of two, so that rounding to it is exact.
    """
    noisy = noise.standard_normal(len(exact))
    cells = np.empty(min(len(exact), _BLOCK))
    # In cells of the grid, and piece by piece: what is worked on stays in the processor's cache.
    for start in range(0, len(exact), _BLOCK):
        drawn = noisy[start : start + _BLOCK]
        rounded = cells[: len(drawn)]
        np.multiply(exact[start : start + _BLOCK], 1 / step, out=rounded)
        np.rint(rounded, out=rounded)
        drawn *= noise_std / step
        drawn += rounded
        np.rint(drawn, out=drawn)
        drawn *= step
    return noisy


class _Keystream:
    """Uniform words under one key, for one draw of up to `count` of them at a time."""

    def __init__(self, count: int) -> None:
        # What GCM encrypts zeros to is an AES-CTR keystream, and libraries have their fastest code
        # there. The key is used for this draw alone, so the nonce may be anything.
        self._encryptor = Cipher(AES256(os.urandom(_KEY_BYTES)), GCM(bytes(12))).encryptor()
        self._zeros = bytes(_WORD_BYTES * count)

    def fill(self, words: Words) -> None:
        raw = words.data.cast("B")
        self._encryptor.update_into(memoryview(self._zeros)[: len(raw)], raw)
