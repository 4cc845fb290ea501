"""How a generator that is a network learns alone, at its site: DP-SGD, Adam, averaged weights."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sordino_client.training.network import Network
from sordino_client.training.noise import Noise
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.adam import adam_start, adam_step
from sordino_protocols.plan import LossName, TrainingPlan
from sordino_protocols.synthesis.specs import NadeSpec, VaeSpec

Numbers = npt.NDArray[np.float64]

_BETA1, _BETA2 = 0.9, 0.99
# The weights of the second half of the steps are averaged: that cancels noise for free.
_AVERAGED_FROM = 0.5


class Steps(Protocol):
    """What is paid for: DP-SGD as one site runs it."""

    @property
    def sampling_rate(self) -> float:
        """Probability with which each unit enters a step's batch."""

    @property
    def noise_multiplier(self) -> float:
        """Noise standard deviation over the clipping norm."""

    @property
    def steps(self) -> int:
        """How many steps there are."""


def training_plan(paid: Steps, spec: NadeSpec | VaeSpec, *, loss: LossName) -> TrainingPlan:
    """The engine's plan of what is paid for. Rows are units already: one of each."""
    return TrainingPlan(
        sampling_rate=paid.sampling_rate,
        noise_multiplier=paid.noise_multiplier,
        clipping_norm=spec.clipping_norm,
        rounds=paid.steps,
        local_steps=1,
        local_learning_rate=spec.learning_rate,
        lanes=0,
        loss=loss,
    )


def averaged_weights(
    rows: Callable[[], Units],
    weights: Numbers,
    network: Network,
    plan: TrainingPlan,
    *,
    batch: float,
    stability: float,
    noise: Noise,
) -> Numbers:
    """The mean of the last weights on the way: costs `plan.event`.

    Args:
        rows: the units, asked for before every step; a secret.
        weights: to start from; not changed.
        network: whose weights they are.
        plan: of the steps, one a round.
        batch: what sums are divided by; public or noisy, since a sample's size is neither.
        stability: the smallest root that Adam divides by.
        noise: source of the randomness that privacy rests on.
    """
    state, averaged = adam_start(len(weights)), np.zeros_like(weights)
    first = int(_AVERAGED_FROM * plan.rounds)
    for step in range(plan.rounds):
        released = train_round(
            rows(), weights, network, plan, expected_batch_size=batch, noise=noise
        )
        direction, state = adam_step(
            state,
            released.vector / batch,
            noise_variance=(plan.noise_std / batch) ** 2,
            beta1=_BETA1,
            beta2=_BETA2,
            stability=stability,
        )
        weights = weights - plan.local_learning_rate * direction
        if step >= first:
            averaged += weights / (plan.rounds - first)
    return averaged
