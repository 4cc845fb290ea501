"""A6: attacks on noise find nothing in the product, and find what is wrong with usual noise."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from seeded_noise import SeededNoise
from statistical import FALSE_FAILURE

from sordino_audit.primitives import generator, histograms
from sordino_audit.primitives.float_attack import float_adder, grid_adder, proving_share
from sordino_audit.primitives.mechanisms import Mechanism, mechanisms
from sordino_client.training.noise import FloatVector, Noise, SecureNoise, Words
from sordino_protocols.accounting import epsilon_by_pld

MECHANISMS = {each.name: each for each in mechanisms()}
DELTA = 1e-5
OUTPUTS = 50_000


# --- floats


@pytest.mark.parametrize("noise_std", [1.0, 1.7, 2.0, 5.0])
def test_no_output_on_the_grid_proves_a_sum(noise_std: float) -> None:
    adder = grid_adder(noise_std=noise_std, step=2.0**-16)
    for total, other in ((0.0, 1.0), (1.0, 0.0), (0.3, -0.7)):
        assert proving_share(adder, SecureNoise(), count=OUTPUTS, total=total, other=other) == 0


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_many_outputs_of_floating_point_noise_prove_a_sum(name: str) -> None:
    adder = float_adder("float32" if name == "float32" else "float64", noise_std=1.0)
    share = proving_share(adder, SecureNoise(), count=OUTPUTS, total=0.0, other=1.0)
    # What the gaps between floats give: see the next test.
    assert share == pytest.approx(0.432, abs=0.02)


def test_the_share_is_what_gaps_between_floats_say() -> None:
    # An output y whose last bits are finer than those of y - 1 cannot be 1 plus noise: half of the
    # outputs are, an octave below, three quarters two octaves below, and so on.
    normal = np.random.default_rng(0).standard_normal(200_000)
    spacing = np.spacing(np.abs(normal - 1))
    share = float(np.mean(1 - np.minimum(1, np.spacing(np.abs(normal)) / spacing)))
    adder = float_adder("float64", noise_std=1.0)
    found = proving_share(adder, SecureNoise(), count=200_000, total=0.0, other=1.0)
    assert found == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_no_output_proves_that_the_true_sum_was_not_the_sum(name: str) -> None:
    adder = float_adder("float32" if name == "float32" else "float64", noise_std=1.7)
    assert proving_share(adder, SecureNoise(), count=OUTPUTS, total=0.3, other=0.3) == 0


# --- distributions


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_noise_has_its_distribution(name: str) -> None:
    mechanism = MECHANISMS[name]
    count = 3000 if name.startswith("statistics") else OUTPUTS
    outputs = mechanism.draw(count, False, SecureNoise())  # noqa: FBT003
    assert histograms.shape_p_value(outputs, mechanism) > FALSE_FAILURE


class Quieter(SecureNoise):
    """Three quarters of the noise."""

    def standard_normal(self, count: int) -> FloatVector:
        return 0.75 * super().standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        return super().discrete_gaussian(count, noise_std=0.75 * noise_std)


class Rounded(SecureNoise):
    """Continuous noise, rounded: no discrete Gaussian."""

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        return np.rint(noise_std * self.standard_normal(count)).astype(np.int64)


class Uniform(SecureNoise):
    """Noise of the right scale and another shape."""

    def standard_normal(self, count: int) -> FloatVector:
        return np.random.default_rng().uniform(-np.sqrt(3), np.sqrt(3), count)


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_too_little_noise_is_found(name: str) -> None:
    mechanism = MECHANISMS[name]
    count = 3000 if name.startswith("statistics") else OUTPUTS
    outputs = mechanism.draw(count, False, Quieter())  # noqa: FBT003
    assert histograms.shape_p_value(outputs, mechanism) < FALSE_FAILURE


@pytest.mark.parametrize(
    ("name", "noise"),
    [("evaluation", Rounded()), ("update", Uniform()), ("statistics, quantiles", Uniform())],
)
def test_noise_of_another_shape_is_found(name: str, noise: Noise) -> None:
    mechanism = MECHANISMS[name]
    # Rounding changes each probability by some percent of it.
    count = 3000 if name.startswith("statistics") else 200_000
    outputs = mechanism.draw(count, False, noise)  # noqa: FBT003
    assert histograms.shape_p_value(outputs, mechanism) < FALSE_FAILURE


# --- ratios


def bound(mechanism: Mechanism, noise: Noise, *, confidence: float = 1 - FALSE_FAILURE) -> float:
    draws = 3000 if mechanism.name.startswith("statistics") else 20_000
    return histograms.ratio_bound(mechanism, noise, draws=draws, delta=DELTA, confidence=confidence)


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_neighbours_keep_the_claimed_ratio(name: str) -> None:
    mechanism = MECHANISMS[name]
    assert 0 < bound(mechanism, SecureNoise()) <= epsilon_by_pld(mechanism.event, DELTA)


class Faint(SecureNoise):
    """A sixth of the noise."""

    def standard_normal(self, count: int) -> FloatVector:
        return super().standard_normal(count) / 6

    def discrete_gaussian(self, count: int, *, noise_std: float) -> Words:
        return super().discrete_gaussian(count, noise_std=noise_std / 6)


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_neighbours_that_are_told_apart_are_found(name: str) -> None:
    mechanism = MECHANISMS[name]
    assert bound(mechanism, Faint(), confidence=0.999) > epsilon_by_pld(mechanism.event, DELTA)


def test_a_unit_moves_a_mechanism_by_its_sensitivity() -> None:
    for mechanism in MECHANISMS.values():
        without, with_unit = (mechanism.draw(3, has, SeededNoise(0)) for has in (False, True))
        moved = with_unit - without
        # The grid of moments is finer than the noise by far; an update is clipped just below.
        assert moved == pytest.approx(np.ones(3), abs=1e-3)


# --- the generator


class SharedByThreads(SecureNoise):
    """Every draw is the same one: what a buffer that threads share comes to."""

    def __init__(self) -> None:
        self._buffer = SecureNoise().standard_normal(5000)

    def standard_normal(self, count: int) -> FloatVector:
        return self._buffer[:count]


class Stuck(SecureNoise):
    """One bit of each number is always set."""

    def standard_normal(self, count: int) -> FloatVector:
        drawn = super().standard_normal(count)
        return np.abs(drawn) * np.where(np.arange(count) % 2, 1.0, -1.0)


def test_no_two_numbers_of_the_product_are_equal_anywhere() -> None:
    draws = generator.draws_everywhere(SecureNoise(), count=4000)
    assert len(draws) == 12
    assert all(len(each) == 4000 for each in draws)
    assert generator.shared_numbers(draws) == 0


@pytest.mark.parametrize("make", [lambda: SeededNoise(3), SharedByThreads])
def test_a_source_that_repeats_itself_is_found(make: Callable[[], Noise]) -> None:
    assert generator.shared_numbers(generator.draws_everywhere(make(), count=500)) > 0


def test_the_bits_of_the_product_are_fair_and_independent() -> None:
    assert generator.bit_p_value(SecureNoise(), count=20_000) > FALSE_FAILURE


def test_a_bit_that_follows_another_is_found() -> None:
    assert generator.bit_p_value(Stuck(), count=20_000) < FALSE_FAILURE


def test_two_sources_of_the_product_share_no_keystream() -> None:
    assert generator.reuse_p_value(count=20_000) > FALSE_FAILURE
    assert generator.reuse_p_value(lambda: SeededNoise(1), count=20_000) < FALSE_FAILURE


class Broken(SecureNoise):
    """Fails in a child, as a generator does that needs what a fork does not copy."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def standard_normal(self, count: int) -> FloatVector:
        return super().standard_normal(count if os.getpid() == self._process else 0)


def test_a_child_that_draws_nothing_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="forked child"):
        generator.draws_everywhere(Broken(), count=100)
