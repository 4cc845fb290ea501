"""Discrete Gaussian noise for counts, drawn exactly (Canonne, Kamath & Steinke 2020, alg. 3).

A number x is drawn with probability proportional to exp(-x^2 / (2 sigma^2)), which is what the
ledger charges for. No step rounds: proposals are integers made of uniform integers and coins; and a
coin of probability exp(-r) for a rational r is a comparison of exp(-r) with a uniform number, bit
by bit. In nearly all cases 64 bits and double precision decide it beyond doubt; one coin in 2^39 is
too close to call, and is decided by as many further bits and digits as it takes.

How many proposals are made depends on what is drawn, and so does the time. Fine-grained timing is
not defended against here.
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
WordSource = Callable[[int], Words]
"""So many independent uniform 64-bit words."""

SMALLEST_STD, LARGEST_STD = 1e-3, 1e5

# Double precision knows exp(-r), and a word, to 2^-50. It decides no coin that is closer than this.
_DOUBT = 2.0**-40
_WORD_BITS = 64
_FEWEST_PROPOSALS = 16


def discrete_gaussian(count: int, *, noise_std: float, words: WordSource) -> Integers:
    """Independent draws from the discrete Gaussian distribution around 0.

    Args:
        count: how many.
        noise_std: its sigma, in [0.001, 1e5]; the standard deviation is no larger.
        words: the randomness.

    Raises:
        ValueError: the sigma is none.
    """
    if not SMALLEST_STD <= noise_std <= LARGEST_STD:
        raise ValueError(f"noise_std is {noise_std}; expected {SMALLEST_STD} to {LARGEST_STD:g}")
    # A double is a rational number, and is taken for what it is.
    variance = Fraction(noise_std) ** 2
    scale = int(noise_std) + 1
    found = np.zeros(0, dtype=np.int64)
    while len(found) < count:
        proposals = _discrete_laplace(
            max(2 * (count - len(found)), _FEWEST_PROPOSALS), scale=scale, words=words
        )
        is_kept = _keeps(np.abs(proposals), variance=variance, scale=scale, words=words)
        found = np.concatenate([found, proposals[is_kept]])
    return found[:count]


def _keeps(sizes: Integers, *, variance: Fraction, scale: int, words: WordSource) -> Bools:
    """Coins of probability exp(-(size - variance/scale)^2 / (2 variance))."""
    middle = variance / scale

    def exponent(size: int) -> Fraction:
        return (size - middle) ** 2 / (2 * variance)

    return exponential_coins(sizes, exponent, words=words)


def _discrete_laplace(count: int, *, scale: int, words: WordSource) -> Integers:
    """About half as many draws with probability proportional to exp(-|x| / scale) (alg. 2)."""
    remainders = _uniform(count, below=scale, words=words)
    kept = remainders[
        exponential_coins(remainders, lambda value: Fraction(value, scale), words=words)
    ]
    sizes: Integers = kept + scale * _geometric(len(kept), words=words)
    is_negative = (words(len(sizes)) & np.uint64(1)).astype(np.bool_)
    # Else zero would be drawn twice as often.
    is_proper: Bools = ~(is_negative & (sizes == 0))
    signed: Integers = np.where(is_negative, -sizes, sizes)
    return signed[is_proper]


def _geometric(count: int, *, words: WordSource) -> Integers:
    """How often coins of probability exp(-1) land true before they do not."""
    lengths = np.zeros(count, dtype=np.int64)
    running = np.arange(count)
    while len(running):
        ones = np.ones(len(running), dtype=np.int64)
        running = running[exponential_coins(ones, Fraction, words=words)]
        lengths[running] += 1
    return lengths


def _uniform(count: int, *, below: int, words: WordSource) -> Integers:
    """Uniform integers from 0 to `below` - 1: as many bits as needed, and again if too large."""
    mask = np.uint64((1 << (below - 1).bit_length()) - 1)
    found = np.zeros(0, dtype=np.int64)
    while len(found) < count:
        drawn = (words(2 * count) & mask).astype(np.int64)
        found = np.concatenate([found, drawn[drawn < below]])
    return found[:count]


def exponential_coins(
    values: Integers, exponent: Callable[[int], Fraction], *, words: WordSource
) -> Bools:
    """A coin of probability exp(-exponent(value)) for each value, exponents >= 0.

    The exponent of a value is the same each time, so it is worked out once.
    """
    distinct, where = np.unique(values, return_inverse=True)
    exponents = [exponent(int(value)) for value in distinct]
    probabilities = np.exp(-np.array([float(each) for each in exponents]))[where]
    drawn = words(len(values))
    distances = probabilities - drawn * 2.0**-_WORD_BITS
    coins: Bools = distances > 0
    for index in np.flatnonzero(np.abs(distances) < _DOUBT):
        coins[index] = decide(exponents[where[index]], int(drawn[index]), words=words)
    return coins


def decide(exponent: Fraction, word: int, *, words: WordSource) -> bool:
    """Whether a uniform number in [0, 1) is below exp(-exponent).

    The number begins with the bits of `word`, and is drawn as far as it takes to tell.
    """
    if exponent == 0:
        return True
    bits, drawn = _WORD_BITS, word
    while True:
        # Correct to 20 digits beyond the last bit, so two units of that bit are ample.
        with localcontext(prec=bits // 3 + 20):
            power = (Decimal(-exponent.numerator) / Decimal(exponent.denominator)).exp()
            distance = power * Decimal(2) ** bits - drawn
        if abs(distance) > 2:  # noqa: PLR2004
            return distance > 0
        bits, drawn = bits + _WORD_BITS, (drawn << _WORD_BITS) | int(words(1)[0])
