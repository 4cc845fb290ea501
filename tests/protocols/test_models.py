import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sordino_protocols.errors import InputError
from sordino_protocols.models import (
    MAX_PARAMETERS,
    LogisticSpec,
    MlpSpec,
    ModelSpec,
    initial_weights,
    layers,
    parameter_count,
)
from sordino_protocols.networks import build, flatten, load_flat

SPECS: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)
LOGISTIC = LogisticSpec(kind="logistic")

specs = st.one_of(
    st.just(LOGISTIC),
    st.builds(
        MlpSpec,
        kind=st.just("mlp"),
        hidden=st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
        activation=st.sampled_from(["tanh", "relu"]),
    ),
)


@settings(deadline=None)
@given(spec=specs, feature_count=st.integers(1, 12))
def test_flat_vector_and_module_convert_into_each_other(
    spec: ModelSpec, feature_count: int
) -> None:
    module = build(spec, feature_count)
    vector = np.random.default_rng(0).standard_normal(parameter_count(spec, feature_count))
    load_flat(module, vector)
    assert np.array_equal(flatten(module), vector)


@settings(deadline=None)
@given(spec=specs, feature_count=st.integers(1, 12))
def test_layout_is_weight_then_bias_of_each_layer(spec: ModelSpec, feature_count: int) -> None:
    module = build(spec, feature_count)
    shapes = [tuple(parameter.shape) for parameter in module.parameters()]
    expected: list[tuple[int, ...]] = []
    for shape in layers(spec, feature_count):
        expected += [(shape.outputs, shape.inputs), (shape.outputs,)]
    assert shapes == expected


def test_logistic_regression_starts_at_zero_and_gives_one_logit() -> None:
    assert not initial_weights(LOGISTIC, 24, seed=b"any").any()
    assert build(LOGISTIC, 24)(torch.zeros(3, 24, dtype=torch.float64)).shape == (3, 1)


def test_initial_weights_are_public_bounded_and_differ_by_seed() -> None:
    spec = MlpSpec(kind="mlp", hidden=(8,), activation="tanh")
    first = initial_weights(spec, 24, seed=b"job")
    assert np.array_equal(first, initial_weights(spec, 24, seed=b"job"))
    assert not np.array_equal(first, initial_weights(spec, 24, seed=b"another job"))
    bound = np.sqrt(6 / 32)
    assert np.abs(first[: 24 * 8]).max() <= bound
    assert np.abs(first[: 24 * 8]).max() > 0.9 * bound
    assert not first[24 * 8 : 24 * 8 + 8].any()
    # The same on every machine, for ever: models are compared across versions.
    assert np.allclose(first[:3], [0.18638635, 0.18389729, -0.07443543], atol=1e-8)


def test_building_a_module_leaves_torchs_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    build(MlpSpec(kind="mlp", hidden=(8,), activation="relu"), 5)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "transformer"},
        {},
        {"kind": "logistic", "hidden": [3]},
        {"kind": "mlp", "hidden": [], "activation": "tanh"},
        {"kind": "mlp", "hidden": ["8"], "activation": "tanh"},
        {"kind": "mlp", "hidden": [True], "activation": "tanh"},
        {"kind": "mlp", "hidden": [0], "activation": "tanh"},
        {"kind": "mlp", "hidden": [8], "activation": "os.system"},
        {"kind": "mlp", "hidden": [8]},
    ],
)
def test_refuses_what_is_not_on_the_allow_list(raw: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SPECS.validate_python(raw)


def test_reads_a_list_from_toml_and_json_alike() -> None:
    spec = SPECS.validate_python({"kind": "mlp", "hidden": [8, 4], "activation": "tanh"})
    assert SPECS.validate_json(SPECS.dump_json(spec)) == spec


def test_refuses_too_many_parameters_with_the_fix() -> None:
    spec = MlpSpec(kind="mlp", hidden=(4096, 4096), activation="tanh")
    with pytest.raises(InputError, match=f"at most {MAX_PARAMETERS:,}.*narrower"):
        parameter_count(spec, 10)
    with pytest.raises(InputError, match="feature_count"):
        parameter_count(LOGISTIC, 0)


def test_refuses_a_vector_of_another_length() -> None:
    with pytest.raises(ValueError, match="holds 25"):
        load_flat(build(LOGISTIC, 24), np.zeros(24))


def test_reading_a_spec_does_not_import_torch() -> None:
    program = "import sys, sordino_protocols.models; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
