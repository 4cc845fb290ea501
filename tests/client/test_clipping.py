"""The oracle is the naive way: every unit's gradient by `vmap(grad)`, clipped, then added."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

from sordino_client.training import rules
from sordino_client.training.arithmetic import DOUBLE
from sordino_client.training.clipping import (
    CANARY_EXCESS,
    Units,
    clipped_sum,
    network_for,
    predict,
)
from sordino_protocols.models import LogisticSpec, MlpSpec, ModelSpec, parameter_count
from sordino_protocols.networks import build, load_flat

LOGISTIC = LogisticSpec(kind="logistic")
MLP = MlpSpec(kind="mlp", hidden=(7, 5), activation="tanh")

specs = st.one_of(
    st.just(LOGISTIC),
    st.builds(
        MlpSpec,
        kind=st.just("mlp"),
        hidden=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
        activation=st.sampled_from(["tanh", "relu"]),
    ),
)


def make_units(records: int, features: int, lanes: tuple[int, ...] = (), seed: int = 0) -> Units:
    rng = np.random.default_rng(seed)
    return Units(
        rng.uniform(-1, 1, (records, features)).astype(np.float32),
        rng.integers(0, 2, records).astype(np.float32),
        np.array(lanes, dtype=np.int64),
    )


def everyone(units: Units) -> NDArray[np.int64]:
    return np.arange(len(units))


def naive_gradients(
    units: Units, weights: NDArray[np.float64], spec: ModelSpec
) -> NDArray[np.float64]:
    """Each record's gradient on the model's parameters, [records, parameters]."""
    module = build(spec, units.features.shape[1])
    load_flat(module, weights[: parameter_count(spec, units.features.shape[1])])
    parameters = {name: value.detach() for name, value in module.named_parameters()}

    def loss(at: dict[str, Tensor], features: Tensor, label: Tensor) -> Tensor:
        logit = functional_call(module, at, (features[None],))[0, 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(logit, label)

    per_unit = vmap(grad(loss), in_dims=(None, 0, 0))(
        parameters,
        torch.from_numpy(units.features).double(),
        torch.from_numpy(units.labels).double(),
    )
    flat = [per_unit[name].reshape(len(units.labels), -1) for name in parameters]
    return np.asarray(torch.cat(flat, dim=1).numpy())


def naive_sum(
    units: Units, weights: NDArray[np.float64], spec: ModelSpec, bound: float
) -> NDArray[np.float64]:
    total = np.zeros_like(weights)
    dimension = parameter_count(spec, units.features.shape[1])
    if len(units.labels):
        gradients = naive_gradients(units, weights, spec)
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        total[:dimension] = (gradients * np.minimum(1, bound / norms)).sum(axis=0)
    for lane in units.canary_lanes:
        total[dimension + lane] += bound
    return total


@settings(max_examples=60, deadline=None)
@given(
    spec=specs,
    records=st.integers(0, 12),
    features=st.integers(1, 6),
    lanes=st.lists(st.integers(0, 4), max_size=6),
    bound=st.floats(1e-3, 10),
    seed=st.integers(0, 2**16),
)
def test_equals_the_naive_sum(  # noqa: PLR0917 (hypothesis passes them by name)
    spec: ModelSpec, records: int, features: int, lanes: list[int], bound: float, seed: int
) -> None:
    units = make_units(records, features, tuple(lanes), seed)
    weights = np.random.default_rng(seed).standard_normal(parameter_count(spec, features) + 5)
    fast = clipped_sum(units, everyone(units), weights, spec, bound=bound)
    assert np.allclose(fast, naive_sum(units, weights, spec, bound), rtol=1e-9, atol=1e-12)


def test_no_units_sum_to_zero() -> None:
    units = make_units(0, 3)
    weights = np.ones(parameter_count(MLP, 3) + 2)
    assert not clipped_sum(units, everyone(units), weights, MLP, bound=1.0).any()


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(1e-6, 1e6), spec=specs, seed=st.integers(0, 2**16))
def test_one_unit_never_contributes_more_than_the_bound(
    scale: float, spec: ModelSpec, seed: int
) -> None:
    units = make_units(1, 4, seed=seed)
    weights = scale * np.random.default_rng(seed).standard_normal(parameter_count(spec, 4))
    norm = np.linalg.norm(clipped_sum(units, everyone(units), weights, spec, bound=0.5))
    assert norm <= 0.5 * (1 + 1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("spec", [LOGISTIC, MLP])
def test_a_unit_without_a_finite_gradient_contributes_exactly_zero(
    bad: float, spec: ModelSpec
) -> None:
    clean = make_units(6, 4)
    weights = np.random.default_rng(1).standard_normal(parameter_count(spec, 4))
    poisoned = Units(clean.features.copy(), clean.labels.copy(), clean.canary_lanes)
    poisoned.features[2, 1] = bad
    poisoned.labels[4] = np.nan
    others = np.array([0, 1, 3, 5])
    whole = clipped_sum(poisoned, everyone(poisoned), weights, spec, bound=0.5)
    expected = clipped_sum(clean, others, weights, spec, bound=0.5)
    assert np.allclose(whole, expected, rtol=1e-12, atol=1e-14)


def test_weights_that_are_not_finite_give_an_exact_zero() -> None:
    units = make_units(5, 4)
    weights = np.full(parameter_count(MLP, 4), np.nan)
    assert not clipped_sum(units, everyone(units), weights, MLP, bound=1.0).any()


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    units = make_units(600, 6, (0, 1, 1))
    weights = np.random.default_rng(2).standard_normal(parameter_count(MLP, 6) + 2)
    whole = clipped_sum(units, everyone(units), weights, MLP, bound=0.5)
    monkeypatch.setattr(network_for(MLP, 6), "arithmetic", replace(DOUBLE, chunk_rows=256))
    chunked = clipped_sum(units, everyone(units), weights, MLP, bound=0.5)
    assert np.allclose(whole, chunked, rtol=1e-13, atol=1e-15)


def test_more_rows_than_a_chunk_holds() -> None:
    units = make_units(DOUBLE.chunk_rows + 3, 2)
    weights = np.random.default_rng(3).standard_normal(parameter_count(LOGISTIC, 2))
    fast = clipped_sum(units, everyone(units), weights, LOGISTIC, bound=0.5)
    assert np.allclose(fast, naive_sum(units, weights, LOGISTIC, 0.5), rtol=1e-10)


def test_order_in_the_batch_does_not_matter() -> None:
    units = make_units(20, 6, (1, 0))
    weights = np.random.default_rng(4).standard_normal(parameter_count(MLP, 6) + 2)
    forward = clipped_sum(units, everyone(units), weights, MLP, bound=0.5)
    backward = clipped_sum(units, everyone(units)[::-1].copy(), weights, MLP, bound=0.5)
    assert np.allclose(forward, backward, rtol=1e-13, atol=1e-15)


def test_a_canary_gives_the_bound_to_its_lane_and_nothing_to_the_model() -> None:
    units = make_units(0, 3, (2, 0))
    weights = np.random.default_rng(5).standard_normal(parameter_count(LOGISTIC, 3) + 4)
    total = clipped_sum(units, everyone(units), weights, LOGISTIC, bound=0.75)
    assert np.array_equal(total, [0, 0, 0, 0, 0.75, 0, 0.75, 0])


def test_a_canary_passes_through_the_same_clip_as_a_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without the clip a canary shows it: its lane reads the whole slope.
    monkeypatch.setattr(rules, "clip_scales", lambda squares, _bound: torch.ones_like(squares))
    units = make_units(0, 3, (0,))
    total = clipped_sum(units, everyone(units), np.zeros(5), LOGISTIC, bound=1.0)
    assert total[-1] == CANARY_EXCESS


def test_refuses_a_lane_that_is_not_there_and_weights_that_are_too_short() -> None:
    units = make_units(2, 3, (1,))
    with pytest.raises(ValueError, match="lane"):
        clipped_sum(units, everyone(units), np.zeros(5), LOGISTIC, bound=1.0)
    with pytest.raises(ValueError, match="needs 4"):
        clipped_sum(units, everyone(units), np.zeros(3), LOGISTIC, bound=1.0)


def test_units_refuse_arrays_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="labels"):
        Units(np.zeros((2, 3), np.float32), np.zeros(3, np.float32), np.zeros(0, np.int64))


def test_the_text_of_units_says_nothing_about_records() -> None:
    units = make_units(3, 2, (0,))
    assert repr(units) == str(units) == "Units(...)"


@pytest.mark.parametrize(
    "spec", [LOGISTIC, MLP, MlpSpec(kind="mlp", hidden=(3,), activation="relu")]
)
def test_scores_are_those_of_the_built_module(spec: ModelSpec) -> None:
    features = make_units(DOUBLE.chunk_rows + 5, 4).features
    weights = np.random.default_rng(6).standard_normal(parameter_count(spec, 4) + 3)
    module = build(spec, 4)
    load_flat(module, weights[:-3])
    with torch.no_grad():
        expected = torch.sigmoid(module(torch.from_numpy(features).double()))[:, 0].numpy()
    assert np.allclose(predict(weights, spec, features), expected, rtol=1e-12)
    assert predict(weights, spec, features[:0]).shape == (0,)
