"""Readings of lanes as the engine's specification says they are, and planted faults in them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.lanes import LaneReadings
from sordino_audit.view import server_view
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

Floats = NDArray[np.float64]

DELTA = 1e-5


def training_plan(
    *,
    sampling_rate: float = 1.0,
    noise_multiplier: float = 8.0,
    rounds: int = 20,
    local_steps: int = 1,
    lanes: int = 150,
    groups: int = 1,
) -> TrainingPlan:
    return TrainingPlan(
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        clipping_norm=1.0,
        rounds=rounds,
        local_steps=local_steps,
        local_learning_rate=0.1,
        lanes=lanes,
        lane_groups=groups,
    )


def claim_of(plan: TrainingPlan) -> Guarantee:
    return Guarantee(server_view(plan, delta=DELTA).ceiling, DELTA)


@dataclass(frozen=True)
class Faults:
    """What is wrong with the code that ran; nothing by default.

    Attributes:
        canary_weight: measured over planned weight of a canary, for all groups or one for each.
        reused_each_round: one seed for all rounds.
        restarted: the second half of the rounds starts with the seed of the first.
        shared_by_sites: one seed at all sites.
        shared_by_layers: one seed for all parameter groups.
    """

    canary_weight: float | tuple[float, ...] = 1.0
    reused_each_round: bool = False
    restarted: bool = False
    shared_by_sites: bool = False
    shared_by_layers: bool = False


NONE = Faults()


def simulate(
    plan: TrainingPlan,
    rng: np.random.Generator,
    *,
    sites: int = 2,
    noise_ratio: float | tuple[float, ...] = 1.0,
    faults: Faults = NONE,
) -> list[LaneReadings]:
    """Readings of some sites; `noise_ratio` is of all groups, or one for each."""
    std = math.sqrt(plan.local_steps) * plan.noise_multiplier
    scale = std * _each_group(noise_ratio, plan)
    first = _noise(plan, rng, faults)
    observations = []
    for site in range(sites):
        noise = first if faults.shared_by_sites else _noise(plan, rng, faults)
        inserted = rng.random(plan.lanes) < 0.5
        hits = rng.binomial(plan.local_steps, plan.sampling_rate, size=(plan.rounds, plan.lanes))
        weights = _each_group(faults.canary_weight, plan) / np.sqrt(plan.lane_groups)
        readings = noise * scale + weights * (hits * inserted)[:, np.newaxis]
        observations.append(LaneReadings(f"site-{site}", readings, inserted))
    return observations


def _noise(plan: TrainingPlan, rng: np.random.Generator, faults: Faults) -> Floats:
    noise = rng.normal(size=(plan.rounds, plan.lane_groups, plan.lanes))
    if faults.reused_each_round:
        noise = np.repeat(noise[:1], plan.rounds, axis=0)
    if faults.restarted:
        noise[plan.rounds // 2 :] = noise[: plan.rounds - plan.rounds // 2]
    if faults.shared_by_layers:
        noise = np.repeat(noise[:, :1], plan.lane_groups, axis=1)
    return noise


def _each_group(value: float | tuple[float, ...], plan: TrainingPlan) -> Floats:
    """Of shape (groups, 1)."""
    return np.broadcast_to(np.asarray(value, dtype=np.float64), plan.lane_groups)[:, np.newaxis]
