"""Every mechanism of a site as one number and its neighbour: the worst case of its guarantee.

Each is the function that the product calls, on a sum of nothing and on one that a single unit with
the largest contribution changed. What it gives is projected onto the direction of that change, so
that one number carries the whole privacy loss.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_client.evaluation import noisy_table
from sordino_client.statistics import exact_statistics, noisy_statistics
from sordino_client.training.noise import Noise, noisy_on_grid
from sordino_client.training.steps import contribution_bound, grid_step
from sordino_protocols.feature_statistics import noise_std
from sordino_protocols.plan import EvaluationPlan, StatisticsPlan, TrainingPlan
from sordino_protocols.privacy import Event, Gaussian

Floats = NDArray[np.float64]

_NOISE = 1.3


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One way in which something leaves a site.

    Attributes:
        name: for people.
        event: what one draw costs.
        draw: (count, whether the unit is there, noise) to so many independent outputs, each in
            units of the sensitivity.
        noise_multiplier: standard deviation of an output.
        grain: distance between two possible outputs; 0 for none to speak of.
    """

    name: str
    event: Event
    draw: Callable[[int, bool, Noise], Floats]
    noise_multiplier: float
    grain: float


def mechanisms() -> tuple[Mechanism, ...]:
    """All of the product's: updates, evaluations, and both kinds of feature statistics."""
    return (_update(), _evaluation(), _statistics("moments"), _statistics("quantiles"))


def _update() -> Mechanism:
    """A coordinate of one step without sampling: a unit adds up to the contribution bound."""
    plan = TrainingPlan(
        sampling_rate=1.0,
        noise_multiplier=_NOISE,
        clipping_norm=0.7,
        rounds=1,
        local_steps=1,
        local_learning_rate=0.1,
        lanes=0,
    )
    step, bound = grid_step(plan, 1), contribution_bound(plan, 1)

    def draw(count: int, has_unit: bool, noise: Noise) -> Floats:  # noqa: FBT001
        exact = np.full(count, bound * has_unit)
        noisy = noisy_on_grid(exact, noise=noise, noise_std=plan.noise_std, step=step)
        return noisy / plan.clipping_norm

    grain = step / plan.clipping_norm
    return Mechanism("update", Gaussian(_NOISE), draw, _NOISE, grain)


def _evaluation() -> Mechanism:
    """A cell of the evaluation's table: a unit adds 1 to one cell."""
    cells = 4096

    def plan_of(count: int) -> EvaluationPlan:
        return EvaluationPlan("squared", bins=count, classes=1, noise_multiplier=_NOISE)

    def draw(count: int, has_unit: bool, noise: Noise) -> Floats:  # noqa: FBT001
        plan = plan_of(count)
        return noisy_table(np.full(plan.shape, int(has_unit)), plan, noise=noise).ravel()

    return Mechanism("evaluation", plan_of(cells).event, draw, _NOISE, 1.0)


def _statistics(kind: str) -> Mechanism:
    """Statistics of one feature, projected on what a unit at the feature's end adds."""
    plan = StatisticsPlan("moments" if kind == "moments" else "quantiles", 4, _NOISE)
    measured, ends = np.ones(1, dtype=np.bool_), np.ones((1, 1), dtype=np.float32)
    added = exact_statistics(ends, np.arange(1), plan, measured=measured)
    direction = added / np.linalg.norm(added)
    sensitivity = noise_std(plan, 1) / _NOISE

    def draw(count: int, has_unit: bool, noise: Noise) -> Floats:  # noqa: FBT001
        rows = np.arange(int(has_unit))
        released = [
            noisy_statistics(ends, rows, plan, measured=measured, noise=noise) @ direction
            for _ in range(count)
        ]
        return np.array(released) / sensitivity

    grain = 1.0 / sensitivity if kind == "quantiles" else 0.0
    return Mechanism(f"statistics, {kind}", plan.event, draw, _NOISE, grain)
