"""One round of a tiny model on a few made-up units, for tests of what a round releases."""

import numpy as np
from numpy.typing import NDArray

from sordino_client.training.clipping import Units
from sordino_client.training.noise import Noise, SecureNoise
from sordino_client.training.steps import RoundResult, train_round
from sordino_protocols.models import LogisticSpec, MlpSpec, ModelSpec, parameter_count
from sordino_protocols.plan import TrainingPlan

FloatArray = NDArray[np.float64]

LOGISTIC = LogisticSpec(kind="logistic")
MLP = MlpSpec(kind="mlp", hidden=(5,), activation="tanh")
PLAN = TrainingPlan(
    sampling_rate=1.0,
    noise_multiplier=2.0,
    clipping_norm=0.5,
    rounds=10,
    local_steps=1,
    local_learning_rate=0.5,
    lanes=4,
)


def make_units(records: int, features: int = 6, lanes: tuple[int, ...] = ()) -> Units:
    """Records, always the same for their number, and a canary on each of `lanes`."""
    rng = np.random.default_rng(records)
    return Units(
        rng.uniform(-1, 1, (records, features)).astype(np.float32),
        rng.integers(0, 2, records).astype(np.float32),
        np.array(lanes, dtype=np.int64),
    )


def without_record(units: Units, index: int) -> Units:
    """The neighbour that lacks one record."""
    return Units(
        np.delete(units.features, index, axis=0),
        np.delete(units.labels, index),
        units.canary_lanes,
    )


def run(
    units: Units,
    plan: TrainingPlan = PLAN,
    spec: ModelSpec = LOGISTIC,
    *,
    noise: Noise,
    scale: float = 0.0,
) -> RoundResult:
    """One round from zero weights, or from normal ones times `scale`."""
    size = parameter_count(spec, units.features.shape[1]) + plan.extra_coordinates
    weights = scale * np.random.default_rng(9).standard_normal(size)
    return train_round(units, weights, spec, plan, expected_batch_size=20.0, noise=noise)


def releases(units: Units, plan: TrainingPlan, count: int) -> FloatArray:
    """What that many rounds release, one a row."""
    return np.stack([run(units, plan, noise=SecureNoise()).vector for _ in range(count)])
