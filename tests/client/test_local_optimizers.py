import numpy as np
import pytest
from numpy.typing import NDArray

from sordino_client.training.local_optimizers import LocalDescent
from sordino_protocols.local_training import LOCAL_SGD, LocalAdam, LocalOptimizer, LocalSgd

FloatArray = NDArray[np.float64]
GRADIENTS = np.random.default_rng(0).standard_normal((4, 3))
ADAM = LocalAdam(kind="adam")


def moves(optimizer: LocalOptimizer, noise_std: float = 0.0) -> FloatArray:
    descent = LocalDescent(optimizer, learning_rate=0.5, noise_std=noise_std)
    return np.stack([descent.step(gradient) for gradient in GRADIENTS])


def test_plain_descent_remembers_nothing() -> None:
    assert np.array_equal(moves(LOCAL_SGD), -0.5 * GRADIENTS)


def test_momentum_adds_what_came_before() -> None:
    found = moves(LocalSgd(momentum=0.5))
    velocity = np.zeros(3)
    for gradient, move in zip(GRADIENTS, found, strict=True):
        velocity = 0.5 * velocity + gradient
        assert np.array_equal(move, -0.5 * velocity)


def test_adam_is_the_textbooks_where_there_is_no_noise() -> None:
    first, second = np.zeros(3), np.zeros(3)
    for step, (gradient, move) in enumerate(zip(GRADIENTS, moves(ADAM), strict=True), start=1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        expected = first / (1 - 0.9**step) / np.sqrt(second / (1 - 0.999**step))
        assert np.allclose(move, -0.5 * expected, rtol=1e-12)


def test_adam_takes_the_noises_variance_off() -> None:
    # One step: the square of a gradient less the variance, under its root.
    gradient = np.array([2.0, -3.0, 0.5])
    descent = LocalDescent(ADAM, learning_rate=1.0, noise_std=1.0)
    expected = -gradient / np.sqrt(np.maximum(gradient**2 - 1, ADAM.stability**2))
    assert np.allclose(descent.step(gradient), expected, rtol=1e-9)


@pytest.mark.parametrize("optimizer", [LocalSgd(momentum=0.9), ADAM])
def test_a_round_forgets_the_one_before(optimizer: LocalOptimizer) -> None:
    assert np.array_equal(moves(optimizer, 0.1), moves(optimizer, 0.1))
