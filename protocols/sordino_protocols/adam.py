"""Adam on noisy gradients, the same code at a site and at the server.

The noise of a private gradient is in Adam's second moment too, and there it is no noise but a bias:
a known constant added to every square, under which the square roots forget the gradients (Tang,
Shpilevskiy & Lécuyer 2024, section 3). It is public, so it is taken off. What must stay true: this
works on noisy gradients and public constants alone, so it costs no privacy.
"""

import math
from dataclasses import dataclass

import numpy as np

from sordino_protocols.models import FloatVector


@dataclass(frozen=True, slots=True)
class AdamState:
    """What Adam remembers.

    Attributes:
        first: running mean of the gradients, biased towards its start at zero.
        second: running mean of their squares less the noise's variance, biased the same way; an
            entry may be negative.
        steps: steps taken.
    """

    first: FloatVector
    second: FloatVector
    steps: int


def adam_start(dimension: int) -> AdamState:
    """The state before the first step."""
    return AdamState(np.zeros(dimension), np.zeros(dimension), 0)


def adam_step(
    state: AdamState,
    gradient: FloatVector,
    *,
    noise_variance: float,
    beta1: float,
    beta2: float,
    stability: float,
) -> tuple[FloatVector, AdamState]:
    """One step of Adam with correction for the noise's bias (Tang et al. 2024, algorithm 1).

    The variance is taken off each square before averaging, which for a constant variance is the
    paper's `v / (1 - beta2^t) - variance`, and stays exact when the variance changes between steps.

    Args:
        state: before the step.
        gradient: noisy, as long as the state's vectors.
        noise_variance: of one coordinate's noise in `gradient`; 0 gives Adam as it is.
        beta1: memory of the first moment, in [0, 1).
        beta2: memory of the second moment, in [0, 1).
        stability: the smallest root of a second moment that is divided by, > 0.

    Returns:
        The direction, to be multiplied with a learning rate and subtracted from the weights; and
        the state after the step.

    Raises:
        ValueError: the gradient has another length, or the variance is negative or not finite.
    """
    if gradient.shape != state.first.shape:
        raise ValueError(f"gradient has shape {gradient.shape}; the state {state.first.shape}")
    if not (math.isfinite(noise_variance) and noise_variance >= 0):
        raise ValueError(f"noise_variance is {noise_variance}; expected >= 0")
    steps = state.steps + 1
    first = beta1 * state.first + (1 - beta1) * gradient
    second = beta2 * state.second + (1 - beta2) * (np.square(gradient) - noise_variance)
    signal = np.maximum(second / (1 - beta2**steps), stability**2)
    direction = first / (1 - beta1**steps) / np.sqrt(signal)
    return direction, AdamState(first, second, steps)
