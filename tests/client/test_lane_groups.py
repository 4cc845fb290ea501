"""Lanes in every parameter group: what a canary reads, and that nothing else changes by them."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_kinds import KINDS, FloatArray
from model_stacks import SPECS, Raw, stacks
from numpy.typing import NDArray
from seeded_noise import NoNoise
from torch import Tensor

from sordino_client.training import clipping, rules, steps
from sordino_client.training.arithmetic import Performance, PrecisionName
from sordino_client.training.clipping import clipped_sum, network_for
from sordino_client.training.network import Network
from sordino_client.training.rules import Clip
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.clipping import (
    FLAT,
    AdaptiveClipping,
    ClippingRule,
    NormalizedClipping,
    PerLayerClipping,
)
from sordino_protocols.models import LayersSpec, parameter_groups
from sordino_protocols.plan import LossName, TrainingPlan

RULES: dict[str, ClippingRule] = {
    "flat": FLAT,
    "per layer": PerLayerClipping(kind="per_layer"),
    "normalized": NormalizedClipping(kind="normalized"),
    "adaptive": AdaptiveClipping(kind="adaptive", quantile=0.7, share=0.3),
}
SERIES: Raw = {"kind": "series", "steps": 4, "channels": 2}
TOKENS: Raw = {"kind": "tokens", "vocabulary": 5, "width": 4}
PRESETS: dict[str, tuple[Raw, int]] = {
    "cnn": ({"kind": "cnn", "image": [1, 28, 28]}, 784),
    "resnet": ({"kind": "resnet", "image": [1, 8, 8], "width": 4, "groups": 2}, 64),
    "lstm": ({"kind": "lstm", "input": SERIES, "hidden": 3, "layers": 2}, 8),
    "gru": ({"kind": "gru", "input": TOKENS, "hidden": 3}, 6),
    "transformer": (
        {
            "kind": "transformer",
            "input": TOKENS,
            "width": 4,
            "heads": 2,
            "blocks": 2,
            "hidden": 3,
        },
        6,
    ),
    "mlp with embeddings": (
        {
            "kind": "mlp",
            "hidden": [3],
            "activation": "tanh",
            "embeddings": [{"start": 1, "count": 3, "width": 2}],
        },
        5,
    ),
}
PLAN = TrainingPlan(
    sampling_rate=0.5,
    noise_multiplier=1.0,
    clipping_norm=0.5,
    rounds=1,
    local_steps=3,
    local_learning_rate=0.5,
    lanes=0,
    loss="cross_entropy",
)


def admitted(name: str, precision: PrecisionName = "double") -> Network:
    kind = KINDS[name]
    performance = Performance(precision=precision)
    return network_for(kind.spec, kind.features, "cross_entropy", performance=performance)


def make_units(name: str, count: int, lanes: tuple[int, ...] = ()) -> Units:
    kind = KINDS[name]
    return Units(kind.records(count), kind.labels(count), np.array(lanes, dtype=np.int64))


# --- how many groups there are ----------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_the_groups_of_a_model_are_the_layers_that_the_engine_makes(name: str) -> None:
    assert parameter_groups(KINDS[name].spec) == len(admitted(name).layers)


@pytest.mark.parametrize("name", PRESETS)
def test_the_groups_of_a_preset_are_the_layers_that_the_engine_makes(name: str) -> None:
    raw, features = PRESETS[name]
    spec = SPECS.validate_python(raw)
    assert parameter_groups(spec) == len(network_for(spec, features).layers)


@settings(max_examples=15, deadline=None)
@given(drawn=stacks())
def test_the_groups_of_any_stack_are_the_layers_that_the_engine_makes(
    drawn: tuple[LayersSpec, int],
) -> None:
    spec, features = drawn
    loss: LossName = "binary" if spec.outputs == 1 else "cross_entropy"
    assert parameter_groups(spec) == len(network_for(spec, features, loss).layers)


def test_a_graph_has_a_group_for_each_operation_with_weights() -> None:
    graph: Raw = {
        "kind": "graph",
        "nodes": [
            {"name": "a", "inputs": ["features"], "operation": {"kind": "linear", "outputs": 3}},
            {
                "name": "b",
                "inputs": ["a"],
                "operation": {"kind": "activation", "function": "tanh"},
            },
            {"name": "c", "inputs": ["b"], "operation": {"kind": "layer_norm", "affine": False}},
            {"name": "d", "inputs": ["c"], "operation": {"kind": "linear", "outputs": 1}},
        ],
    }
    spec = SPECS.validate_python(graph)
    assert parameter_groups(spec) == len(network_for(spec, 4).layers) == 2


def test_a_model_without_weights_still_has_a_group() -> None:
    # A job is read, and its plan made, before the model meets the features that refuse it.
    assert parameter_groups(SPECS.validate_python({"kind": "layers", "layers": []})) == 1


# --- what a canary reads ----------------------------------------------------------------------


def canary_readings(
    name: str, rule: ClippingRule, lanes: tuple[int, ...] = (2,), *, bound: float = 0.75
) -> tuple[FloatArray, FloatArray]:
    """What canaries add: before the lanes, and to the lanes [groups, 4]."""
    network, groups = admitted(name), parameter_groups(KINDS[name].spec)
    before = network.dimension + isinstance(rule, AdaptiveClipping)
    weights = np.zeros(before + 4 * groups)
    batch = np.arange(len(lanes))
    total = clipped_sum(
        make_units(name, 0, lanes),
        batch,
        weights,
        network,
        bound=bound,
        rule=rule,
        lane_groups=groups,
    )
    return total[:before], total[before:].reshape(groups, 4)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("name", KINDS)
def test_a_canary_reads_the_same_in_every_group_and_its_norm_is_the_bound(
    name: str, rule: ClippingRule
) -> None:
    model, lanes = canary_readings(name, rule)
    assert not model.any()
    assert not lanes[:, [0, 1, 3]].any()
    np.testing.assert_allclose(lanes[:, 2], 0.75 / np.sqrt(len(lanes)), rtol=1e-15)
    assert np.linalg.norm(lanes) <= 0.75 * (1 + 1e-15)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_canaries_of_several_lanes_add_up_lane_by_lane(rule: ClippingRule) -> None:
    _, lanes = canary_readings("mlp", rule, (0, 3, 0))
    alone = 0.75 / np.sqrt(3)
    np.testing.assert_allclose(lanes, np.tile([2 * alone, 0, 0, alone], (3, 1)), rtol=1e-15)


def whole_norm_each_layer(squared_norms: Tensor, rule: ClippingRule, *, bound: float) -> Clip:
    """The known fault: every layer is clipped to C instead of C / sqrt(layers)."""
    return rules.clip(squared_norms, rule, bound=bound * len(squared_norms) ** 0.5)


def last_layer_left_out(squared_norms: Tensor, rule: ClippingRule, *, bound: float) -> Clip:
    """The known fault: the norm is that of all layers but the last."""
    forgetful = squared_norms.clone()
    forgetful[-1] = 0
    return rules.clip(forgetful, rule, bound=bound)


@pytest.mark.parametrize(
    ("fault", "rule", "excess"),
    [
        (whole_norm_each_layer, RULES["per layer"], np.sqrt(3)),
        (last_layer_left_out, RULES["flat"], np.sqrt(3 / 2)),
    ],
)
def test_a_clip_that_is_wrong_between_layers_shows_in_the_lanes(
    monkeypatch: pytest.MonkeyPatch, fault: object, rule: ClippingRule, excess: float
) -> None:
    monkeypatch.setattr(clipping, "clip", fault)
    _, lanes = canary_readings("mlp", rule)
    assert np.linalg.norm(lanes) == pytest.approx(0.75 * excess)


def test_refuses_coordinates_that_are_no_whole_lanes() -> None:
    with pytest.raises(ValueError, match="no lanes of 3 each"):
        clipped_sum(
            make_units("mlp", 0, (0,)),
            np.array([0]),
            np.zeros(admitted("mlp").dimension + 4),
            admitted("mlp"),
            bound=1.0,
            lane_groups=3,
        )


# --- the model does not know that there are lanes ---------------------------------------------


@dataclass
class Paired:
    """The same randomness for the same coin or coordinate of the same draw, however many follow."""

    seed: int
    draws: int = field(default=0, init=False)

    @property
    def is_secure(self) -> bool:
        return False

    def standard_normal(self, count: int) -> FloatArray:
        return self._next().standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        return np.rint(self._next().normal(0, noise_std, count)).astype(np.int64)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        return np.asarray(self._next().random(count) < probability)

    def _next(self) -> np.random.Generator:
        self.draws += 1
        return np.random.default_rng([self.seed, self.draws])


def release(network: Network, units: Units, plan: TrainingPlan, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    weights = np.zeros(network.dimension + plan.extra_coordinates)
    weights[: network.dimension] = 0.5 * rng.standard_normal(network.dimension)
    return train_round(
        units, weights, network, plan, expected_batch_size=9.0, noise=Paired(seed)
    ).vector


def with_and_without_lanes(
    name: str, rule: ClippingRule, precision: PrecisionName, seed: int = 1
) -> tuple[FloatArray, FloatArray]:
    """What is released of model and threshold."""
    network, bare = admitted(name, precision), replace(PLAN, clipping=rule)
    plan = replace(bare, lanes=700, lane_groups=len(network.layers))
    inserted = tuple(range(0, 700, 2))
    watched = release(network, make_units(name, 40, inserted), plan, seed)
    alone = release(network, make_units(name, 40), bare, seed)
    return watched[: len(alone)], alone


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", ["logistic", "mlp", "conv2d", "embedding", "lstm"])
def test_not_one_bit_of_the_model_depends_on_whether_there_are_lanes(
    name: str, precision: PrecisionName, rule: ClippingRule
) -> None:
    watched, alone = with_and_without_lanes(name, rule, precision)
    assert np.array_equal(watched, alone)


def test_a_grid_that_counted_the_lanes_would_move_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steps, "_reach", lambda plan, dimension: dimension + plan.extra_coordinates)
    watched, alone = with_and_without_lanes("mlp", FLAT, "double")
    assert not np.array_equal(watched, alone)


@settings(max_examples=30, deadline=None)
@given(
    noise_multiplier=st.floats(0.01, 100),
    clipping_norm=st.floats(1e-3, 1e3),
    rule=st.sampled_from(list(RULES.values())),
)
def test_a_canary_more_moves_the_rounded_sums_by_the_clipping_norm_at_most(
    noise_multiplier: float, clipping_norm: float, rule: ClippingRule
) -> None:
    network = admitted("mlp")
    plan = replace(
        PLAN,
        sampling_rate=1.0,
        local_steps=1,
        noise_multiplier=noise_multiplier,
        clipping_norm=clipping_norm,
        clipping=rule,
        lanes=4,
        lane_groups=3,
    )
    more = release_exactly(network, make_units("mlp", 20, (0, 2)), plan)
    less = release_exactly(network, make_units("mlp", 20, (0,)), plan)
    moved = np.linalg.norm(more - less)
    assert clipping_norm * (1 - 2**-12) <= moved <= clipping_norm


def release_exactly(network: Network, units: Units, plan: TrainingPlan) -> FloatArray:
    weights = np.zeros(network.dimension + plan.extra_coordinates)
    return train_round(
        units, weights, network, plan, expected_batch_size=9.0, noise=NoNoise()
    ).vector


def test_refuses_weights_that_lack_a_group() -> None:
    plan = replace(PLAN, lanes=4, lane_groups=3)
    with pytest.raises(ValueError, match="4 lanes of 3 coordinates"):
        train_round(
            make_units("mlp", 3),
            np.zeros(admitted("mlp").dimension + 8),
            admitted("mlp"),
            plan,
            expected_batch_size=9.0,
            noise=NoNoise(),
        )
