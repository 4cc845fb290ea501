"""Whole runs of a trainer at two sites, as the server reads their lanes; and their audit.

The trainers are the product's and those of the zoo. What is attacked is what they released.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sordino_audit.lanes import LaneAudit, PreparedAudit, conduct, prepare
from sordino_audit.probes.trainer import Asked, Case, Trainer
from sordino_audit.readings import LaneReadings
from sordino_audit.view import server_view
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise, SecureNoise
from sordino_protocols.clipping import FLAT, ClippingRule
from sordino_protocols.models import MlpSpec, parameter_groups
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.privacy import Guarantee

DELTA = 1e-5
SITES = ("a", "b")
_MODEL = MlpSpec(kind="mlp", hidden=(5, 4), activation="tanh")


def run_case(rule: ClippingRule = FLAT) -> Case:
    """A run with lanes in all three layers of a small network."""
    plan = TrainingPlan(
        sampling_rate=0.3,
        noise_multiplier=2.0,
        clipping_norm=0.7,
        rounds=25,
        local_steps=1,
        local_learning_rate=0.1,
        lanes=300,
        clipping=rule,
        lane_groups=parameter_groups(_MODEL),
    )
    return Case("a run", _MODEL, plan, Performance(), seed=3)


def claim_of(plan: TrainingPlan) -> Guarantee:
    """What the plan costs, as its whole view shows it."""
    return Guarantee(server_view(plan, delta=DELTA).ceiling, DELTA)


def run_lanes(
    trainer: Trainer, case: Case, *, noise: Callable[[], Noise] = SecureNoise
) -> list[LaneReadings]:
    """What the lanes of two sites read in all rounds, canaries inserted by fair coins.

    Args:
        trainer: what trains at both sites.
        case: the plan, the model.
        noise: each site's source, made once for its run.
    """
    return [_site(trainer, case, name, noise()) for name in SITES]


def audit(trainer: Trainer, case: Case, *, noise: Callable[[], Noise] = SecureNoise) -> LaneAudit:
    """The audit of a run's lanes, as the server makes it."""
    return conduct(prepared(case.plan), run_lanes(trainer, case, noise=noise))


@cache
def prepared(plan: TrainingPlan) -> PreparedAudit:
    """What is fixed before a reading is looked at; it is worked out once a plan."""
    return prepare(plan, claim=claim_of(plan), confidence=0.95, sites=len(SITES))


def _site(trainer: Trainer, case: Case, name: str, noise: Noise) -> LaneReadings:
    plan = case.plan
    inserted = np.random.default_rng().random(plan.lanes) < 0.5
    units = replace(case.units(20), canary_lanes=np.flatnonzero(inserted).astype(np.int64))
    asked = Asked(units, case.weights(), case.model, plan, noise, case.performance)
    rounds = [_lanes(trainer(asked).vector, plan) for _ in range(plan.rounds)]
    return LaneReadings(name, np.stack(rounds), inserted)


def _lanes(vector: NDArray[np.float64], plan: TrainingPlan) -> NDArray[np.float64]:
    lanes = vector[len(vector) - plan.lane_coordinates :] / plan.clipping_norm
    return lanes.reshape(plan.lane_groups, plan.lanes)
