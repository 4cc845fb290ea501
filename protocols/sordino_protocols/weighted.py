"""The layers with weights that a model may have: each has per-unit gradients in the engine.

Names, shapes and order of a layer's tensors are torch's own, so that its module and the flat vector
agree without a table. What must stay true: a layer not listed here has no way into a job.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.shapes import (
    MAX_RANK,
    Constant,
    Fans,
    ForgetGate,
    Kernel,
    KernelPair,
    Length,
    Padding,
    PaddingPair,
    Parameter,
    Rows,
    Shape,
    Width,
    require_rank,
    spell,
    window,
)

MAX_RECURRENT_LAYERS = 4

_SEQUENCE = "[steps, features]"

Epsilon = Annotated[float, Field(gt=0, le=1)]
StackHeight = Annotated[int, Field(ge=1, le=MAX_RECURRENT_LAYERS)]
RecurrentOutput = Literal["last", "sequence"]


class Linear(BaseModel):
    """An affine map of the last axis; on a sequence, the same one at every step."""

    model_config = STRICT

    kind: Literal["linear"]
    outputs: Width
    bias: bool = True

    def output_shape(self, arrived: Shape) -> Shape:
        """[..., outputs]."""
        return (*arrived[:-1], self.outputs)

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [outputs, inputs]; bias [outputs]."""
        inputs = arrived[-1]
        weight = Parameter("weight", (self.outputs, inputs), Fans(inputs, self.outputs))
        return (weight, *_bias(self.outputs, wanted=self.bias))


class Embedding(BaseModel):
    """A vector for each whole number from 0 to `vocabulary` - 1.

    A feature outside that range, or NaN, counts as the nearest number in it: a record must not be
    able to stop a run.
    """

    model_config = STRICT

    kind: Literal["embedding"]
    vocabulary: Length
    width: Width

    def output_shape(self, arrived: Shape) -> Shape:
        """[..., width]."""
        require_rank(arrived, names="whole numbers of at most three axes", ranks=(1, 2, 3))
        return (*arrived, self.width)

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [vocabulary, width]."""
        del arrived
        return (Parameter("weight", (self.vocabulary, self.width), Rows(self.width)),)


class OneHotEmbedding(BaseModel):
    """A vector for each word of a category that arrives as one feature a word, 1 or 0.

    The block of features times a table: it gives the vector of the word that is 1, and zeros where
    none is.
    """

    model_config = STRICT

    kind: Literal["one_hot_embedding"]
    width: Width

    def output_shape(self, arrived: Shape) -> Shape:
        """[width]."""
        require_rank(arrived, names="[words]", ranks=(1,))
        return (self.width,)

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [width, words]: a word's vector is a column."""
        return (Parameter("weight", (self.width, arrived[-1]), Rows(self.width)),)


class PositionalEmbedding(BaseModel):
    """Adds a learnt vector to each step of a sequence, one for each position."""

    model_config = STRICT

    kind: Literal["positional_embedding"]

    def output_shape(self, arrived: Shape) -> Shape:
        """The same."""
        require_rank(arrived, names=_SEQUENCE, ranks=(2,))
        return arrived

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [steps, features]."""
        return (Parameter("weight", arrived, Rows(arrived[-1])),)


class Conv1d(BaseModel):
    """A convolution of [channels, length], zero-padded."""

    model_config = STRICT

    kind: Literal["conv1d"]
    channels: Width
    kernel: Kernel
    stride: Kernel = 1
    padding: Padding = 0
    groups: Width = 1
    bias: bool = True

    def output_shape(self, arrived: Shape) -> Shape:
        """[channels, places]."""
        require_rank(arrived, names="[channels, length]", ranks=(2,))
        _require_groups(arrived[0], self.channels, groups=self.groups)
        places = window(
            arrived[1:], kernel=(self.kernel,), stride=(self.stride,), padding=(self.padding,)
        )
        return (self.channels, *places)

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [channels, inputs / groups, kernel]; bias [channels]."""
        weight = _kernel_weight(arrived[0], self.channels, (self.kernel,), groups=self.groups)
        return (weight, *_bias(self.channels, wanted=self.bias))


class Conv2d(BaseModel):
    """A convolution of [channels, height, width], zero-padded; one number means a square."""

    model_config = STRICT

    kind: Literal["conv2d"]
    channels: Width
    kernel: KernelPair
    stride: KernelPair = (1, 1)
    padding: PaddingPair = (0, 0)
    groups: Width = 1
    bias: bool = True

    def output_shape(self, arrived: Shape) -> Shape:
        """[channels, places down, places across]."""
        require_rank(arrived, names="[channels, height, width]", ranks=(3,))
        _require_groups(arrived[0], self.channels, groups=self.groups)
        places = window(arrived[1:], kernel=self.kernel, stride=self.stride, padding=self.padding)
        return (self.channels, *places)

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [channels, inputs / groups, down, across]; bias [channels]."""
        weight = _kernel_weight(arrived[0], self.channels, self.kernel, groups=self.groups)
        return (weight, *_bias(self.channels, wanted=self.bias))


class LayerNorm(BaseModel):
    """Normalises over the last `axes` axes of each record; never across records."""

    model_config = STRICT

    kind: Literal["layer_norm"]
    axes: Annotated[int, Field(ge=1, lt=MAX_RANK)] = 1
    epsilon: Epsilon = 1e-5
    affine: bool = True

    def output_shape(self, arrived: Shape) -> Shape:
        """The same."""
        if self.axes > len(arrived):
            raise InputError(f"normalises {self.axes} axes; {spell(arrived)} arrived")
        return arrived

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight and bias, each as the normalised axes."""
        return _scale_and_shift(arrived[-self.axes :]) if self.affine else ()


class GroupNorm(BaseModel):
    """Normalises groups of channels of [channels, ...] within each record (Wu & He 2018)."""

    model_config = STRICT

    kind: Literal["group_norm"]
    groups: Width
    epsilon: Epsilon = 1e-5
    affine: bool = True

    def output_shape(self, arrived: Shape) -> Shape:
        """The same."""
        if arrived[0] % self.groups:
            raise InputError(
                f"{self.groups} groups do not divide the channels; {spell(arrived)} arrived"
            )
        return arrived

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight and bias [channels]."""
        return _scale_and_shift(arrived[:1]) if self.affine else ()


class _Recurrent(BaseModel):
    """What both recurrent layers have: `layers` of `hidden` states over [steps, features]."""

    model_config = STRICT

    kind: str
    hidden: Width
    layers: StackHeight = 1
    output: RecurrentOutput = "last"

    def output_shape(self, arrived: Shape) -> Shape:
        """[hidden], or [steps, hidden]."""
        require_rank(arrived, names=_SEQUENCE, ranks=(2,))
        return (self.hidden,) if self.output == "last" else (arrived[0], self.hidden)


class Lstm(_Recurrent):
    """Long short-term memory over [steps, features]: its last state, or the state at each step."""

    kind: Literal["lstm"]

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """For each layer: weights of input and state, then their biases, gate above gate."""
        forget = ForgetGate(self.hidden)
        return _recurrent(arrived, self.hidden, self.layers, gates=4, bias_start=forget)


class Gru(_Recurrent):
    """Gated recurrent units over [steps, features]: the last state, or the state at each step."""

    kind: Literal["gru"]

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """For each layer: weights of input and state, then their biases, gate above gate."""
        zero = Constant(0.0)
        return _recurrent(arrived, self.hidden, self.layers, gates=3, bias_start=zero)


Table = Embedding | PositionalEmbedding
Norm = LayerNorm | GroupNorm
Recurrent = Lstm | Gru
Convolution = Conv1d | Conv2d
Weighted = Linear | OneHotEmbedding | Convolution | Table | Norm | Recurrent


def layers_made(layer: Weighted) -> int:
    """How many layers with parameters of their own the training engine makes of it."""
    if isinstance(layer, Norm):
        return int(layer.affine)
    # A recurrent layer is two linear ones: of what enters, and of the state.
    return 2 * layer.layers if isinstance(layer, Recurrent) else 1


def multiply_adds(layer: Weighted, arrived: Shape) -> int:
    """Multiplications of a forward pass of one record; what is linear in the values is ignored."""
    if isinstance(layer, Table | Norm):
        return 0
    size = sum(weight.size for weight in layer.parameters(arrived) if len(weight.shape) > 1)
    if isinstance(layer, Conv1d | Conv2d):
        return size * math.prod(layer.output_shape(arrived)[1:])
    return size * math.prod(arrived[:-1])


def _bias(size: int, *, wanted: bool) -> tuple[Parameter, ...]:
    return (Parameter("bias", (size,), Constant(0.0)),) if wanted else ()


def _scale_and_shift(shape: Shape) -> tuple[Parameter, ...]:
    return (Parameter("weight", shape, Constant(1.0)), Parameter("bias", shape, Constant(0.0)))


def _require_groups(inputs: int, outputs: int, *, groups: int) -> None:
    if inputs % groups or outputs % groups:
        raise InputError(
            f"{groups} groups divide not both the {inputs} channels that arrived and the"
            f" {outputs} that leave"
        )


def _kernel_weight(inputs: int, outputs: int, kernel: Shape, *, groups: int) -> Parameter:
    places = math.prod(kernel)
    fans = Fans(inputs // groups * places, outputs // groups * places)
    return Parameter("weight", (outputs, inputs // groups, *kernel), fans)


def _recurrent(
    arrived: Shape, hidden: int, layers: int, *, gates: int, bias_start: Constant | ForgetGate
) -> tuple[Parameter, ...]:
    parameters: list[Parameter] = []
    for layer in range(layers):
        inputs = arrived[-1] if layer == 0 else hidden
        rows = gates * hidden
        parameters += [
            Parameter(f"weight_ih_l{layer}", (rows, inputs), Fans(inputs, hidden)),
            Parameter(f"weight_hh_l{layer}", (rows, hidden), Fans(hidden, hidden)),
            Parameter(f"bias_ih_l{layer}", (rows,), bias_start),
            Parameter(f"bias_hh_l{layer}", (rows,), Constant(0.0)),
        ]
    return tuple(parameters)
