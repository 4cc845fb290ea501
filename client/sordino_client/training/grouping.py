"""Rows of a pass put together into units, where a unit brings more than one row.

An entity brings several records, a record several views. Each goes through the network as a row of
its own; the unit's gradient is the sum of theirs. So the rows of a unit are further places of one
unit: norms are taken after its rows were added up, cross terms included, and **only what was normed
is ever summed** stays true. `contributions` says what a place is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sordino_client.training.arithmetic import DOUBLE_PLACES, Arithmetic
from sordino_client.training.contributions import (
    MOST_PLACES,
    Contribution,
    EmbeddingRows,
    GramSequence,
    Instantiated,
    Outer,
    PositionOuter,
    Span,
)
from sordino_client.training.layers import is_instantiated
from sordino_protocols.errors import InputError


@dataclass(frozen=True, slots=True)
class Grouping:
    """How many rows of a pass make a unit, and how many units go through together.

    Attributes:
        rows_per_unit: with those that are absent, which count for nothing.
        chunk_units: units in a pass.
        spare_units: how many more the last pass over a batch may take.
    """

    rows_per_unit: int
    chunk_units: int
    spare_units: int


def group_rows(rows: int, arithmetic: Arithmetic) -> Grouping:
    """A grouping for units of up to `rows` rows whose passes have few shapes.

    A unit's rows are made up to a power of two, which divides the shapes of all passes, or to a
    multiple of the shapes' step.

    Args:
        rows: of one unit, at least 1; public.
        arithmetic: the shapes of passes.
    """
    multiple = arithmetic.row_multiple
    padded = 1 << (rows - 1).bit_length() if rows < multiple else -(-rows // multiple) * multiple
    return Grouping(
        padded, max(1, arithmetic.chunk_rows // padded), arithmetic.spare_rows // padded
    )


def check_places(parts: Iterable[Contribution], rows: int) -> None:
    """Refuse units of so many rows by what one row keeps of the layers.

    Raises:
        InputError: a table would be looked up more often than its rounding is bounded for.
    """
    looked_up = (part.indices.shape[1] for part in parts if isinstance(part, EmbeddingRows))
    most = rows * max(looked_up, default=0)
    if most > MOST_PLACES:
        raise InputError(
            f"a unit of {rows} rows looks {most} indices up in one table; expected at most "
            f"{MOST_PLACES}: use fewer records_per_unit, or views"
        )


def with_places(arithmetic: Arithmetic, rows: int) -> Arithmetic:
    """The arithmetic for units of up to `rows` rows: several are places, whose terms may cancel.

    Dense layers in double precision need no share of the bound and no random order as long as a
    unit brings one row; for more, they get what all others have (`arithmetic`, point 3).
    """
    if rows == 1:
        return arithmetic
    return replace(arithmetic, share=max(arithmetic.share, DOUBLE_PLACES.share))


def regrouped(parts: Sequence[Contribution], rows_per_unit: int) -> list[Contribution]:
    """One layer's contributions a row each, as contributions a unit each.

    Args:
        parts: of [units * rows_per_unit] rows, the rows of a unit one after the other.
        rows_per_unit: 1 changes nothing.
    """
    if rows_per_unit == 1:
        return list(parts)
    return [joined for part in parts for joined in _regrouped(part, rows_per_unit)]


def _regrouped(part: Contribution, rows: int) -> list[Contribution]:
    match part:
        case Outer():
            inputs, gradients = _split(part.inputs, rows), _split(part.gradients, rows)
            sequence = _sequence(inputs, gradients, part.weight)
            if part.bias is None:
                return [sequence]
            return [sequence, Instantiated(gradients.sum(dim=1)[:, None], part.bias)]
        case Instantiated():
            # The rows' gradients are there already: the unit's is their sum.
            return [replace(part, gradients=_split(part.gradients, rows).sum(dim=1))]
        case GramSequence():
            inputs, gradients = _joined(part.inputs, rows), _joined(part.gradients, rows)
            return [_sequence(inputs, gradients, part.weight, part.kernel)]
        case EmbeddingRows():
            indices, gradients = _joined(part.indices, rows), _joined(part.gradients, rows)
            return [replace(part, indices=indices, gradients=gradients, is_distinct=False)]
        case PositionOuter():
            return _by_position(part, rows)
    raise AssertionError(type(part).__name__)


def _by_position(part: PositionOuter, rows: int) -> list[Contribution]:
    """Each unit's gradient at each position, formed: its rows may cancel."""
    inputs, gradients = _split(part.inputs, rows), _split(part.gradients, rows)
    formed = torch.einsum("nrpo,nrpi->npoi", gradients, inputs)
    return [
        Instantiated(formed.flatten(1, 2), part.weight),
        Instantiated(gradients.sum(dim=1), part.bias),
    ]


def _sequence(
    inputs: Tensor, gradients: Tensor, weight: Span, kernel: tuple[int, int] | None = None
) -> Contribution:
    """A product summed over places, in the form that is cheaper for so many."""
    if is_instantiated(inputs.shape, gradients.shape[2]):
        return Instantiated(torch.bmm(gradients.mT, inputs), weight, kernel)
    return GramSequence(inputs, gradients, weight, kernel)


def _split(values: Tensor, rows: int) -> Tensor:
    """[units * rows, ...] as [units, rows, ...]."""
    return values.reshape(-1, rows, *values.shape[1:])


def _joined(values: Tensor, rows: int) -> Tensor:
    """[units * rows, places, ...] as [units, rows * places, ...]."""
    return values.reshape(-1, rows * values.shape[1], *values.shape[2:])
