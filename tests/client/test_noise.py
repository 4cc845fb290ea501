import os

import numpy as np
import pytest
from scipy import stats
from seeded_noise import NoNoise
from statistical import assert_rate, assert_scale

from sordino_client.training.noise import Noise, SecureNoise, gaussian, noisy_on_grid

SAMPLES = 200_000


def test_scale_is_one() -> None:
    assert_scale(SecureNoise().standard_normal(SAMPLES), 1.0)


def test_a_scale_that_is_five_percent_off_is_caught() -> None:
    with pytest.raises(AssertionError, match="standard deviation"):
        assert_scale(SecureNoise().standard_normal(SAMPLES) * 0.95, 1.0)


def test_shape_is_gaussian_in_both_halves_of_the_pairs() -> None:
    drawn = SecureNoise().standard_normal(SAMPLES)
    for half in (drawn[: SAMPLES // 2], drawn[SAMPLES // 2 :], drawn):
        assert stats.kstest(half, "norm").pvalue > 1e-9
    # Tail: |z| > 3 with probability .0027.
    assert_rate(int((np.abs(drawn) > 3).sum()), SAMPLES, 2 * stats.norm.sf(3))


def test_the_two_numbers_of_a_pair_are_uncorrelated() -> None:
    first, second = np.split(SecureNoise().standard_normal(SAMPLES), 2)
    for left, right in ((first, second), (first**2, second**2), (first[1:], first[:-1])):
        assert stats.pearsonr(left, right).pvalue > 1e-9


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_gives_as_many_as_asked(count: int) -> None:
    drawn = SecureNoise().standard_normal(count)
    assert drawn.shape == (count,)
    assert drawn.dtype == np.float64
    assert SecureNoise().bernoulli(count, probability=0.5).shape == (count,)


def test_extreme_words_give_finite_numbers() -> None:
    edges = np.array([0, 1, -1, -(2**63), 2**63 - 1], dtype=np.int64)
    words = np.concatenate([np.repeat(edges, 5), np.tile(edges, 5)])
    drawn = np.empty(50)
    gaussian(words, out=drawn)
    assert np.isfinite(drawn).all()
    assert np.abs(drawn).max() < 9.5


def test_no_two_draws_share_noise() -> None:
    noise = SecureNoise()
    draws = np.concatenate([noise.standard_normal(1000), SecureNoise().standard_normal(1000)])
    draws = np.concatenate([draws, noise.standard_normal(1000)])
    assert len(np.unique(draws)) == 3000


def test_ignores_every_seed() -> None:
    draws = []
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        draws.append(SecureNoise().standard_normal(100))
    assert not np.isin(draws[0], draws[1]).any()


def test_a_forked_process_draws_other_noise() -> None:
    noise = SecureNoise()
    noise.standard_normal(10)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, noise.standard_normal(100).tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    received = np.frombuffer(os.read(reading, 800))
    os.close(reading)
    os.close(writing)
    assert received.shape == (100,)
    assert not np.isin(received, noise.standard_normal(100)).any()


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.999])
def test_coins_are_true_at_their_rate(probability: float) -> None:
    coins = SecureNoise().bernoulli(SAMPLES, probability=probability)
    assert_rate(int(coins.sum()), SAMPLES, probability)


def test_certain_coins_are_certain() -> None:
    assert SecureNoise().bernoulli(1000, probability=1.0).all()
    assert not SecureNoise().bernoulli(1000, probability=0.0).any()


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_refuses_a_probability_that_is_none(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        SecureNoise().bernoulli(3, probability=probability)


def test_the_products_source_is_secure_and_takes_no_seed() -> None:
    noise: Noise = SecureNoise()
    assert noise.is_secure
    with pytest.raises(TypeError):
        SecureNoise(0)  # type: ignore[call-arg]


@pytest.mark.parametrize("count", [0, 1, 2**14, 2**14 + 5])
def test_what_is_noisy_lies_on_the_grid(count: int) -> None:
    exact, step = np.linspace(-3, 3, count), 2.0**-18
    noisy = noisy_on_grid(exact, noise=SecureNoise(), noise_std=0.7, step=step)
    assert noisy.shape == (count,)
    assert np.array_equal(noisy / step, np.rint(noisy / step))
    unmoved = noisy_on_grid(exact, noise=NoNoise(), noise_std=0.7, step=step)
    assert np.array_equal(unmoved, np.rint(exact / step) * step)


def test_noise_on_the_grid_has_its_scale() -> None:
    exact = np.full(SAMPLES, 5.0)
    noisy = noisy_on_grid(exact, noise=SecureNoise(), noise_std=0.7, step=2.0**-18)
    assert_scale(noisy - exact, 0.7)
    with pytest.raises(AssertionError, match="standard deviation"):
        assert_scale(noisy - exact, 0.7 * 1.05)
    assert np.array_equal(exact, np.full(SAMPLES, 5.0))
