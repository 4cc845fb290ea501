import hashlib
import math

import numpy as np
import pytest
import torch
from model_stacks import SPECS, Raw, layers_spec
from pydantic import ValidationError
from torch import nn

from sordino_protocols.errors import InputError
from sordino_protocols.models import (
    CnnSpec,
    FloatVector,
    LogisticSpec,
    MlpSpec,
    ModelSpec,
    ResnetSpec,
    architecture_of,
    initial_weights,
    layers,
    parameter_count,
)
from sordino_protocols.networks import build, flatten, load_flat

TOKENS: Raw = {"kind": "tokens", "vocabulary": 11, "width": 8}
SERIES: Raw = {"kind": "series", "steps": 6, "channels": 3}
TRANSFORMER: Raw = {"width": 8, "heads": 2, "blocks": 2, "hidden": 16}
PRESETS: list[tuple[Raw, int]] = [
    ({"kind": "cnn", "outputs": 10}, 784),
    ({"kind": "cnn", "image": [3, 20, 24], "activation": "silu"}, 1440),
    ({"kind": "resnet", "outputs": 10}, 3072),
    ({"kind": "resnet", "image": [1, 9, 7], "blocks": 2, "width": 4, "groups": 2}, 63),
    ({"kind": "lstm", "input": TOKENS, "hidden": 5}, 7),
    ({"kind": "lstm", "input": SERIES, "hidden": 5, "layers": 2, "outputs": 3}, 18),
    ({"kind": "gru", "input": TOKENS, "hidden": 5}, 7),
    ({"kind": "gru", "input": SERIES, "hidden": 5}, 18),
    ({"kind": "transformer", "input": TOKENS, **TRANSFORMER}, 7),
    ({"kind": "transformer", "input": SERIES, "outputs": 4, **TRANSFORMER}, 18),
]


def tensors_of(spec: ModelSpec, feature_count: int, *, seed: bytes) -> list[FloatVector]:
    vector = initial_weights(spec, feature_count, seed=seed)
    sizes = [p.size for p in architecture_of(spec, feature_count).parameters]
    return np.split(vector, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize(("raw", "feature_count"), PRESETS)
def test_a_preset_is_built_initialised_and_gives_its_outputs(raw: Raw, feature_count: int) -> None:
    spec = SPECS.validate_python(raw)
    assert SPECS.validate_json(SPECS.dump_json(spec)) == spec
    module = build(spec, feature_count)
    weights = initial_weights(spec, feature_count, seed=b"job")
    load_flat(module, weights)
    assert np.array_equal(flatten(module), weights)
    records = torch.from_numpy(np.random.default_rng(0).integers(0, 11, (5, feature_count)))
    output = module(records.to(torch.float64))
    assert output.shape == (5, raw.get("outputs", 1))
    # Initial weights that say something of every record: no dead or exploding network.
    assert 1e-3 < output.std() < 1e2


def test_sizes_are_those_of_the_papers() -> None:
    assert parameter_count(CnnSpec(kind="cnn", outputs=10), 784) == 26_010
    resnet = ResnetSpec(kind="resnet", outputs=10)
    architecture = architecture_of(resnet, 3072)
    kinds = [step.operation.kind for step in architecture.steps]
    projections = 2
    assert kinds.count("conv2d") + kinds.count("linear") - projections == 8
    deeper = architecture_of(ResnetSpec(kind="resnet", blocks=3), 3072)
    kinds = [step.operation.kind for step in deeper.steps]
    assert kinds.count("conv2d") + kinds.count("linear") - projections == 20


def test_the_whole_transformer_is_of_layers_with_per_unit_gradients() -> None:
    spec = SPECS.validate_python({"kind": "transformer", "input": TOKENS, **TRANSFORMER})
    owners = {
        type(module)
        for module in build(spec, 7).modules()
        if any(True for _ in module.parameters(recurse=False))
    }
    assert owners == {nn.Linear, nn.LayerNorm, nn.Embedding}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"kind": "resnet", "width": 16, "groups": 3}, "groups must divide width"),
        ({"kind": "transformer", "input": SERIES, **TRANSFORMER, "heads": 3}, "heads must divide"),
        (
            {"kind": "transformer", "input": {**TOKENS, "width": 4}, **TRANSFORMER},
            "input.width must be width",
        ),
        ({"kind": "transformer", "input": SERIES, **TRANSFORMER, "blocks": 25}, "less than"),
        ({"kind": "lstm", "hidden": 4}, "Field required"),
        ({"kind": "lstm", "input": SERIES, "hidden": 4, "outputs": 0}, "greater than"),
    ],
)
def test_refuses_a_preset_that_does_not_fit_together(raw: Raw, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SPECS.validate_python(raw)


def test_refuses_records_of_another_size_and_says_what_arrived() -> None:
    with pytest.raises(InputError, match=r"model.cnn: layers\[0\].reshape: .* 783 arrived"):
        parameter_count(CnnSpec(kind="cnn"), 783)
    with pytest.raises(InputError, match="window of"):
        parameter_count(CnnSpec(kind="cnn", image=(1, 4, 4)), 16)


def test_logistic_and_mlp_may_have_several_outputs() -> None:
    assert parameter_count(LogisticSpec(kind="logistic", outputs=10), 64) == 650
    spec = MlpSpec(kind="mlp", hidden=(8,), activation="tanh", outputs=3)
    assert [(shape.inputs, shape.outputs) for shape in layers(spec, 4)] == [(4, 8), (8, 3)]
    assert build(spec, 4)(torch.zeros(2, 4, dtype=torch.float64)).shape == (2, 3)


def test_only_plain_stacks_have_linear_layers_to_list() -> None:
    with pytest.raises(InputError, match=r"model.cnn: is no plain stack"):
        layers(CnnSpec(kind="cnn"), 784)


def test_an_mlp_is_the_list_of_layers_that_one_would_write() -> None:
    spec = MlpSpec(kind="mlp", hidden=(8, 4), activation="tanh", outputs=2)
    tanh: Raw = {"kind": "activation", "function": "tanh"}
    widths: list[Raw] = [{"kind": "linear", "outputs": width} for width in (8, 4, 2)]
    written = layers_spec([widths[0], tanh, widths[1], tanh, widths[2]], outputs=2)
    for seed in (b"a", b"b"):
        assert np.array_equal(
            initial_weights(spec, 5, seed=seed), initial_weights(written, 5, seed=seed)
        )


def test_weights_before_a_relu_are_he_uniform_and_others_glorot_uniform() -> None:
    spec = layers_spec(
        [
            {"kind": "linear", "outputs": 64},
            {"kind": "layer_norm"},
            {"kind": "activation", "function": "relu"},
            {"kind": "linear", "outputs": 64},
            {"kind": "activation", "function": "tanh"},
            {"kind": "linear", "outputs": 1},
        ]
    )
    he, bias, scale, shift, glorot, *_ = tensors_of(spec, 100, seed=b"job")
    assert 0.99 * math.sqrt(6 / 100) < np.abs(he).max() <= math.sqrt(6 / 100)
    assert 0.99 * math.sqrt(6 / 128) < np.abs(glorot).max() <= math.sqrt(6 / 128)
    assert not bias.any()
    assert not shift.any()
    assert (scale == 1).all()


def test_a_forget_gate_starts_open_and_rows_of_a_table_at_length_one() -> None:
    spec = SPECS.validate_python({"kind": "lstm", "input": TOKENS, "hidden": 3})
    table, _, _, bias, other, *_ = tensors_of(spec, 7, seed=b"job")
    assert bias.tolist() == [0] * 3 + [1] * 3 + [0] * 6
    assert not other.any()
    squares = (table.reshape(11, 8) ** 2).sum(axis=1)
    assert 0.5 < squares.mean() < 2


def test_initial_weights_are_the_same_for_ever() -> None:
    # Bit for bit: models are compared across machines and versions.
    digests = {
        str(raw["kind"]): hashlib.sha256(
            initial_weights(SPECS.validate_python(raw), features, seed=b"job").tobytes()
        ).hexdigest()[:16]
        for raw, features in PRESETS[::2]
    }
    assert digests == {
        "cnn": "3226833123a0574f",
        "resnet": "81f8919c1bee89c1",
        "lstm": "70c62ce390cf6326",
        "gru": "1e4434dbae12edc3",
        "transformer": "a5fef557a1f30ad8",
    }
