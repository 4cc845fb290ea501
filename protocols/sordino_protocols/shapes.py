"""Shapes of one record, the sizes that a job may ask for, and what a weight starts from.

Every shape here is that of one record: there is no batch axis, so no operation can name it, and no
model can let one record see another. Axes count from 0, the first after the batch.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field

from sordino_protocols.errors import InputError

MAX_RANK = 4
MAX_LAYER_WIDTH = 4096
LARGEST_AXIS = 2**22
LARGEST_KERNEL = 64
LARGEST_FAN_IN = 16

Shape = tuple[int, ...]

Width = Annotated[int, Field(ge=1, le=MAX_LAYER_WIDTH)]
Length = Annotated[int, Field(ge=1, le=LARGEST_AXIS)]
Axis = Annotated[int, Field(ge=0, lt=MAX_RANK)]
Kernel = Annotated[int, Field(ge=1, le=LARGEST_KERNEL)]
Padding = Annotated[int, Field(ge=0, lt=LARGEST_KERNEL)]


def _twice(value: object) -> object:
    """One number for a square window; the canonical form is always a pair."""
    if type(value) is int:
        return (value, value)
    if not isinstance(value, tuple | list):
        raise ValueError("expected one whole number, or two")  # noqa: TRY004 (pydantic's own)
    # What a validator has looked at counts as Python's, where a strict tuple is no list.
    return tuple(value)


# A TOML array arrives as a list; its items stay strict.
Axes = Annotated[tuple[Axis, ...], Field(strict=False, min_length=1, max_length=MAX_RANK)]
Lengths = Annotated[tuple[Length, ...], Field(strict=False, min_length=1, max_length=MAX_RANK)]
KernelPair = Annotated[tuple[Kernel, Kernel], BeforeValidator(_twice), Field(strict=False)]
PaddingPair = Annotated[tuple[Padding, Padding], BeforeValidator(_twice), Field(strict=False)]


@dataclass(frozen=True, slots=True)
class Fans:
    """A weight that starts at random, by how many values enter and leave a sum over it."""

    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Rows:
    """A table of vectors that start at random, each of expected squared length one."""

    width: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor that starts at one value."""

    value: float


@dataclass(frozen=True, slots=True)
class ForgetGate:
    """An LSTM's bias [input, forget, cell, output gates]: zero, one at the forget gates."""

    hidden: int


Start = Fans | Rows | Constant | ForgetGate


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor of a layer: torch's name, its shape, and what it starts from."""

    name: str
    shape: Shape
    start: Start

    @property
    def size(self) -> int:
        """Scalars in it."""
        return math.prod(self.shape)


def spell(shape: Shape) -> str:
    """A record's shape as errors write it."""
    return str(list(shape))


def require_rank(shape: Shape, *, names: str, ranks: tuple[int, ...]) -> None:
    """Refuse a shape of another rank.

    Raises:
        InputError: the expected axes by `names`, and what arrived.
    """
    if len(shape) not in ranks:
        raise InputError(f"expects {names} a record; {spell(shape)} arrived")


def window(shape: Shape, *, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    """Places of a sliding window along each axis (floor, as torch counts them).

    Raises:
        InputError: the window is larger than what it slides over.
    """
    for size, width, border in zip(shape, kernel, padding, strict=True):
        if size + 2 * border < width:
            raise InputError(
                f"a window of {spell(kernel)} with padding {spell(padding)} does not fit into"
                f" {spell(shape)}: make it smaller, or pool less before"
            )
    return tuple(
        (size + 2 * border - width) // step + 1
        for size, width, border, step in zip(shape, kernel, padding, stride, strict=True)
    )
