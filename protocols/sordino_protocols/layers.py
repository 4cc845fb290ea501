"""A model as a list of layers, with residual blocks and attention: what a person writes in TOML.

Lists nest at most once (a residual block holds plain layers), by the types themselves: no depth of
nesting can be asked for that reading it would have to survive.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from sordino_protocols.architecture import Architecture, Assembly, Value
from sordino_protocols.files import STRICT
from sordino_protocols.operations import Add, Matmul, Permute, Reshape, Scale, Softmax, Weightless
from sordino_protocols.shapes import MAX_LAYER_WIDTH, Width, spell
from sordino_protocols.weighted import Linear, Weighted, layers_made

MAX_LAYERS = 128
MAX_RESIDUAL_LAYERS = 32
# Query, key, value, output.
_ATTENTION_LAYERS = 4

REFUSED_KINDS = {
    "dropout": "its masks are random, so that norms, re-runs and audits could not be reproduced;"
    " remove it: the noise of DP-SGD regularises already",
    "batch_norm": "it mixes the records of a batch, so that no record has a gradient of its own;"
    " use group_norm",
    "instance_norm": "use group_norm with as many groups as channels",
    "multihead_attention": "use attention",
    "rnn": "use lstm or gru",
}
"""Layers that people ask for, and why there is none."""


def _explain(layer: object) -> object:
    if not isinstance(layer, dict):
        return layer
    kind = layer.get("kind")
    if isinstance(kind, str) and kind in REFUSED_KINDS:
        raise ValueError(f"{kind} is not allowed: {REFUSED_KINDS[kind]}")
    # What a validator has looked at counts as Python's, where a strict tuple is no list.
    return {key: tuple(v) if isinstance(v, list) else v for key, v in layer.items()}


class Attention(BaseModel):
    """Self-attention over [steps, width], every step to every step (Vaswani et al. 2017, eq. 1).

    Made of four linear layers (query, key, value, output) of the arriving width, and a softmax.

    Attributes:
        heads: they divide the width between them.
    """

    model_config = STRICT

    kind: Literal["attention"]
    heads: Annotated[int, Field(ge=1, le=64)]


PlainLayer = Annotated[
    Weightless | Weighted | Attention, Field(discriminator="kind"), BeforeValidator(_explain)
]
PlainLayers = Annotated[tuple[PlainLayer, ...], Field(strict=False, max_length=MAX_RESIDUAL_LAYERS)]


class Residual(BaseModel):
    """The sum of what its layers make of a value and of the value itself (He et al. 2016).

    Attributes:
        layers: the long way.
        projection: the short way where shapes differ; absent: the value as it arrived.
    """

    model_config = STRICT

    kind: Literal["residual"]
    layers: PlainLayers
    projection: PlainLayers | None = None


Layer = Annotated[
    Weightless | Weighted | Attention | Residual,
    Field(discriminator="kind"),
    BeforeValidator(_explain),
]


class LayersSpec(BaseModel):
    """Layers one after the other, from the features to the output.

    Attributes:
        layers: the first sees [features]; reshape it to an image or a sequence.
        outputs: logits or values a record; 1 for a binary label.
    """

    model_config = STRICT

    kind: Literal["layers"]
    layers: Annotated[tuple[Layer, ...], Field(strict=False, max_length=MAX_LAYERS)]
    outputs: Width = 1


def count_layers(layers: tuple[Layer, ...]) -> int:
    """How many layers with parameters of their own the training engine makes of them."""
    return sum(map(_layers_made, layers))


def assemble_layers(
    kind: str, layers: tuple[Layer, ...], feature_count: int, *, outputs: int
) -> Architecture:
    """The layers with their shapes and weights.

    Args:
        kind: what errors call the model.
        layers: in order.
        feature_count: encoded features.
        outputs: values that must come out.

    Raises:
        InputError: shapes that do not fit (with the layer's path and what arrived), or a bound is
            passed.
    """
    assembly = Assembly(kind, feature_count)
    value = assembly.features
    for index, layer in enumerate(layers):
        path = f"layers[{index}].{layer.kind}"
        if isinstance(layer, Residual):
            value = _add_residual(assembly, path, layer, value)
        else:
            value = _add_plain(assembly, path, layer, value)
    return assembly.finish(value, outputs=outputs)


def _layers_made(layer: Layer) -> int:
    match layer:
        case Residual(layers=long, projection=short):
            return count_layers(long) + count_layers(short or ())
        case Attention():
            return _ATTENTION_LAYERS
        case _ if isinstance(layer, Weighted):
            return layers_made(layer)
        case _:
            return 0


def _add_residual(assembly: Assembly, path: str, block: Residual, entering: Value) -> Value:
    long = short = entering
    for index, layer in enumerate(block.layers):
        long = _add_plain(assembly, f"{path}.layers[{index}].{layer.kind}", layer, long)
    for index, layer in enumerate(block.projection or ()):
        short = _add_plain(assembly, f"{path}.projection[{index}].{layer.kind}", layer, short)
    return assembly.add(path, Add(kind="add"), long, short)


def _add_plain(
    assembly: Assembly, path: str, layer: Weightless | Weighted | Attention, value: Value
) -> Value:
    if isinstance(layer, Attention):
        return _add_attention(assembly, path, layer.heads, value)
    return assembly.add(path, layer, value)


def _add_attention(assembly: Assembly, path: str, heads: int, value: Value) -> Value:
    if len(value.shape) != 2:  # noqa: PLR2004
        raise assembly.refusal(path, f"expects [steps, width]; {spell(value.shape)} arrived")
    steps, width = value.shape
    if width % heads or width > MAX_LAYER_WIDTH:
        reason = f"{heads} heads must divide a width of at most {MAX_LAYER_WIDTH}; it is {width}"
        raise assembly.refusal(path, reason)
    linear = Linear(kind="linear", outputs=width)
    split = Reshape(kind="reshape", shape=(steps, heads, width // heads))

    def head_view(name: str, order: tuple[int, int, int]) -> Value:
        place = f"{path}.{name}"
        parted = assembly.add(place, split, assembly.add(place, linear, value))
        return assembly.add(place, Permute(kind="permute", order=order), parted)

    queries = head_view("query", (1, 0, 2))
    keys = head_view("key", (1, 2, 0))
    values = head_view("value", (1, 0, 2))
    products = assembly.add(path, Matmul(kind="matmul"), queries, keys)
    scale = Scale(kind="scale", factor=1 / math.sqrt(width // heads))
    scores = assembly.add(path, scale, products)
    weights = assembly.add(path, Softmax(kind="softmax", axis=2), scores)
    means = assembly.add(path, Matmul(kind="matmul"), weights, values)
    together = assembly.add(path, Permute(kind="permute", order=(1, 0, 2)), means)
    joined = assembly.add(path, Reshape(kind="reshape", shape=(steps, width)), together)
    return assembly.add(f"{path}.output", linear, joined)
