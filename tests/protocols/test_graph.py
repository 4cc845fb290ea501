import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_stacks import SPECS, Raw
from pydantic import ValidationError

from sordino_protocols.architecture import MAX_ACTIVATIONS, MAX_PARAMETERS, Operation
from sordino_protocols.errors import InputError
from sordino_protocols.models import GraphSpec, ModelSpec, architecture_of, parameter_count
from sordino_protocols.networks import build, flatten, load_flat

LINEAR: Raw = {"kind": "linear", "outputs": 1}


def node(name: str, inputs: list[str], operation: Raw) -> Raw:
    return {"name": name, "inputs": inputs, "operation": operation}


def graph(*nodes: Raw, outputs: int = 1) -> ModelSpec:
    raw = {"kind": "graph", "nodes": list(nodes), "outputs": outputs}
    return SPECS.validate_python(raw)


def test_a_graph_computes_what_its_nodes_say() -> None:
    spec = graph(
        node("left", ["features"], {"kind": "linear", "outputs": 2}),
        node("right", ["features"], {"kind": "linear", "outputs": 2, "bias": False}),
        node("gate", ["left", "right"], {"kind": "multiply"}),
        node("both", ["gate", "left"], {"kind": "concatenate", "axis": 0}),
        node("out", ["both"], LINEAR),
    )
    module = build(spec, 3)
    rng = np.random.default_rng(0)
    vector = rng.standard_normal(parameter_count(spec, 3))
    load_flat(module, vector)
    assert np.array_equal(flatten(module), vector)
    records = rng.standard_normal((4, 3))
    left = records @ vector[:6].reshape(2, 3).T + vector[6:8]
    right = records @ vector[8:14].reshape(2, 3).T
    expected = np.hstack([left * right, left]) @ vector[14:18] + vector[18]
    assert np.allclose(module(torch.from_numpy(records))[:, 0].detach().numpy(), expected)


def test_attention_written_out_as_nodes_has_a_shape_for_each() -> None:
    spec = graph(
        node("sequence", ["features"], {"kind": "reshape", "shape": [4, 3]}),
        node("turned", ["sequence"], {"kind": "permute", "order": [1, 0]}),
        node("scores", ["sequence", "turned"], {"kind": "matmul"}),
        node("weights", ["scores"], {"kind": "softmax", "axis": 1}),
        node("mixed", ["weights", "sequence"], {"kind": "matmul"}),
        node("last", ["mixed"], {"kind": "select", "axis": 0, "index": -1}),
        node("out", ["last"], LINEAR),
    )
    shapes = [step.shape for step in architecture_of(spec, 12).steps]
    assert shapes == [(4, 3), (3, 4), (4, 4), (4, 4), (4, 3), (3,), (1,)]
    assert build(spec, 12)(torch.zeros(2, 12, dtype=torch.float64)).shape == (2, 1)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("a", ["b"], LINEAR), node("b", ["a"], LINEAR)], "no node above it is called 'b'"),
        ([node("a", ["a"], LINEAR)], "no node above it is called 'a'"),
        ([node("a", ["features"], LINEAR), node("a", ["a"], LINEAR)], "name 'a' is taken"),
        ([node("features", ["features"], LINEAR)], "name 'features' is taken"),
        ([node("__class__", ["features"], LINEAR)], "pattern"),
        ([node("a.b", ["features"], LINEAR)], "pattern"),
        ([node("a", ["features"] * 17, {"kind": "concatenate", "axis": 0})], "at most 16 items"),
        ([node("a", ["features"], {"kind": "attention", "heads": 1})], "expected tags"),
        ([node("a", ["features"], {"kind": "scale", "factor": math.nan})], "finite"),
        ([node("a", ["features"], {"kind": "select", "axis": -1, "index": 0})], "greater than"),
        ([node(f"n{i}", ["features"], LINEAR) for i in range(1001)], "at most 1000 items"),
    ],
)
def test_refuses_a_graph_that_is_no_graph_as_it_is_read(nodes: list[Raw], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        graph(*nodes)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (
            [node("a", ["features"], LINEAR), node("b", ["features"], LINEAR)],
            r"nodes\[0\].linear \(a\): nothing reads its value",
        ),
        (
            [
                node("row", ["features"], {"kind": "reshape", "shape": [1, 4]}),
                node("sum", ["row", "features"], {"kind": "add"}),
                node("out", ["sum"], LINEAR),
            ],
            r"\(sum\): expects two values of equal rank; \[1, 4\] and \[4\] arrived",
        ),
        ([node("a", ["features"], {"kind": "add"})], "combines values; 1 arrived"),
        ([node("a", ["features", "features"], LINEAR)], "takes one value; 2 arrived"),
        ([node("a", [], LINEAR)], "takes one value; 0 arrived"),
        (
            [
                node("row", ["features"], {"kind": "reshape", "shape": [2, 2]}),
                node("a", ["row", "features"], {"kind": "matmul"}),
            ],
            r"expects \[..., m, k\] and \[..., k, n\]; \[2, 2\] and \[4\] arrived",
        ),
        ([node("a", ["features"], {"kind": "flatten"})], r"ends with \[4\]"),
        ([], r"ends with \[4\]"),
    ],
)
def test_an_error_names_the_node_and_what_arrived(nodes: list[Raw], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parameter_count(graph(*nodes), 4)


def test_bounds_values_that_grow_by_broadcasting() -> None:
    spec = graph(
        node("tall", ["features"], {"kind": "reshape", "shape": [4096, 1]}),
        node("wide", ["features"], {"kind": "reshape", "shape": [1, 4096]}),
        node("square", ["tall", "wide"], {"kind": "add"}),
        node("flat", ["square"], {"kind": "flatten"}),
        node("out", ["flat"], LINEAR),
    )
    with pytest.raises(InputError, match=r"\(square\): .*at most 4,194,304 values a record"):
        parameter_count(spec, 4096)
    assert parameter_count(graph(node("out", ["features"], LINEAR)), 4096) == 4097


def test_bounds_products_that_grow_by_doubling() -> None:
    square: list[Raw] = [node("m0", ["features"], {"kind": "reshape", "shape": [600, 600]})]
    square += [node(f"m{i}", [f"m{i - 1}"] * 2, {"kind": "matmul"}) for i in range(1, 11)]
    with pytest.raises(InputError, match=r"\(m10\): .*multiplications a record"):
        parameter_count(graph(*square), 360_000)


def test_a_graph_is_read_from_json_as_from_python() -> None:
    spec = graph(node("out", ["features"], LINEAR))
    assert isinstance(spec, GraphSpec)
    assert SPECS.validate_json(SPECS.dump_json(spec)) == spec


_SIZES = st.sampled_from([-1, 0, 1, 2, 3, 64, 4096, 10**9, 10**30])
_OPERATIONS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(
            [
                "linear",
                "conv1d",
                "conv2d",
                "layer_norm",
                "group_norm",
                "lstm",
                "gru",
                "embedding",
                "positional_embedding",
                "softmax",
                "scale",
                "max_pool1d",
                "max_pool2d",
                "avg_pool2d",
                "global_avg_pool",
                "flatten",
                "reshape",
                "permute",
                "mean",
                "select",
                "add",
                "multiply",
                "concatenate",
                "matmul",
            ]
        )
    },
    optional={
        "outputs": _SIZES,
        "channels": _SIZES,
        "kernel": _SIZES,
        "stride": _SIZES,
        "padding": _SIZES,
        "groups": _SIZES,
        "hidden": _SIZES,
        "vocabulary": _SIZES,
        "width": _SIZES,
        "axis": _SIZES,
        "index": _SIZES,
        "axes": st.lists(_SIZES, max_size=5) | _SIZES,
        "shape": st.lists(_SIZES, max_size=5),
        "order": st.lists(_SIZES, max_size=5),
        "factor": st.floats(),
    },
)


def _fields_of(operation: Raw) -> Raw:
    """The drawn fields that the kind has: others would be refused before anything is tried."""
    kinds = {model.model_fields["kind"].annotation: model for model in get_args(Operation)}
    known = next(model for kind, model in kinds.items() if get_args(kind) == (operation["kind"],))
    return {name: value for name, value in operation.items() if name in known.model_fields}


@settings(deadline=None, max_examples=300)
@given(
    operations=st.lists(st.tuples(_OPERATIONS, st.integers(-1, 8), st.integers(-1, 8)), max_size=8),
    feature_count=_SIZES,
)
def test_any_graph_is_either_a_model_or_refused(
    operations: list[tuple[Raw, int, int]], feature_count: int
) -> None:
    pairs = {"add", "multiply", "concatenate", "matmul"}
    nodes: list[Raw] = []
    for index, (operation, first, second) in enumerate(operations):
        inputs = [f"n{first}" if 0 <= first < index else "features"]
        inputs += [f"n{second}" if 0 <= second < index else "features"] * (
            operation["kind"] in pairs
        )
        nodes.append(node(f"n{index}", inputs, _fields_of(operation)))
    try:
        architecture = architecture_of(graph(*nodes), feature_count)
    except (ValidationError, InputError):
        return
    assert 0 < architecture.parameter_count <= MAX_PARAMETERS
    assert architecture.activation_count <= MAX_ACTIVATIONS
