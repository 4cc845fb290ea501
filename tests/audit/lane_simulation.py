"""Readings of lanes as the engine's specification says they are, and planted faults in them."""

import numpy as np
from numpy.typing import NDArray

from sordino_audit.lanes import LaneReadings
from sordino_audit.view import server_view
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

DELTA = 1e-5


def training_plan(
    *,
    sampling_rate: float = 1.0,
    noise_multiplier: float = 8.0,
    rounds: int = 20,
    local_steps: int = 1,
    lanes: int = 150,
) -> TrainingPlan:
    return TrainingPlan(
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        clipping_norm=1.0,
        rounds=rounds,
        local_steps=local_steps,
        local_learning_rate=0.1,
        lanes=lanes,
    )


def claim_of(plan: TrainingPlan) -> Guarantee:
    return Guarantee(server_view(plan, delta=DELTA).ceiling, DELTA)


def simulate(
    plan: TrainingPlan,
    rng: np.random.Generator,
    *,
    sites: int = 2,
    noise_ratio: float = 1.0,
    is_reused_each_round: bool = False,
    is_shared_by_sites: bool = False,
    canary_weight: float = 1.0,
) -> list[LaneReadings]:
    first = _noise(plan, rng, noise_ratio)
    observations = []
    for site in range(sites):
        noise = first if is_shared_by_sites else _noise(plan, rng, noise_ratio)
        if is_reused_each_round:
            noise = np.repeat(noise[:1], plan.rounds, axis=0)
        inserted = rng.random(plan.lanes) < 0.5
        hits = rng.binomial(plan.local_steps, plan.sampling_rate, size=noise.shape)
        readings = noise + canary_weight * hits * inserted
        observations.append(LaneReadings(f"site-{site}", readings, inserted))
    return observations


def _noise(plan: TrainingPlan, rng: np.random.Generator, noise_ratio: float) -> NDArray[np.float64]:
    std = np.sqrt(plan.local_steps) * plan.noise_multiplier * noise_ratio
    return rng.normal(0.0, std, size=(plan.rounds, plan.lanes))
