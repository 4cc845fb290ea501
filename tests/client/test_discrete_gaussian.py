from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_discrete_gaussian, assert_rate

from sordino_client.training.discrete_gaussian import decide, exponential_coins
from sordino_client.training.noise import SecureNoise

SAMPLES = 50_000


def drawn(noise_std: float) -> NDArray[np.int64]:
    return SecureNoise().discrete_gaussian(SAMPLES, noise_std=noise_std)


def rounded(noise_std: float) -> NDArray[np.int64]:
    """What rounding continuous noise gives: more zeros than it should, or fewer."""
    continuous = noise_std * SecureNoise().standard_normal(SAMPLES)
    return np.rint(continuous).astype(np.int64)


@pytest.mark.parametrize("noise_std", [0.3, 0.5, 1.0, 1.7, 2.0, 9.6, 120.0])
def test_draws_are_from_the_discrete_gaussian(noise_std: float) -> None:
    assert_discrete_gaussian(drawn(noise_std), noise_std)


@pytest.mark.parametrize("noise_std", [0.5, 0.7, 1.0])
def test_rounded_continuous_noise_is_caught(noise_std: float) -> None:
    with pytest.raises(AssertionError, match="discrete Gaussian"):
        assert_discrete_gaussian(rounded(noise_std), noise_std)


@pytest.mark.parametrize("noise_std", [1.0, 9.6, 120.0])
def test_a_wrong_scale_is_caught(noise_std: float) -> None:
    for wrong in (0.9, 1.1):
        with pytest.raises(AssertionError, match="discrete Gaussian"):
            assert_discrete_gaussian(drawn(wrong * noise_std), noise_std)
        with pytest.raises(AssertionError, match="discrete Gaussian"):
            assert_discrete_gaussian(rounded(wrong * noise_std), noise_std)


def test_zero_is_not_drawn_for_both_signs() -> None:
    # Without the rejection of minus zero, zero would have twice its probability.
    numbers = np.arange(-20, 21)
    weights = np.exp(-0.5 * (numbers / 2.0) ** 2)
    assert_rate(int((drawn(2.0) == 0).sum()), SAMPLES, float(weights[20] / weights.sum()))


def test_draws_are_independent_and_symmetric() -> None:
    found = drawn(4.0)
    assert_rate(int((found > 0).sum()), int((found != 0).sum()), 0.5)
    assert abs(float(np.corrcoef(found[1:], found[:-1])[0, 1])) < 0.03


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_gives_as_many_as_asked(count: int) -> None:
    found = SecureNoise().discrete_gaussian(count, noise_std=3.0)
    assert found.shape == (count,)
    assert found.dtype == np.int64


@pytest.mark.parametrize("noise_std", [0.0, 1e-4, -1.0, 2e5, float("nan"), float("inf")])
def test_refuses_a_scale_that_is_none(noise_std: float) -> None:
    with pytest.raises(ValueError, match="noise_std"):
        SecureNoise().discrete_gaussian(3, noise_std=noise_std)


def test_no_two_draws_share_noise() -> None:
    assert not np.array_equal(drawn(100.0), drawn(100.0))


def test_the_tests_sources_repeat_themselves_or_draw_nothing() -> None:
    first, second = (SeededNoise(3).discrete_gaussian(50, noise_std=5.0) for _ in range(2))
    assert np.array_equal(first, second)
    assert_discrete_gaussian(SeededNoise(4).discrete_gaussian(SAMPLES, noise_std=2.0), 2.0)
    assert not NoNoise().discrete_gaussian(50, noise_std=5.0).any()


# --- coins that are too close to call -------------------------------------------------------------


class Script:
    """Words that a test says."""

    def __init__(self, *words: int) -> None:
        self.left = list(words)

    def __call__(self, count: int) -> NDArray[np.uint64]:
        now, self.left = self.left[:count], self.left[count:]
        return np.array(now, dtype=np.uint64)


# exp(-1), its first 64 and its next 64 bits.
FIRST, SECOND = 0x5E2D58D8B3BCDF1A, 0xBADEC7829054F90D


def test_sixty_four_bits_decide_nearly_always() -> None:
    unused = Script()
    assert decide(Fraction(1), FIRST - 5, words=unused)
    assert not decide(Fraction(1), FIRST + 5, words=unused)


@pytest.mark.parametrize(("further", "is_below"), [(SECOND - 9, True), (SECOND + 9, False)])
def test_a_tie_is_decided_by_further_bits(further: int, is_below: bool) -> None:  # noqa: FBT001
    words = Script(further)
    assert decide(Fraction(1), FIRST, words=words) is is_below
    assert words.left == []


def test_a_tie_of_a_hundred_and_twenty_eight_bits_is_decided_as_well() -> None:
    assert decide(Fraction(1), FIRST, words=Script(SECOND, 0))
    assert not decide(Fraction(1), FIRST, words=Script(SECOND, 2**64 - 1))


def test_a_certain_coin_is_certain() -> None:
    assert decide(Fraction(0), 2**64 - 1, words=Script())


def test_coins_that_are_too_close_to_call_are_decided_by_further_bits() -> None:
    words = Script(FIRST, FIRST, 0, SECOND - 9, SECOND + 9)
    coins = exponential_coins(np.array([1, 1, 1]), Fraction, words=words)
    # The first two are tied at 64 bits, the third is not.
    assert coins.tolist() == [True, False, True]
    assert words.left == []
