"""Neighbouring data sets under identical randomness: one step's sums differ by C at most.

Every kind of model, every clipping rule, every kind of unit, in the step that is released.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from model_kinds import KINDS, FloatArray
from numpy.typing import NDArray

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import Performance, PrecisionName
from sordino_client.training.clipping import network_for
from sordino_client.training.steps import at_threshold, grid_step, train_round
from sordino_client.training.units import Units
from sordino_protocols.clipping import (
    FLAT,
    AdaptiveClipping,
    ClippingRule,
    NormalizedClipping,
    PerLayerClipping,
)
from sordino_protocols.local_training import Augmentation
from sordino_protocols.plan import TrainingPlan

RULES: dict[str, ClippingRule] = {
    "flat": FLAT,
    "per layer": PerLayerClipping(kind="per_layer"),
    "normalized": NormalizedClipping(kind="normalized"),
    "adaptive": AdaptiveClipping(kind="adaptive", quantile=0.7, share=0.3),
}
PLAN = TrainingPlan(
    sampling_rate=0.8,
    noise_multiplier=1.0,
    clipping_norm=0.5,
    rounds=1,
    local_steps=1,
    local_learning_rate=0.5,
    lanes=500,
    loss="cross_entropy",
)
# What single precision takes off the bound, and what norms are rounded up by.
ROUNDING = 0.05


# Units of a neighbour at most; every other draw is longer, if it is there at all.
MOST_UNITS = 12


@dataclass(frozen=True)
class Replayed:
    """The same randomness for the same coordinate, coin, unit or row, however many there are.

    Units keep their order, so that the one that a neighbour lacks is the last; what a random order
    is for, the layers' tests try.

    Attributes:
        dimension: how many coordinates get noise.
    """

    dimension: int

    @property
    def is_secure(self) -> bool:
        return False

    def standard_normal(self, count: int) -> FloatArray:
        if count <= MOST_UNITS:
            return np.arange(count, dtype=np.float64)
        return np.random.default_rng([5, count == self.dimension]).standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        del noise_std
        return np.zeros(count, dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        # The last of both neighbours is in.
        return np.asarray((np.arange(count) % 5 != 2) & (probability > 0))


def neighbours(name: str, how: str) -> tuple[Units, Units]:
    """Units, and the same without the last."""
    kind = KINDS[name]
    sizes = (
        np.array([1, 3, 2, 5, 1, 4, 6]) if how == "entity" else np.ones(MOST_UNITS, dtype=np.int64)
    )
    rows = int(sizes.sum())
    features, labels = kind.records(rows), kind.labels(rows)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    made = []
    for units in (len(sizes), len(sizes) - 1):
        kept = int(starts[units])
        entities = Entities(np.arange(kept), starts[: units + 1]) if how == "entity" else None
        made.append(Units(features[:kept], labels[:kept], np.zeros(0, np.int64), entities))
    return made[0], made[1]


def plan_for(name: str, how: str, rule: ClippingRule) -> TrainingPlan:
    image = KINDS[name].image
    plan = replace(PLAN, clipping=rule)
    if how == "entity":
        plan = replace(plan, unit="entity", records_per_unit=3)
    if how == "views":
        assert image is not None
        augmentation = Augmentation(image=image, views=3, shift=1, flip=True)
        plan = replace(plan, augmentation=augmentation)
    return plan


def difference(
    name: str, how: str, rule: ClippingRule, precision: PrecisionName, scale: float
) -> tuple[float, TrainingPlan, int]:
    kind, plan = KINDS[name], plan_for(name, how, rule)
    performance = Performance(precision=precision)
    network = network_for(kind.spec, kind.features, plan.loss, performance=performance)
    size = network.dimension + plan.extra_coordinates
    weights = scale * np.random.default_rng(3).standard_normal(size)
    # The threshold is at exp(.4) times the norm of the plan.
    weights[network.dimension : network.dimension + plan.thresholds] = 0.4
    noise = Replayed(size)
    whole, less = (
        train_round(units, weights, network, plan, expected_batch_size=9.0, noise=noise).vector
        for units in neighbours(name, how)
    )
    threshold = weights[network.dimension : network.dimension + plan.thresholds]
    return float(np.linalg.norm(whole - less)), at_threshold(plan, threshold), network.dimension


COMBINATIONS = [
    (name, how)
    for name, kind in KINDS.items()
    for how in ("record", "entity", "views")
    if how != "views" or kind.image is not None
]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize(("name", "how"), COMBINATIONS)
@pytest.mark.parametrize("precision", ["single", "double"])
def test_one_unit_moves_a_step_by_at_most_the_clipping_norm(
    name: str, how: str, rule: ClippingRule, precision: PrecisionName
) -> None:
    found = []
    for scale in (0.3, 10.0):
        moved, plan, dimension = difference(name, how, rule, precision, scale)
        # The noise is the same, so what differs are the rounded sums, and one more rounding.
        slack = grid_step(plan, dimension) * np.sqrt(dimension + plan.thresholds)
        assert moved <= plan.clipping_norm + slack
        found.append(moved)
    assert max(found) > 0


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("how", ["record", "entity"])
def test_a_worst_case_unit_moves_it_by_the_clipping_norm(how: str, rule: ClippingRule) -> None:
    # Large weights of one layer: every gradient is long, whatever the labels are.
    found = [difference("logistic", how, rule, "double", scale)[0] for scale in (30.0, 100.0)]
    norm = difference("logistic", how, rule, "double", 0.3)[1].clipping_norm
    assert max(found) >= norm * (1 - ROUNDING)


def test_the_threshold_scales_norm_and_grid() -> None:
    rule = RULES["adaptive"]
    _, plan, dimension = difference("logistic", "record", rule, "double", 0.3)
    assert plan.clipping_norm == pytest.approx(PLAN.clipping_norm * np.exp(0.4))
    assert grid_step(plan, dimension) >= grid_step(PLAN, dimension)
    assert plan.event == replace(PLAN, clipping=rule).event


def test_a_norm_that_ignores_the_threshold_would_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rule = RULES["adaptive"]
    loose = replace(PLAN, clipping=rule, clipping_norm=5.0)
    monkeypatch.setattr("sordino_client.training.steps.at_threshold", lambda *_: loose)
    moved, plan, _ = difference("logistic", "record", rule, "double", 30.0)
    assert moved > plan.clipping_norm
