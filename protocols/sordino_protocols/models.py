"""Which models a job may name: declarative data, read without importing torch.

A model is a kind from an allow-list: two that need no more than widths (`logistic`, `mlp`), a list
of `layers`, presets that are such lists under a name, and a `graph` that tracing makes of a PyTorch
module. Every kind is written out into one `Architecture`; every layer in it has per-unit gradients
in the training engine, and nothing is imported because a job says so. A flat vector of float64 is
the one form in which parameters travel: step by step, each tensor row-major in torch's order. What
must stay true: the layout and the initial weights are functions of public data alone, so server,
site and auditor compute the same ones.
"""

import itertools
from dataclasses import dataclass
from typing import Annotated, Literal, assert_never

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from sordino_protocols.architecture import MAX_PARAMETERS, Architecture, Assembly, Value
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.graph import GraphSpec, assemble_graph
from sordino_protocols.initialization import draw
from sordino_protocols.layers import LayersSpec, assemble_layers, count_layers
from sordino_protocols.nade import LAYERS_WITH_PARAMETERS as NADE_LAYERS
from sordino_protocols.nade import NadeModelSpec, assemble_nade
from sordino_protocols.operations import Activation as ActivationLayer
from sordino_protocols.operations import Concatenate, Slice
from sordino_protocols.presets import (
    CnnSpec,
    GruSpec,
    LstmSpec,
    Preset,
    ResnetSpec,
    TransformerSpec,
)
from sordino_protocols.shapes import LARGEST_AXIS, LARGEST_FAN_IN, MAX_LAYER_WIDTH, Width
from sordino_protocols.weighted import Linear, OneHotEmbedding, Weighted, layers_made

__all__ = [
    "MAX_HIDDEN_LAYERS",
    "MAX_LAYER_WIDTH",
    "MAX_PARAMETERS",
    "Activation",
    "CnnSpec",
    "EmbeddingBlock",
    "FloatVector",
    "GraphSpec",
    "GruSpec",
    "LayersSpec",
    "LinearShape",
    "LogisticSpec",
    "LstmSpec",
    "MlpSpec",
    "ModelSpec",
    "NadeModelSpec",
    "ResnetSpec",
    "TransformerSpec",
    "architecture_of",
    "initial_weights",
    "layers",
    "parameter_count",
    "parameter_groups",
]

MAX_HIDDEN_LAYERS = 8
MAX_EMBEDDINGS = 256

Activation = Literal["tanh", "relu"]
FloatVector = npt.NDArray[np.float64]


class LogisticSpec(BaseModel):
    """Logistic regression: one linear layer.

    Attributes:
        outputs: logits or values a record; 1 for a binary label.
    """

    model_config = STRICT

    kind: Literal["logistic"]
    outputs: Width = 1


class EmbeddingBlock(BaseModel):
    """Features that are one category, each of its words a 1 or a 0, and what they become.

    Attributes:
        start: the first of them, counted from 0 in the order of the encoded features.
        count: how many there are.
        width: of the vector that the category becomes.
    """

    model_config = STRICT

    start: Annotated[int, Field(ge=0, lt=LARGEST_AXIS)]
    count: Annotated[int, Field(ge=1, le=LARGEST_AXIS)]
    width: Width


class MlpSpec(BaseModel):
    """A multi-layer perceptron, perhaps with an embedding of each category before it.

    Attributes:
        hidden: widths of the hidden layers, from the first to the last.
        activation: between layers; tanh keeps activations, and so gradients, bounded.
        embeddings: blocks of features that are replaced by their vectors; all others stay as they
            are, and in their order.
        outputs: logits or values a record; 1 for a binary label.
    """

    model_config = STRICT

    kind: Literal["mlp"]
    # A TOML array arrives as a list; its items stay strict.
    hidden: Annotated[
        tuple[Width, ...], Field(strict=False, min_length=1, max_length=MAX_HIDDEN_LAYERS)
    ]
    activation: Activation
    embeddings: Annotated[
        tuple[EmbeddingBlock, ...], Field(strict=False, max_length=MAX_EMBEDDINGS)
    ] = ()
    outputs: Width = 1

    @model_validator(mode="after")
    def _check(self) -> "MlpSpec":
        for before, block in itertools.pairwise(self.embeddings):
            if block.start < before.start + before.count:
                raise ValueError("embeddings must be in the order of the features, none in two")
        return self


AnyModelSpec = LogisticSpec | MlpSpec | LayersSpec | GraphSpec | NadeModelSpec | Preset
ModelSpec = Annotated[AnyModelSpec, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class LinearShape:
    """One linear layer: its weight is [outputs, inputs], its bias [outputs]."""

    inputs: int
    outputs: int

    @property
    def parameter_count(self) -> int:
        """Scalars in weight and bias."""
        return self.outputs * (self.inputs + 1)


def layers(spec: ModelSpec, feature_count: int) -> tuple[LinearShape, ...]:
    """The linear layers of a `logistic` or `mlp` model, from the features to the output.

    Raises:
        InputError: another kind of model, no features, or a bound is passed.
    """
    if not isinstance(spec, LogisticSpec | MlpSpec) or _blocks(spec):
        raise InputError(f"model.{spec.kind}: is no plain stack of linear layers")
    _assemble_mlp(spec, feature_count)
    return tuple(LinearShape(*pair) for pair in itertools.pairwise(_widths(spec, feature_count)))


def architecture_of(spec: ModelSpec, feature_count: int) -> Architecture:
    """The model written out: steps, shapes, weights.

    Args:
        spec: the model.
        feature_count: encoded features of a record; a model of its cells does not look at them.

    Raises:
        InputError: shapes that do not fit (with the layer's path and what arrived), or a bound on
            parameters, activations, operations or depth is passed.
    """
    match spec:
        case LogisticSpec() | MlpSpec():
            return _assemble_mlp(spec, feature_count)
        case LayersSpec():
            return assemble_layers(spec.kind, spec.layers, feature_count, outputs=spec.outputs)
        case GraphSpec():
            return assemble_graph(spec, feature_count)
        case NadeModelSpec():
            return assemble_nade(spec)
        case CnnSpec() | ResnetSpec() | LstmSpec() | GruSpec() | TransformerSpec():
            return assemble_layers(spec.kind, spec.expand(), feature_count, outputs=spec.outputs)
        case _:
            assert_never(spec)


def parameter_count(spec: ModelSpec, feature_count: int) -> int:
    """Length of the model's flat vector, what is behind it not included.

    Raises:
        InputError: as `architecture_of`.
    """
    return architecture_of(spec, feature_count).parameter_count


def parameter_groups(spec: ModelSpec) -> int:
    """How many layers with parameters the training engine makes of the model, at least 1.

    Known from the spec alone, before anybody looks at features: a plan is a function of its job.
    A model without any is refused where it meets its features.
    """
    match spec:
        case LogisticSpec():
            count = 1
        case MlpSpec():
            count = len(spec.embeddings) + len(spec.hidden) + 1
        case LayersSpec():
            count = count_layers(spec.layers)
        case GraphSpec():
            operations = (node.operation for node in spec.nodes)
            count = sum(layers_made(each) for each in operations if isinstance(each, Weighted))
        case NadeModelSpec():
            count = NADE_LAYERS
        case CnnSpec() | ResnetSpec() | LstmSpec() | GruSpec() | TransformerSpec():
            count = count_layers(spec.expand())
        case _:
            assert_never(spec)
    return max(count, 1)


def initial_weights(spec: ModelSpec, feature_count: int, *, seed: bytes) -> FloatVector:
    """Public initial parameters, the same on every machine and in every version of a library.

    Logistic regression starts at zero, an MLP at Glorot's bounds; for all others see
    `initialization.draw`.

    Args:
        spec: the model.
        feature_count: encoded features.
        seed: public bytes that differ from job to job, such as the job's hash.

    Returns:
        The flat vector, `parameter_count(spec, feature_count)` long.

    Raises:
        InputError: as `architecture_of`.
    """
    architecture = architecture_of(spec, feature_count)
    if isinstance(spec, LogisticSpec):
        return np.zeros(architecture.parameter_count)
    return draw(architecture, seed=seed, widen_before_rectifiers=not isinstance(spec, MlpSpec))


def _widths(spec: LogisticSpec | MlpSpec, feature_count: int) -> tuple[int, ...]:
    hidden = spec.hidden if isinstance(spec, MlpSpec) else ()
    return (feature_count, *hidden, spec.outputs)


def _assemble_mlp(spec: LogisticSpec | MlpSpec, feature_count: int) -> Architecture:
    assembly = Assembly(spec.kind, feature_count)
    value = _embed(assembly, _blocks(spec))
    if isinstance(spec, MlpSpec):
        activation = ActivationLayer(kind="activation", function=spec.activation)
        for index, width in enumerate(spec.hidden):
            linear = Linear(kind="linear", outputs=width)
            value = assembly.add(f"hidden[{index}]", linear, value)
            value = assembly.add(f"hidden[{index}].activation", activation, value)
    value = assembly.add("output", Linear(kind="linear", outputs=spec.outputs), value)
    return assembly.finish(value, outputs=spec.outputs)


def _blocks(spec: LogisticSpec | MlpSpec) -> tuple[EmbeddingBlock, ...]:
    return spec.embeddings if isinstance(spec, MlpSpec) else ()


def _embed(assembly: Assembly, blocks: tuple[EmbeddingBlock, ...]) -> Value:
    """The features with each block's vector in its place."""
    if not blocks:
        return assembly.features
    parts: list[Value] = []
    done, end = 0, assembly.features.shape[0]

    def take(path: str, start: int, stop: int) -> Value:
        return assembly.add(
            path, Slice(kind="slice", axis=0, start=start, stop=stop), assembly.features
        )

    for index, block in enumerate(blocks):
        path = f"embeddings[{index}]"
        if done < block.start <= end:
            parts.append(take(f"features[{done}:{block.start}]", done, block.start))
        done = block.start + block.count
        word = take(path, block.start, done)
        table = OneHotEmbedding(kind="one_hot_embedding", width=block.width)
        parts.append(assembly.add(path, table, word))
    if done < end:
        parts.append(take(f"features[{done}:{end}]", done, end))
    return _join(assembly, parts)


def _join(assembly: Assembly, parts: list[Value]) -> Value:
    """All parts one after the other; a step takes only so many."""
    while len(parts) > 1:
        groups = [parts[at : at + LARGEST_FAN_IN] for at in range(0, len(parts), LARGEST_FAN_IN)]
        parts = [
            assembly.add("embedded", Concatenate(kind="concatenate", axis=0), *group)
            if len(group) > 1
            else group[0]
            for group in groups
        ]
    return parts[0]
