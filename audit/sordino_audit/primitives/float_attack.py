"""The float attack: outputs that prove which sum was hidden (Mironov 2012; Jin et al. 2022).

Not every number can come out of sum + noise in floating point, and which ones can depends on the
sum. An output that no noise could have made of another sum proves that the sum was not that one,
whatever epsilon was claimed. The attack knows the output and tries every noise near the one that
would explain it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sordino_client.training.noise import BoolVector, FloatVector, Noise, Words, noisy_on_grid

Format = Literal["float32", "float64"]
"""Of noise. Numbers in single precision are held in double, which holds them exactly."""

# Numbers on each side of the likeliest noise that are tried.
_REACH = 4


@dataclass(frozen=True, slots=True)
class Adder:
    """How a mechanism adds noise to a sum.

    Attributes:
        add: from a sum and standard normal noise, [count], to the outputs.
        noise_std: what noise is multiplied with.
        format: in which noise comes.
    """

    add: Callable[[float, FloatVector], FloatVector]
    noise_std: float
    format: Format


def grid_adder(*, noise_std: float, step: float) -> Adder:
    """The product's: noise on a grid, by `noisy_on_grid`."""

    def add(total: float, noise: FloatVector) -> FloatVector:
        exact = np.full(len(noise), total)
        return noisy_on_grid(exact, noise=_Given(noise), noise_std=noise_std, step=step)

    return Adder(add, noise_std, "float64")


def float_adder(name: Format, *, noise_std: float) -> Adder:
    """The usual one: noise in floating point, added in floating point."""

    def add(total: float, noise: FloatVector) -> FloatVector:
        # Products and sums of single-precision numbers, rounded from double, are rounded once.
        return _rounded(total + _rounded(noise_std * noise, name), name)

    return Adder(add, noise_std, name)


def proving_share(adder: Adder, noise: Noise, *, count: int, total: float, other: float) -> float:
    """The share of outputs on one sum that prove that it was not the other.

    Less than the attack can do: where a number of the format could explain the output it counts as
    no proof, even if the generator never draws that number.

    Args:
        adder: the mechanism.
        noise: draws what is added.
        count: how many outputs are tried.
        total: the sum that is hidden.
        other: the neighbouring sum.
    """
    outputs = adder.add(total, _rounded(noise.standard_normal(count), adder.format))
    return float(np.mean(~_explained(adder, outputs, other)))


def _explained(adder: Adder, outputs: FloatVector, total: float) -> NDArray[np.bool_]:
    """Which outputs some noise near the likeliest one makes of `total`."""
    middle = _rounded((outputs - total) / adder.noise_std, adder.format)
    explained = np.zeros(len(outputs), dtype=np.bool_)
    for direction in (-np.inf, np.inf):
        tried = middle
        for _ in range(_REACH + 1):
            explained |= adder.add(total, tried) == outputs
            tried = _neighbour(tried, direction, adder.format)
    return explained


def _rounded(numbers: FloatVector, name: Format) -> FloatVector:
    if name == "float64":
        return numbers
    return numbers.astype(np.float32).astype(np.float64)


def _neighbour(numbers: FloatVector, direction: float, name: Format) -> FloatVector:
    """The next numbers of the format in a direction."""
    if name == "float64":
        return np.asarray(np.nextafter(numbers, direction))
    return np.nextafter(numbers.astype(np.float32), np.float32(direction)).astype(np.float64)


class _Given:
    """Noise that the attack chose."""

    def __init__(self, noise: FloatVector) -> None:
        self._noise = noise

    @property
    def is_secure(self) -> bool:
        return False

    def standard_normal(self, count: int) -> FloatVector:
        return self._noise[:count].copy()

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        return np.rint(self._noise[:count] * noise_std).astype(np.int64)

    def bernoulli(self, count: int, *, probability: float) -> BoolVector:
        return self._noise[:count] < probability
