"""Adam with the noise's bias taken off, against the plain formulas and against its own purpose."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_protocols.adam import AdamState, adam_start, adam_step
from sordino_protocols.models import FloatVector


def walk(
    gradients: FloatVector,
    *,
    noise_variance: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    stability: float = 1e-8,
) -> tuple[list[FloatVector], AdamState]:
    """The directions of Adam on gradients [steps, dimension]."""
    state, directions = adam_start(gradients.shape[1]), []
    for gradient in gradients:
        direction, state = adam_step(
            state,
            gradient,
            noise_variance=noise_variance,
            beta1=beta1,
            beta2=beta2,
            stability=stability,
        )
        directions.append(direction)
    return directions, state


def test_without_noise_it_is_adam() -> None:
    gradients = np.random.default_rng(0).normal(size=(20, 7))
    weights = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    reference = torch.optim.Adam([weights], lr=0.1, eps=0.0)
    for gradient in gradients:
        weights.grad = torch.from_numpy(gradient)
        reference.step()
    directions, state = walk(gradients, stability=1e-300)
    assert np.allclose(-0.1 * np.sum(directions, axis=0), weights.detach().numpy(), rtol=1e-12)
    assert state.steps == 20


def test_a_constant_variance_comes_off_the_corrected_second_moment() -> None:
    # Algorithm 1 of Tang et al. 2024, written out.
    gradients = np.random.default_rng(1).normal(size=(30, 5))
    beta1, beta2, stability, variance = 0.8, 0.95, 0.3, 0.7
    directions, _ = walk(
        gradients, noise_variance=variance, beta1=beta1, beta2=beta2, stability=stability
    )
    first = second = np.zeros(5)
    for step, (gradient, direction) in enumerate(zip(gradients, directions, strict=True), 1):
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient**2
        signal = np.maximum(second / (1 - beta2**step) - variance, stability**2)
        assert np.allclose(direction, first / (1 - beta1**step) / np.sqrt(signal))


@pytest.mark.parametrize("variance", [0.0, 4.0])
def test_the_correction_gives_back_the_steps_of_gradients_without_noise(variance: float) -> None:
    # Coordinates of very different sizes under noise that drowns the small ones. What Adam is for,
    # steps of like length, is lost without the correction and is there with it.
    rng = np.random.default_rng(2)
    clean = np.concatenate([np.full(200, 0.5), np.full(200, 3.0)])
    noisy = clean + rng.normal(0, 2.0, size=(4000, 400))
    directions, _ = walk(noisy, noise_variance=variance, stability=1e-3)
    small, large = (np.mean(directions[-1][part]) for part in (slice(200), slice(200, None)))
    # With the correction both are 1 but for what 4,000 steps do not average out.
    assert (small > 0.7 and large > 0.9) if variance else (small < 0.3 < large)


def test_a_variance_that_changes_comes_off_the_steps_it_was_in() -> None:
    # Loud noise first, then none: Adam without noise is what must come out, in the mean.
    rng = np.random.default_rng(3)
    state = adam_start(20_000)
    for std in (5.0,) * 10 + (0.0,) * 10:
        gradient = 1.0 + rng.normal(0, std, 20_000)
        _, state = adam_step(
            state, gradient, noise_variance=std**2, beta1=0.0, beta2=0.9, stability=1e-3
        )
    corrected = state.second / (1 - 0.9**20)
    # 20,000 coordinates with a standard deviation below 10 each: 6 standard errors.
    assert abs(corrected.mean() - 1.0) < 6 * 10 / np.sqrt(20_000)


def test_what_is_all_noise_is_divided_by_the_stability() -> None:
    directions, _ = walk(np.array([[0.1, -0.1]]), noise_variance=1.0, stability=0.5)
    assert directions[0].tolist() == [0.2, -0.2]


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(-100, 100),
    variance=st.floats(0, 1e6),
    stability=st.floats(1e-5, 1),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_a_direction_is_finite_and_bounded_by_gradient_over_stability(
    scale: float, variance: float, stability: float, betas: tuple[float, float]
) -> None:
    gradients = np.random.default_rng(4).normal(0, abs(scale), size=(5, 3))
    directions, _ = walk(
        gradients, noise_variance=variance, beta1=betas[0], beta2=betas[1], stability=stability
    )
    bound = np.abs(gradients).max() / stability
    assert np.isfinite(directions).all()
    assert np.abs(directions).max() <= bound * (1 + 1e-9)


def test_a_state_is_never_changed_in_place() -> None:
    state = adam_start(3)
    gradient = np.ones(3)
    adam_step(state, gradient, noise_variance=0.0, beta1=0.9, beta2=0.9, stability=1.0)
    assert not state.first.any()
    assert not state.second.any()
    assert gradient.tolist() == [1, 1, 1]


@pytest.mark.parametrize("variance", [-1.0, float("nan"), float("inf")])
def test_refuses_a_variance_that_is_none(variance: float) -> None:
    with pytest.raises(ValueError, match="noise_variance"):
        walk(np.ones((1, 2)), noise_variance=variance)


def test_refuses_a_gradient_of_another_length() -> None:
    with pytest.raises(ValueError, match="shape"):
        adam_step(adam_start(2), np.ones(3), noise_variance=0, beta1=0.9, beta2=0.9, stability=1.0)
