"""Well-known models by name: each is a list of layers that anybody could have written out."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from sordino_protocols.files import STRICT
from sordino_protocols.layers import Attention, Layer, Residual
from sordino_protocols.operations import (
    Activation,
    ActivationName,
    Flatten,
    GlobalAvgPool,
    MaxPool2d,
    Mean,
    Reshape,
)
from sordino_protocols.shapes import Length, Width
from sordino_protocols.weighted import (
    Conv2d,
    Embedding,
    GroupNorm,
    Gru,
    LayerNorm,
    Linear,
    Lstm,
    PositionalEmbedding,
    StackHeight,
)

_STAGES = 3

Image = Annotated[tuple[Width, Width, Width], Field(strict=False)]


class CnnSpec(BaseModel):
    """The small convolutional network for 28x28 images of Papernot et al. (2021, table 1).

    With 10 outputs it has 26,010 parameters. Bounded activations (tanh) are what makes it learn
    under clipping; their paper is about that.

    Attributes:
        image: channels, height, width; features arrive in that order.
        activation: after each layer but the last.
        outputs: logits or values a record.
    """

    model_config = STRICT

    kind: Literal["cnn"]
    image: Image = (1, 28, 28)
    activation: ActivationName = "tanh"
    outputs: Width = 1

    def expand(self) -> tuple[Layer, ...]:
        """Two convolutions, each with a pooling of stride 1, and two linear layers."""
        activation = Activation(kind="activation", function=self.activation)
        pool = MaxPool2d(kind="max_pool2d", kernel=(2, 2), stride=(1, 1))
        return (
            Reshape(kind="reshape", shape=self.image),
            Conv2d(kind="conv2d", channels=16, kernel=(8, 8), stride=(2, 2), padding=(3, 3)),
            activation,
            pool,
            Conv2d(kind="conv2d", channels=32, kernel=(4, 4), stride=(2, 2)),
            activation,
            pool,
            Flatten(kind="flatten"),
            Linear(kind="linear", outputs=32),
            activation,
            Linear(kind="linear", outputs=self.outputs),
        )


class ResnetSpec(BaseModel):
    """A residual network for small images (He et al. 2016, section 4.2), with group norms.

    Three stages of `blocks` blocks with two 3x3 convolutions each; stages two and three halve the
    image and double the channels. It has 6 * blocks + 2 layers: ResNet-8 by default. Batch norms
    became group norms: no record may change another's activations.

    Attributes:
        image: channels, height, width; features arrive in that order.
        blocks: of each stage.
        width: channels of the first stage.
        groups: of each norm; they divide `width`.
        activation: after each norm.
        outputs: logits or values a record.
    """

    model_config = STRICT

    kind: Literal["resnet"]
    image: Image = (3, 32, 32)
    blocks: Annotated[int, Field(ge=1, le=9)] = 1
    width: Annotated[int, Field(ge=1, le=512)] = 16
    groups: Annotated[int, Field(ge=1, le=512)] = 8
    activation: ActivationName = "relu"
    outputs: Width = 1

    @model_validator(mode="after")
    def _divisible(self) -> "ResnetSpec":
        if self.width % self.groups:
            raise ValueError(f"groups must divide width; {self.groups} does not {self.width}")
        return self

    def expand(self) -> tuple[Layer, ...]:
        """Stem, stages, mean over all places, linear layer."""
        activation = Activation(kind="activation", function=self.activation)
        layers: list[Layer] = [Reshape(kind="reshape", shape=self.image)]
        layers += [*self._convolution(self.width, kernel=3, stride=1), activation]
        for stage in range(_STAGES):
            for block in range(self.blocks):
                layers += [self._block(stage, is_first=block == 0), activation]
        layers += [GlobalAvgPool(kind="global_avg_pool")]
        return (*layers, Linear(kind="linear", outputs=self.outputs))

    def _block(self, stage: int, *, is_first: bool) -> Residual:
        width = self.width * 2**stage
        shrinks = is_first and stage > 0
        stride = 2 if shrinks else 1
        return Residual(
            kind="residual",
            layers=(
                *self._convolution(width, kernel=3, stride=stride),
                Activation(kind="activation", function=self.activation),
                *self._convolution(width, kernel=3, stride=1),
            ),
            projection=self._convolution(width, kernel=1, stride=stride) if shrinks else None,
        )

    def _convolution(self, width: int, *, kernel: int, stride: int) -> tuple[Conv2d, GroupNorm]:
        """Without a bias: the norm behind it has one."""
        around = kernel // 2
        convolution = Conv2d(
            kind="conv2d",
            channels=width,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            padding=(around, around),
            bias=False,
        )
        return convolution, GroupNorm(kind="group_norm", groups=self.groups)


class Tokens(BaseModel):
    """A record is a sequence of whole numbers, one a feature.

    Attributes:
        vocabulary: how many there are; a public number, never counted in the records.
        width: of the vector that each becomes.
    """

    model_config = STRICT

    kind: Literal["tokens"]
    vocabulary: Length
    width: Width

    def expand(self) -> tuple[Layer, ...]:
        """[steps] becomes [steps, width]."""
        return (Embedding(kind="embedding", vocabulary=self.vocabulary, width=self.width),)


class Series(BaseModel):
    """A record is a sequence of measurements, step after step.

    Attributes:
        steps: how many.
        channels: measurements at each.
    """

    model_config = STRICT

    kind: Literal["series"]
    steps: Length
    channels: Width

    def expand(self) -> tuple[Layer, ...]:
        """[steps * channels] becomes [steps, channels]."""
        return (Reshape(kind="reshape", shape=(self.steps, self.channels)),)


Sequence = Annotated[Tokens | Series, Field(discriminator="kind")]


class LstmSpec(BaseModel):
    """An LSTM over a sequence, and a linear layer on its last state.

    Attributes:
        input: what a record's features mean.
        hidden: size of the state.
        layers: LSTMs on top of each other.
        outputs: logits or values a record.
    """

    model_config = STRICT

    kind: Literal["lstm"]
    input: Sequence
    hidden: Width
    layers: StackHeight = 1
    outputs: Width = 1

    def expand(self) -> tuple[Layer, ...]:
        """Sequence, LSTM, linear layer."""
        recurrent = Lstm(kind="lstm", hidden=self.hidden, layers=self.layers)
        return (*self.input.expand(), recurrent, Linear(kind="linear", outputs=self.outputs))


class GruSpec(BaseModel):
    """Gated recurrent units over a sequence, and a linear layer; attributes as for `LstmSpec`."""

    model_config = STRICT

    kind: Literal["gru"]
    input: Sequence
    hidden: Width
    layers: StackHeight = 1
    outputs: Width = 1

    def expand(self) -> tuple[Layer, ...]:
        """Sequence, GRU, linear layer."""
        recurrent = Gru(kind="gru", hidden=self.hidden, layers=self.layers)
        return (*self.input.expand(), recurrent, Linear(kind="linear", outputs=self.outputs))


class TransformerSpec(BaseModel):
    """An encoder (Vaswani et al. 2017) with learnt positions and norms before each block.

    Norms come first (Xiong et al. 2020): it then trains without a warm-up, which would cost budget.

    Attributes:
        input: what a record's features mean.
        width: of each step's vector; tokens must have the same.
        heads: of the attention; they divide the width.
        blocks: attention and feed-forward, each with a residual connection.
        hidden: width inside the feed-forward layers.
        outputs: logits or values a record, from the mean over the steps.
    """

    model_config = STRICT

    kind: Literal["transformer"]
    input: Sequence
    width: Width
    heads: Annotated[int, Field(ge=1, le=64)]
    blocks: Annotated[int, Field(ge=1, le=24)]
    hidden: Width
    outputs: Width = 1

    @model_validator(mode="after")
    def _fits(self) -> "TransformerSpec":
        if self.width % self.heads:
            raise ValueError(f"heads must divide width; {self.heads} does not {self.width}")
        if isinstance(self.input, Tokens) and self.input.width != self.width:
            raise ValueError(f"input.width must be width; {self.input.width} is not {self.width}")
        return self

    def expand(self) -> tuple[Layer, ...]:
        """Sequence, positions, blocks, norm, mean over the steps, linear layer."""
        layers: list[Layer] = list(self.input.expand())
        if isinstance(self.input, Series):
            layers += [Linear(kind="linear", outputs=self.width)]
        layers += [PositionalEmbedding(kind="positional_embedding")]
        for _ in range(self.blocks):
            layers += self._block()
        layers += [LayerNorm(kind="layer_norm"), Mean(kind="mean")]
        return (*layers, Linear(kind="linear", outputs=self.outputs))

    def _block(self) -> tuple[Residual, Residual]:
        norm = LayerNorm(kind="layer_norm")
        attention = Attention(kind="attention", heads=self.heads)
        feed_forward = (
            norm,
            Linear(kind="linear", outputs=self.hidden),
            Activation(kind="activation", function="gelu"),
            Linear(kind="linear", outputs=self.width),
        )
        return (
            Residual(kind="residual", layers=(norm, attention)),
            Residual(kind="residual", layers=feed_forward),
        )


Preset = CnnSpec | ResnetSpec | LstmSpec | GruSpec | TransformerSpec
