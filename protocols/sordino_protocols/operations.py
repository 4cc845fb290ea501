"""What a model may compute between its weights: shapes in, shapes out, no torch.

Each operation checks what arrives before a tensor exists. Errors say what was expected and what
came; the caller adds where. What must stay true: no operation here reaches another record, since
shapes have no batch axis, and two values combine only if torch cannot align it with one of theirs.
"""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.shapes import (
    LARGEST_AXIS,
    LARGEST_FAN_IN,
    Axes,
    Axis,
    Kernel,
    KernelPair,
    Lengths,
    Padding,
    PaddingPair,
    Shape,
    require_rank,
    spell,
    window,
)

Rectifier = Literal["relu", "gelu", "gelu_tanh", "silu", "elu"]
ActivationName = Literal["tanh", "sigmoid", Rectifier]


class Activation(BaseModel):
    """An elementwise function. Tanh keeps activations, and so gradients, bounded.

    `gelu` is exact, `gelu_tanh` its approximation; `elu` has alpha = 1.
    """

    model_config = STRICT

    kind: Literal["activation"]
    function: ActivationName

    def output_shape(self, arrived: Shape) -> Shape:
        """The same."""
        return arrived


class Scale(BaseModel):
    """Multiplies by a public constant."""

    model_config = STRICT

    kind: Literal["scale"]
    factor: Annotated[float, Field(ge=-1e6, le=1e6)]

    def output_shape(self, arrived: Shape) -> Shape:
        """The same."""
        return arrived


class Softmax(BaseModel):
    """Normalises along one axis of a record."""

    model_config = STRICT

    kind: Literal["softmax"]
    axis: Axis

    def output_shape(self, arrived: Shape) -> Shape:
        """The same; refuses an axis that is not there."""
        _require_axis(arrived, self.axis)
        return arrived


class MaxPool1d(BaseModel):
    """The largest of each window along the last axis of [channels, length]."""

    model_config = STRICT

    kind: Literal["max_pool1d"]
    kernel: Kernel
    stride: Kernel | None = None
    padding: Padding = 0

    def output_shape(self, arrived: Shape) -> Shape:
        """[channels, places]."""
        return _pool_line(arrived, self.kernel, self.stride, self.padding)


class AvgPool1d(BaseModel):
    """The mean of each window along the last axis of [channels, length]; padding counts as 0."""

    model_config = STRICT

    kind: Literal["avg_pool1d"]
    kernel: Kernel
    stride: Kernel | None = None
    padding: Padding = 0

    def output_shape(self, arrived: Shape) -> Shape:
        """[channels, places]."""
        return _pool_line(arrived, self.kernel, self.stride, self.padding)


class MaxPool2d(BaseModel):
    """The largest of each window of [channels, height, width]; `stride` is by default `kernel`."""

    model_config = STRICT

    kind: Literal["max_pool2d"]
    kernel: KernelPair
    stride: KernelPair | None = None
    padding: PaddingPair = (0, 0)

    def output_shape(self, arrived: Shape) -> Shape:
        """[channels, places down, places across]."""
        return _pool_image(arrived, self.kernel, self.stride, self.padding)


class AvgPool2d(BaseModel):
    """The mean of each window of [channels, height, width]; padding counts as 0."""

    model_config = STRICT

    kind: Literal["avg_pool2d"]
    kernel: KernelPair
    stride: KernelPair | None = None
    padding: PaddingPair = (0, 0)

    def output_shape(self, arrived: Shape) -> Shape:
        """[channels, places down, places across]."""
        return _pool_image(arrived, self.kernel, self.stride, self.padding)


class GlobalAvgPool(BaseModel):
    """The mean of each channel over all places: [channels, ...] becomes [channels]."""

    model_config = STRICT

    kind: Literal["global_avg_pool"]

    def output_shape(self, arrived: Shape) -> Shape:
        """[channels]."""
        names = "[channels, length] or [channels, height, width]"
        require_rank(arrived, names=names, ranks=(2, 3))
        return arrived[:1]


class Flatten(BaseModel):
    """All values of a record in one row."""

    model_config = STRICT

    kind: Literal["flatten"]

    def output_shape(self, arrived: Shape) -> Shape:
        """[values]."""
        return (math.prod(arrived),)


class Reshape(BaseModel):
    """The same values in the same order, in another shape: an image, or a sequence."""

    model_config = STRICT

    kind: Literal["reshape"]
    shape: Lengths

    def output_shape(self, arrived: Shape) -> Shape:
        """`shape`; refuses another number of values."""
        if math.prod(arrived) != math.prod(self.shape):
            raise InputError(
                f"{spell(self.shape)} holds {math.prod(self.shape):,} values;"
                f" {spell(arrived)} with {math.prod(arrived):,} arrived"
            )
        return self.shape


class Permute(BaseModel):
    """A record's axes in another order."""

    model_config = STRICT

    kind: Literal["permute"]
    order: Axes

    def output_shape(self, arrived: Shape) -> Shape:
        """The axes that arrived, in `order`."""
        if sorted(self.order) != list(range(len(arrived))):
            raise InputError(
                f"order must name each of the axes 0 to {len(arrived) - 1} once;"
                f" it is {spell(self.order)} and {spell(arrived)} arrived"
            )
        return tuple(arrived[axis] for axis in self.order)


class Mean(BaseModel):
    """The mean over some axes, which vanish: over axis 0, that of a sequence."""

    model_config = STRICT

    kind: Literal["mean"]
    axes: Axes = (0,)

    def output_shape(self, arrived: Shape) -> Shape:
        """The axes that are not in `axes`."""
        for axis in self.axes:
            _require_axis(arrived, axis)
        if len(set(self.axes)) != len(self.axes) or len(self.axes) == len(arrived):
            raise InputError(
                f"axes must differ and leave one; {spell(self.axes)} of {spell(arrived)} do not"
            )
        return tuple(size for axis, size in enumerate(arrived) if axis not in self.axes)


class Select(BaseModel):
    """One place along an axis, which vanishes: index -1 of axis 0 is the last of a sequence."""

    model_config = STRICT

    kind: Literal["select"]
    axis: Axis
    index: Annotated[int, Field(ge=-LARGEST_AXIS, lt=LARGEST_AXIS)]

    def output_shape(self, arrived: Shape) -> Shape:
        """The other axes."""
        _require_axis(arrived, self.axis)
        size = arrived[self.axis]
        if not -size <= self.index < size or len(arrived) == 1:
            raise InputError(
                f"index {self.index} of axis {self.axis} is not in {spell(arrived)},"
                " or leaves no axis"
            )
        return arrived[: self.axis] + arrived[self.axis + 1 :]


class Slice(BaseModel):
    """The places `start` to `stop` - 1 along an axis."""

    model_config = STRICT

    kind: Literal["slice"]
    axis: Axis
    start: Annotated[int, Field(ge=0, lt=LARGEST_AXIS)]
    stop: Annotated[int, Field(ge=1, le=LARGEST_AXIS)]

    def output_shape(self, arrived: Shape) -> Shape:
        """The same, `stop` - `start` long along `axis`."""
        _require_axis(arrived, self.axis)
        if not self.start < self.stop <= arrived[self.axis]:
            raise InputError(
                f"start {self.start} and stop {self.stop} name no places of axis {self.axis};"
                f" {spell(arrived)} arrived"
            )
        return (*arrived[: self.axis], self.stop - self.start, *arrived[self.axis + 1 :])


class Add(BaseModel):
    """The elementwise sum of two values: a residual connection."""

    model_config = STRICT

    kind: Literal["add"]

    def output_shape(self, arrived: tuple[Shape, ...]) -> Shape:
        """The common shape."""
        return _broadcast(arrived)


class Multiply(BaseModel):
    """The elementwise product of two values: a gate."""

    model_config = STRICT

    kind: Literal["multiply"]

    def output_shape(self, arrived: tuple[Shape, ...]) -> Shape:
        """The common shape."""
        return _broadcast(arrived)


class Concatenate(BaseModel):
    """Values one after the other along an axis."""

    model_config = STRICT

    kind: Literal["concatenate"]
    axis: Axis

    def output_shape(self, arrived: tuple[Shape, ...]) -> Shape:
        """That of the first, longer along `axis`."""
        first = arrived[0]
        _require_axis(first, self.axis)
        rests = {(*shape[: self.axis], *shape[self.axis + 1 :]) for shape in arrived}
        if len(arrived) > LARGEST_FAN_IN or len({len(s) for s in arrived}) > 1 or len(rests) > 1:
            raise InputError(
                f"expects at most {LARGEST_FAN_IN} values that differ along axis {self.axis} only;"
                f" {_spell_all(arrived)} arrived"
            )
        return (*first[: self.axis], sum(s[self.axis] for s in arrived), *first[self.axis + 1 :])


class Matmul(BaseModel):
    """The matrix product over the last two axes: [..., m, k] times [..., k, n]."""

    model_config = STRICT

    kind: Literal["matmul"]

    def output_shape(self, arrived: tuple[Shape, ...]) -> Shape:
        """[..., m, n]."""
        # Equal ranks: torch would align the batch axis with an axis of a record otherwise.
        match arrived:
            case ((*lead, rows, inner), (*other, also_inner, columns)) if (
                lead == other and inner == also_inner
            ):
                return (*lead, rows, columns)
            case _:
                raise InputError(
                    f"expects [..., m, k] and [..., k, n]; {_spell_all(arrived)} arrived"
                )


Rearrangement = Flatten | Reshape | Permute | Select | Slice
Pooling = MaxPool1d | AvgPool1d | MaxPool2d | AvgPool2d | GlobalAvgPool
Pointwise = Activation | Scale | Softmax
Weightless = Pointwise | Pooling | Rearrangement | Mean
Combination = Add | Multiply | Concatenate | Matmul


def _require_axis(shape: Shape, axis: int) -> None:
    if axis >= len(shape):
        raise InputError(f"axis {axis} is not there; {spell(shape)} arrived")


def _pool_line(shape: Shape, kernel: int, stride: int | None, padding: int) -> Shape:
    require_rank(shape, names="[channels, length]", ranks=(2,))
    return _pool(shape, (kernel,), (stride or kernel,), (padding,))


def _pool_image(shape: Shape, kernel: Shape, stride: Shape | None, padding: Shape) -> Shape:
    require_rank(shape, names="[channels, height, width]", ranks=(3,))
    return _pool(shape, kernel, stride or kernel, padding)


def _pool(shape: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    if any(2 * border > width for border, width in zip(padding, kernel, strict=True)):
        raise InputError(f"padding {spell(padding)} is more than half of kernel {spell(kernel)}")
    return (*shape[:1], *window(shape[1:], kernel=kernel, stride=stride, padding=padding))


def _broadcast(arrived: tuple[Shape, ...]) -> Shape:
    # Equal ranks: torch would align the batch axis with an axis of a record otherwise.
    if len(arrived) != 2 or len(arrived[0]) != len(arrived[1]):  # noqa: PLR2004
        raise InputError(f"expects two values of equal rank; {_spell_all(arrived)} arrived")
    pairs = tuple(zip(*arrived, strict=True))
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise InputError(
            f"expects two values whose axes are equal or 1; {_spell_all(arrived)} arrived:"
            " give the shorter way a projection"
        )
    return tuple(max(pair) for pair in pairs)


def _spell_all(shapes: tuple[Shape, ...]) -> str:
    return " and ".join(spell(shape) for shape in shapes)
