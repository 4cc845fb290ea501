"""Steps as the real engine takes them, with a witness, and planted faults in what it noted."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from lane_simulation import DELTA, training_plan
from seeded_noise import SeededNoise

from sordino_audit.site_audit import ObservedRun
from sordino_audit.step_view import plan_of_steps
from sordino_audit.view import server_view
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_client.witness import LayerNoise, RoundNotes, RoundSeen, StepSeen
from sordino_protocols.models import LogisticSpec, MlpSpec, ModelSpec, parameter_count
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

FEATURES, RECORDS = 6, 200
LOGISTIC = LogisticSpec(kind="logistic")
MLP = MlpSpec(kind="mlp", hidden=(8,), activation="tanh")

ONE_LAYER = training_plan(
    sampling_rate=0.1, noise_multiplier=0.8, rounds=8, local_steps=5, lanes=300
)
TWO_LAYERS = replace(ONE_LAYER, lane_groups=2)


@dataclass(frozen=True)
class Observed:
    """A run of the real engine, as its site noted it."""

    run: ObservedRun
    rounds: tuple[RoundSeen, ...]


@cache
def claim_of_steps(plan: TrainingPlan) -> Guarantee:
    """What the accountant says of all steps."""
    steps = plan_of_steps(plan, plan.rounds * plan.local_steps)
    return Guarantee(server_view(steps, delta=DELTA).ceiling, DELTA)


def observe(plan: TrainingPlan, *, seed: int = 1, actual: TrainingPlan | None = None) -> Observed:
    """Train with the engine on repeatable noise; `actual` runs, where it is not the plan."""
    inserted = np.random.default_rng(seed).random(plan.lanes) < 0.5
    model: ModelSpec = LOGISTIC if plan.lane_groups == 1 else MLP
    units = _units(inserted)
    weights = np.zeros(parameter_count(model, FEATURES) + plan.extra_coordinates)
    rounds, noise = [], SeededNoise(seed)
    for number in range(1, plan.rounds + 1):
        notes = RoundNotes()
        train_round(
            units,
            weights,
            model,
            actual or plan,
            expected_batch_size=20,
            noise=noise,
            witness=notes,
        )
        steps = notes.steps
        if actual is not None:
            # The engine compares with what it was told to add, an audit with the plan.
            ratio = actual.noise_multiplier / plan.noise_multiplier
            steps = tuple(quieter(each, ratio=ratio) for each in steps)
        rounds.append(RoundSeen(number, steps))
    run = ObservedRun("run-1", "north", plan, claim_of_steps(plan), inserted)
    return Observed(run, tuple(rounds))


def with_steps(observed: Observed, steps: list[StepSeen]) -> Observed:
    """The same run with other steps, in order."""
    size = observed.run.plan.local_steps
    rounds = tuple(
        RoundSeen(each.round, tuple(steps[index * size : (index + 1) * size]))
        for index, each in enumerate(observed.rounds)
    )
    return replace(observed, rounds=rounds)


def steps_of(observed: Observed) -> list[StepSeen]:
    """All steps, in order."""
    return [step for each in observed.rounds for step in each.steps]


def quieter(step: StepSeen, *, ratio: float, layer: int | None = None) -> StepSeen:
    """The step with `ratio` times the noise in one layer of the model, or in all."""
    noise = [
        LayerNoise(each.squares * ratio**2, each.count) if layer in (None, index) else each
        for index, each in enumerate(step.noise)
    ]
    return replace(step, noise=tuple(noise))


def sampled_anew(step: StepSeen, sampled: np.ndarray, plan: TrainingPlan) -> StepSeen:
    """The step as it would have read if other canaries had been in its batch."""
    moved = (sampled.astype(np.float32) - step.sampled) / np.sqrt(plan.lane_groups)
    return replace(step, sampled=sampled, readings=(step.readings + moved).astype(np.float32))


def _units(inserted: np.ndarray) -> Units:
    rng = np.random.default_rng(0)
    features = rng.uniform(-1, 1, (RECORDS, FEATURES)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.float32)
    return Units(features, labels, np.flatnonzero(inserted))
