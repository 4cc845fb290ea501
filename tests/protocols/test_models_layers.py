import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_stacks import SPECS, Raw, layers_spec, stacks
from pydantic import ValidationError
from torch import Tensor, nn

from sordino_protocols.architecture import MAX_PARAMETERS
from sordino_protocols.errors import InputError
from sordino_protocols.models import (
    FloatVector,
    LayersSpec,
    architecture_of,
    initial_weights,
    parameter_count,
)
from sordino_protocols.networks import Network, build, flatten, load_flat

LINEAR: Raw = {"kind": "linear", "outputs": 1}


def built(layers: list[Raw], feature_count: int, *, outputs: int = 1) -> nn.Module:
    return build(layers_spec(layers, outputs=outputs), feature_count)


def random_vector(size: int) -> FloatVector:
    return np.random.default_rng(0).standard_normal(size) / 2


def random_records(count: int, feature_count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((count, feature_count)))


def observed_shapes(module: nn.Module, records: Tensor) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    steps = module.steps if isinstance(module, Network) else module.children()
    for step in steps:
        step.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape)))
    module(records)
    return shapes


@settings(deadline=None)
@given(drawn=stacks())
def test_inferred_shapes_are_those_that_torch_computes(drawn: tuple[LayersSpec, int]) -> None:
    spec, feature_count = drawn
    expected = [(2, *step.shape) for step in architecture_of(spec, feature_count).steps]
    records = random_records(2, feature_count)
    assert observed_shapes(build(spec, feature_count), records) == expected


@settings(deadline=None)
@given(drawn=stacks())
def test_layout_is_that_of_the_module_and_vectors_convert_both_ways(
    drawn: tuple[LayersSpec, int],
) -> None:
    spec, feature_count = drawn
    module = build(spec, feature_count)
    declared = [p.shape for p in architecture_of(spec, feature_count).parameters]
    assert [tuple(p.shape) for p in module.parameters()] == declared
    vector = random_vector(parameter_count(spec, feature_count))
    load_flat(module, vector)
    assert np.array_equal(flatten(module), vector)


@settings(deadline=None)
@given(drawn=stacks(), replacement=st.floats(-9, 9))
def test_no_record_changes_what_the_model_says_of_another(
    drawn: tuple[LayersSpec, int], replacement: float
) -> None:
    spec, feature_count = drawn
    module = build(spec, feature_count)
    load_flat(module, random_vector(parameter_count(spec, feature_count)))
    records = random_records(3, feature_count)
    before = module(records)[[0, 2]]
    records[1] = replacement
    assert torch.allclose(module(records)[[0, 2]], before, rtol=1e-9, atol=1e-12)


@settings(deadline=None)
@given(drawn=stacks())
def test_a_spec_survives_json_and_costs_are_positive(drawn: tuple[LayersSpec, int]) -> None:
    spec, feature_count = drawn
    assert SPECS.validate_json(SPECS.dump_json(spec)) == spec
    architecture = architecture_of(spec, feature_count)
    assert architecture.activation_count >= len(architecture.steps)
    assert architecture.parameter_count == len(initial_weights(spec, feature_count, seed=b"x"))


def test_a_model_without_branches_is_sequential_and_one_with_them_a_network() -> None:
    assert isinstance(built([LINEAR], 3), nn.Sequential)
    block: Raw = {"kind": "residual", "layers": [{"kind": "linear", "outputs": 3}]}
    assert isinstance(built([block, LINEAR], 3), Network)


def test_residual_adds_what_arrived_or_its_projection() -> None:
    plain: Raw = {"kind": "residual", "layers": [{"kind": "scale", "factor": 2.0}]}
    projected: Raw = {
        "kind": "residual",
        "layers": [{"kind": "linear", "outputs": 1}],
        "projection": [{"kind": "linear", "outputs": 1, "bias": False}],
    }
    module = built([plain, projected], 2)
    load_flat(module, np.array([1.0, 10.0, 0.5, 100.0, 1000.0]))
    # 3 * (1, 2) -> (3 + 60 + 0.5) + (300 + 6000)
    assert module(torch.tensor([[1.0, 2.0]], dtype=torch.float64)).item() == 63.5 + 6300


def test_attention_is_torchs_multihead_attention() -> None:
    steps, width, heads = 5, 6, 3
    layers: list[Raw] = [
        {"kind": "reshape", "shape": [steps, width]},
        {"kind": "attention", "heads": heads},
        {"kind": "flatten"},
        {"kind": "linear", "outputs": 1},
    ]
    module = built(layers, steps * width)
    weights = random_vector(sum(p.numel() for p in module.parameters()))
    load_flat(module, weights)
    reference = nn.MultiheadAttention(width, heads, batch_first=True, dtype=torch.float64)
    query, key, value, output = [m for m in module.modules() if isinstance(m, nn.Linear)][:4]
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([query.weight, key.weight, value.weight]))
        reference.in_proj_bias.copy_(torch.cat([query.bias, key.bias, value.bias]))
        reference.out_proj.load_state_dict(output.state_dict())
    records = random_records(2, steps * width)
    sequence = records.reshape(2, steps, width)
    expected = reference(sequence, sequence, sequence, need_weights=False)[0]
    last = next(m for m in reversed(list(module.modules())) if isinstance(m, nn.Linear))
    assert torch.allclose(module(records), last(expected.flatten(1)))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_last_state_of_a_recurrent_layer_is_torchs(kind: str) -> None:
    recurrent: Raw = {"kind": kind, "hidden": 4, "layers": 2}
    module = built([{"kind": "reshape", "shape": [5, 3]}, recurrent, LINEAR], 15)
    load_flat(module, random_vector(sum(p.numel() for p in module.parameters())))
    layer = next(m for m in module.modules() if isinstance(m, nn.LSTM | nn.GRU))
    head = next(m for m in module.modules() if isinstance(m, nn.Linear))
    records = random_records(2, 15)
    state = layer(records.reshape(2, 5, 3))[1]
    hidden = state[0] if kind == "lstm" else state
    assert torch.equal(module(records), head(hidden[-1]))


def test_no_value_of_a_record_can_stop_an_embedding() -> None:
    tokens: Raw = {"kind": "embedding", "vocabulary": 3, "width": 1}
    module = built([tokens, {"kind": "flatten"}, LINEAR], 1)
    load_flat(module, np.array([10.0, 20.0, 30.0, 1.0, 0.0]))
    odd = torch.tensor([[math.nan], [-math.inf], [-4.0], [1.2], [7.0], [math.inf], [1e300]])
    expected = [10.0, 10.0, 10.0, 20.0, 30.0, 30.0, 30.0]
    assert module(odd.to(torch.float64))[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [{"kind": "linear", "outputs": 3}, {"kind": "conv2d", "channels": 2, "kernel": 3}],
            r"layers\[1\].conv2d: expects \[channels, height, width\] a record; \[3\] arrived",
        ),
        ([{"kind": "reshape", "shape": [5, 5]}], r"\[5, 5\] holds 25 values; \[12\] with 12"),
        (
            [
                {"kind": "reshape", "shape": [3, 2, 2]},
                {
                    "kind": "residual",
                    "layers": [{"kind": "conv2d", "channels": 4, "kernel": 2, "padding": 1}],
                },
            ],
            r"layers\[1\].residual: .*\[4, 3, 3\] and \[3, 2, 2\] arrived: give .* projection",
        ),
        (
            [{"kind": "residual", "layers": [{"kind": "lstm", "hidden": 2}]}],
            r"layers\[0\].residual.layers\[0\].lstm: expects \[steps, features\]",
        ),
        (
            [{"kind": "reshape", "shape": [3, 4]}, {"kind": "attention", "heads": 3}],
            r"layers\[1\].attention: 3 heads must divide a width .* it is 4",
        ),
        (
            [{"kind": "reshape", "shape": [3, 2, 2]}, {"kind": "max_pool2d", "kernel": 3}],
            r"a window of \[3, 3\] with padding \[0, 0\] does not fit into \[2, 2\]",
        ),
        (
            [{"kind": "reshape", "shape": [3, 4]}, {"kind": "group_norm", "groups": 2}],
            r"2 groups do not divide the channels; \[3, 4\] arrived",
        ),
        (
            [
                {"kind": "linear", "outputs": 3},
                {"kind": "embedding", "vocabulary": 9, "width": 2},
            ],
            r"layers\[1\].embedding: reads whole numbers of the features",
        ),
        ([{"kind": "linear", "outputs": 4}], r"ends with \[4\] a record; expected \[1\]"),
        ([{"kind": "flatten"}, {"kind": "mean"}], r"axes must differ and leave one"),
        ([{"kind": "reshape", "shape": [12, 1]}, {"kind": "mean"}], "has no weights"),
        ([], r"ends with \[12\]"),
    ],
)
def test_an_error_names_the_layer_and_what_arrived(layers: list[Raw], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parameter_count(layers_spec(layers), 12)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"kind": "dropout", "p": 0.1}, "dropout is not allowed: its masks are random"),
        ({"kind": "batch_norm"}, "mixes the records of a batch.*use group_norm"),
        ({"kind": "linear", "outputs": -1}, "greater than or equal to 1"),
        ({"kind": "linear", "outputs": 10**12}, "less than or equal to 4096"),
        ({"kind": "linear", "outputs": 2.0}, "valid integer"),
        ({"kind": "linear", "outputs": 2, "device": "cuda"}, "Extra inputs"),
        ({"kind": "conv2d", "channels": 2, "kernel": 3, "stride": -1}, "greater than or equal"),
        ({"kind": "conv2d", "channels": 2, "kernel": [3, 3, 3]}, "at most 2 items"),
        ({"kind": "conv2d", "channels": 2, "kernel": True}, "one whole number, or two"),
        ({"kind": "reshape", "shape": [-1, 2]}, "greater than or equal"),
        ({"kind": "reshape", "shape": [2, 2, 2, 2, 2]}, "at most 4 items"),
        ({"kind": "scale", "factor": math.nan}, "finite number"),
        ({"kind": "scale", "factor": math.inf}, "finite number|less than"),
        ({"kind": "layer_norm", "epsilon": 0.0}, "greater than 0"),
        ({"kind": "os.system"}, "does not match any of the expected tags"),
        ({"kind": ["linear"]}, "expected tags|Unable to extract tag"),
        ("linear", "Unable to extract tag|dictionary"),
    ],
)
def test_refuses_a_hostile_layer_as_it_is_read(layer: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SPECS.validate_python({"kind": "layers", "layers": [layer]})


def test_refuses_nesting_by_its_second_level() -> None:
    inner = '{"kind":"residual","layers":['
    with pytest.raises(ValidationError, match="does not match any of the expected tags"):
        SPECS.validate_json('{"kind":"layers","layers":[' + 2 * inner + 2 * "]}" + "]}")
    depth = 100_000
    with pytest.raises(ValidationError):
        SPECS.validate_json('{"kind":"layers","layers":[' + depth * inner + depth * "]}" + "]}")


def test_refuses_more_layers_than_a_person_would_write() -> None:
    flatten_layer = {"kind": "flatten"}
    with pytest.raises(ValidationError, match="at most 128 items"):
        SPECS.validate_python({"kind": "layers", "layers": [flatten_layer] * 129})


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"kind": "linear", "outputs": 4096}] * 3, f"at most {MAX_PARAMETERS:,} parameters"),
        ([{"kind": "embedding", "vocabulary": 2**22, "width": 4096}], "parameters"),
        (
            [
                {"kind": "reshape", "shape": [1, 64, 64]},
                {"kind": "conv2d", "channels": 4096, "kernel": 1},
            ],
            "at most 4,194,304 values a record",
        ),
        (
            [
                {"kind": "reshape", "shape": [64, 8, 8]},
                *[{"kind": "conv2d", "channels": 64, "kernel": 9, "padding": 63}] * 5,
            ],
            "at most 2,147,483,648 multiplications a record",
        ),
        (
            [{"kind": "reshape", "shape": [4096, 1]}, {"kind": "attention", "heads": 1}],
            r"layers\[1\].attention: .*values a record",
        ),
    ],
)
def test_bounds_what_a_spec_may_cost_before_a_tensor_exists(
    layers: list[Raw], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parameter_count(layers_spec(layers), 4096)


def test_square_windows_have_one_canonical_form() -> None:
    short = layers_spec([{"kind": "conv2d", "channels": 2, "kernel": 3}])
    long = layers_spec([{"kind": "conv2d", "channels": 2, "kernel": [3, 3], "stride": [1, 1]}])
    assert SPECS.dump_json(short) == SPECS.dump_json(long)


def test_reading_and_initialising_any_kind_does_not_import_torch() -> None:
    tokens = {"kind": "tokens", "vocabulary": 9, "width": 4}
    specs = [
        ({"kind": "cnn"}, 784),
        ({"kind": "resnet"}, 3072),
        ({"kind": "lstm", "input": tokens, "hidden": 4}, 5),
        (
            {
                "kind": "transformer",
                "input": tokens,
                "width": 4,
                "heads": 2,
                "blocks": 1,
                "hidden": 8,
            },
            5,
        ),
        (
            {
                "kind": "graph",
                "nodes": [{"name": "a", "inputs": ["features"], "operation": LINEAR}],
            },
            5,
        ),
    ]
    program = f"""
import json, sys
from pydantic import TypeAdapter
from sordino_protocols.models import ModelSpec, initial_weights
for raw, features in json.loads({json.dumps(specs)!r}):
    initial_weights(TypeAdapter(ModelSpec).validate_python(raw), features, seed=b"x")
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
