"""No combination of the engine's public options has one of the known faults of DP trainers.

The faults themselves, and that each is found, are in tests/audit/test_zoo_bugs.py.
"""

import inspect
import json
from collections.abc import Iterator
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sordino_audit.probes.suite import EXACT, RANDOM
from sordino_audit.probes.trainer import Case, engine
from sordino_client.training import arithmetic, clipping, network, noise, sampling, steps
from sordino_client.training.arithmetic import Performance
from sordino_protocols.clipping import (
    AdaptiveClipping,
    FlatClipping,
    NormalizedClipping,
    PerLayerClipping,
)
from sordino_protocols.job import JobFile
from sordino_protocols.local_training import Augmentation, LocalAdam, LocalSgd
from sordino_protocols.models import ModelSpec
from sordino_protocols.plan import TrainingPlan

_MODELS: tuple[dict[str, object], ...] = (
    {"kind": "logistic"},
    {"kind": "mlp", "hidden": [5, 4], "activation": "tanh"},
    {
        "kind": "layers",
        "layers": [
            {"kind": "reshape", "shape": [1, 6, 6]},
            {"kind": "conv2d", "channels": 4, "kernel": [3, 3]},
            {"kind": "group_norm", "groups": 2},
            {"kind": "activation", "function": "relu"},
            {"kind": "flatten"},
            {"kind": "linear", "outputs": 1},
        ],
    },
    {
        "kind": "layers",
        "layers": [
            {"kind": "reshape", "shape": [6, 6]},
            {"kind": "gru", "hidden": 4, "output": "sequence"},
            {"kind": "layer_norm"},
            {"kind": "mean"},
            {"kind": "linear", "outputs": 1},
        ],
    },
)

_RULES = st.one_of(
    st.just(FlatClipping()),
    st.just(PerLayerClipping(kind="per_layer")),
    st.builds(NormalizedClipping, kind=st.just("normalized"), stability=st.floats(1e-3, 1.0)),
    st.builds(
        AdaptiveClipping,
        kind=st.just("adaptive"),
        quantile=st.floats(0.1, 0.9),
        share=st.floats(0.05, 0.5),
    ),
)
_OPTIMIZERS = st.one_of(
    st.builds(LocalSgd, kind=st.just("sgd"), momentum=st.floats(0, 0.95)),
    st.builds(LocalAdam, kind=st.just("adam")),
)
_VIEWS = st.none() | st.builds(
    Augmentation,
    image=st.just((1, 6, 6)),
    views=st.integers(1, 3),
    shift=st.integers(0, 2),
    flip=st.booleans(),
)
# Every field of a plan, and every way to set it: a field that is missing here fails a test below.
_PLAN_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "sampling_rate": st.sampled_from([1.0, 0.3]),
    "noise_multiplier": st.sampled_from([0.5, 3.0]),
    "clipping_norm": st.sampled_from([1e-3, 0.7, 50.0]),
    "rounds": st.just(3),
    "local_steps": st.integers(1, 3),
    "local_learning_rate": st.sampled_from([0.01, 1.0]),
    "lanes": st.just(4),
    "lane_groups": st.integers(1, 3),
    "clipping": _RULES,
    "update": st.sampled_from(["sum", "delta"]),
    "local_optimizer": _OPTIMIZERS,
    "unit": st.sampled_from(["record", "entity"]),
    "records_per_unit": st.integers(1, 3),
    "augmentation": _VIEWS,
    "loss": st.sampled_from(["binary", "squared"]),
}
_PERFORMANCE_FIELDS: dict[str, st.SearchStrategy[object]] = {
    "precision": st.sampled_from(["automatic", "single", "double"]),
    "reduced_products": st.booleans(),
}


def _model(raw: dict[str, object]) -> ModelSpec:
    spec: ModelSpec = TypeAdapter(ModelSpec).validate_json(json.dumps(raw))
    return spec


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any combination of options."""
    options = {name: draw(strategy) for name, strategy in _PLAN_FIELDS.items()}
    if options["unit"] == "record":
        options["records_per_unit"] = 1
    return Case(
        name="any",
        model=_model(draw(st.sampled_from(_MODELS))),
        plan=TypeAdapter(TrainingPlan).validate_python(options),
        performance=TypeAdapter(Performance).validate_python(
            {name: draw(strategy) for name, strategy in _PERFORMANCE_FIELDS.items()}
        ),
        seed=draw(st.integers(0, 2**16)),
    )


@pytest.mark.parametrize("name", [*EXACT, *RANDOM])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases())
def test_no_combination_of_options_has_a_known_fault(name: str, case: Case) -> None:
    found = {**EXACT, **RANDOM}[name](engine, case)
    assert found is None or found.is_passed, found


def test_every_option_takes_part() -> None:
    assert set(_PLAN_FIELDS) == {field.name for field in fields(TrainingPlan)}
    # Devices and compilers are not on every machine: tests of their own compare them.
    machine = {"device", "compile"}
    assert set(_PERFORMANCE_FIELDS) == {field.name for field in fields(Performance)} - machine
    of_rules = {rule.__name__ for rule in (FlatClipping, PerLayerClipping)} | {
        "NormalizedClipping",
        "AdaptiveClipping",
    }
    schema = json.dumps(TypeAdapter(TrainingPlan).json_schema())
    assert all(name in schema for name in of_rules)


def test_no_option_of_a_job_is_a_seed_or_turns_privacy_off() -> None:
    keys = set(_keys(JobFile.model_json_schema()))
    assert {"clipping_norm", "sampling_rate", "views", "epsilon"} <= keys
    forbidden = ("seed", "noise", "disable", "private", "poisson", "accountant")
    assert not {key for key in keys if any(word in key for word in forbidden)}


def _keys(schema: object) -> Iterator[str]:
    """Every key that a person may write."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for below in schema.values():
            yield from _keys(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from _keys(below)


def test_no_function_of_the_engine_takes_a_seed() -> None:
    for module in (arithmetic, clipping, network, noise, sampling, steps):
        for name, member in inspect.getmembers(module):
            if callable(member) and getattr(member, "__module__", "") == module.__name__:
                parameters = inspect.signature(member).parameters
                assert not {each for each in parameters if "seed" in each}, name


def test_options_for_speed_are_not_in_the_plan() -> None:
    of_plan = {field.name for field in fields(TrainingPlan)}
    assert not of_plan & {field.name for field in fields(Performance)}
    assert "performance" not in inspect.signature(TrainingPlan.event_after).parameters
