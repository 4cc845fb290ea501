"""Random model specs for property tests: what is drawn always fits together."""

import math
from typing import cast

from hypothesis import strategies as st
from pydantic import TypeAdapter

from sordino_protocols.architecture import Architecture
from sordino_protocols.errors import InputError
from sordino_protocols.models import LayersSpec, ModelSpec, architecture_of

SPECS: TypeAdapter[ModelSpec] = TypeAdapter(ModelSpec)

Raw = dict[str, object]

_small = st.integers(1, 4)
_kernel = st.integers(1, 3)
_axis = st.integers(0, 2)


def _of(kind: str, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Raw]:
    return st.fixed_dictionaries({"kind": st.just(kind), **fields})


_LAYERS: st.SearchStrategy[Raw] = st.one_of(
    _of("linear", outputs=_small, bias=st.booleans()),
    _of("conv1d", channels=_small, kernel=_kernel, stride=_kernel, padding=st.integers(0, 2)),
    _of("conv2d", channels=_small, kernel=_kernel, stride=_kernel, padding=st.integers(0, 2)),
    _of("conv2d", channels=st.just(4), kernel=st.just([1, 2]), groups=st.sampled_from([1, 2, 4])),
    _of("max_pool1d", kernel=_kernel, stride=_kernel, padding=st.integers(0, 1)),
    _of("max_pool2d", kernel=_kernel, padding=st.integers(0, 1)),
    _of("avg_pool1d", kernel=_kernel, padding=st.integers(0, 1)),
    _of("avg_pool2d", kernel=_kernel, stride=_kernel, padding=st.integers(0, 1)),
    _of("global_avg_pool"),
    _of("layer_norm", axes=st.integers(1, 3), affine=st.booleans()),
    _of("group_norm", groups=_small, affine=st.booleans()),
    _of(
        "lstm",
        hidden=_small,
        layers=st.integers(1, 2),
        output=st.sampled_from(["last", "sequence"]),
    ),
    _of(
        "gru", hidden=_small, layers=st.integers(1, 2), output=st.sampled_from(["last", "sequence"])
    ),
    _of("attention", heads=st.integers(1, 2)),
    _of("positional_embedding"),
    _of(
        "activation",
        function=st.sampled_from(["tanh", "sigmoid", "relu", "gelu", "gelu_tanh", "silu", "elu"]),
    ),
    _of("softmax", axis=_axis),
    _of("scale", factor=st.floats(-2, 2).filter(bool)),
    _of("flatten"),
    _of("permute", order=st.sampled_from([[1, 0], [2, 0, 1], [0, 2, 1]])),
    _of("select", axis=_axis, index=st.integers(-2, 1)),
    _of("slice", axis=_axis, start=st.integers(0, 2), stop=st.integers(1, 4)),
    _of("one_hot_embedding", width=_small),
    _of("mean", axes=st.sampled_from([[0], [1], [0, 1], [1, 2]])),
)
_STARTS: list[list[int]] = [[6], [12], [3, 4], [5, 2], [1, 6, 6], [3, 4, 5], [2, 2, 2, 3]]


def layers_spec(layers: list[Raw], *, outputs: int = 1) -> LayersSpec:
    """A spec of kind `layers`, read as a job's would be."""
    raw = {"kind": "layers", "layers": layers, "outputs": outputs}
    return cast("LayersSpec", SPECS.validate_python(raw))


def _fits(layers: list[Raw], feature_count: int) -> bool:
    try:
        architecture_of(layers_spec(layers), feature_count)
    except InputError as error:
        # Only the end of the model is missing.
        return "ends with" in str(error) or "no weights" in str(error)
    return True


@st.composite
def stacks(draw: st.DrawFn) -> tuple[LayersSpec, int]:
    """A random stack of layers and residual blocks that fits, and its number of features."""
    start = draw(st.sampled_from(_STARTS))
    feature_count = math.prod(start)
    layers: list[Raw] = [{"kind": "reshape", "shape": start}]
    for layer in draw(st.lists(_LAYERS, min_size=3, max_size=10)):
        wrapped: Raw = {"kind": "residual", "layers": [layer]}
        candidate = wrapped if draw(st.booleans()) else layer
        for each in (candidate, layer):
            if _fits([*layers, each], feature_count):
                layers = [*layers, each]
                break
    outputs = draw(st.integers(1, 3))
    tail: list[Raw] = [{"kind": "flatten"}, {"kind": "linear", "outputs": outputs}]
    return layers_spec([*layers, *tail], outputs=outputs), feature_count


def shapes_of(architecture: Architecture) -> list[tuple[int, ...]]:
    """What each step gives for one record."""
    return [step.shape for step in architecture.steps]
