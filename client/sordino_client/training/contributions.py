"""What a layer's parameters get from each unit of a chunk: its norm, and its part of the sum.

The five forms hold the same arrays for both, so that **only what was normed is ever summed**. Each
`squared_norms` is an upper bound of the exact squared norm of the gradient that the arrays stand
for, with the rounding of its own computation added: a sum of m terms rounds by at most m u times
the sum of their absolute values (Higham 2002, section 3.1). Where terms may cancel (`GramSequence`,
`EmbeddingRows`) that is not small against the norm: there the bound is on the *mass*, the sum of
the terms' norms, and the weighted sum is taken in float64.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sordino_client.training.arithmetic import Arithmetic
from sordino_protocols.errors import InputError

# The most places of a unit whose terms may cancel; the bounds in `arithmetic` hold up to here.
MOST_PLACES = 4096
# Products that are added up before they join the sum.
_BLOCKS_TOGETHER = 8
# 2^-126 is the smallest normal number in single precision; see `_squares`.
_UNDERFLOW = 2.0**-100


@dataclass(frozen=True, slots=True)
class Span:
    """Where a parameter lies in the flat vector."""

    start: int
    stop: int

    def of(self, flat: Tensor) -> Tensor:
        """That part of `flat`, as a view."""
        return flat[self.start : self.stop]


@dataclass(frozen=True, slots=True)
class Scales:
    """What each unit's gradient is multiplied with before it is added.

    Attributes:
        factors: [units], float64; zero for padding and for the excluded.
        excluded: [units], whose arrays may hold what is no number; None for nobody.
    """

    factors: Tensor
    excluded: Tensor | None


class Contribution(Protocol):
    """The gradients of one layer's parameters, a unit each row."""

    def squared_norms(self, arithmetic: Arithmetic) -> Tensor:
        """Upper bounds of each unit's squared gradient norm: [units], float64, CPU; may be NaN."""

    def add_to(self, total: Tensor, scales: Scales, arithmetic: Arithmetic) -> None:
        """Add every unit's gradient times its scale to the flat float64 vector.

        Args:
            total: the sum so far.
            scales: what each unit's gradient is multiplied with.
            arithmetic: the size of blocks.
        """


@dataclass(frozen=True, slots=True)
class Outer:
    """A dense layer that each unit used once: gradient g a^T, of which neither is formed.

    |g a^T|^2 = |g|^2 |a|^2, and |g|^2 for the bias (Goodfellow 2015).
    """

    inputs: Tensor
    gradients: Tensor
    weight: Span
    bias: Span | None

    def squared_norms(self, arithmetic: Arithmetic) -> Tensor:
        """See `Contribution`."""
        of_inputs = _squares(self.inputs, arithmetic) + (0 if self.bias is None else 1)
        return (of_inputs * _squares(self.gradients, arithmetic)).cpu()

    def add_to(self, total: Tensor, scales: Scales, arithmetic: Arithmetic) -> None:
        """See `Contribution`."""
        gradients = _scaled(self.gradients, scales)
        inputs = _only(self.inputs, scales)
        product = _block_product(gradients, inputs, arithmetic)
        _accumulate(self.weight.of(total), product)
        if self.bias is not None:
            ones = gradients.new_ones(len(gradients), 1)
            _accumulate(self.bias.of(total), _block_product(ones, gradients, arithmetic))


@dataclass(frozen=True, slots=True)
class PositionOuter:
    """A dense layer of each position's own, used once: inputs [units, positions, in].

    Gradients are [units, positions, out]. No two positions share a parameter, so a unit's squared
    norm is the sum over positions of |g_j|^2 (|a_j|^2 + 1), and nothing cancels.
    """

    inputs: Tensor
    gradients: Tensor
    weight: Span
    bias: Span

    def squared_norms(self, arithmetic: Arithmetic) -> Tensor:
        """See `Contribution`."""
        of_inputs = _squares(self.inputs, arithmetic) + 1
        return (of_inputs * _squares(self.gradients, arithmetic)).sum(dim=1).cpu()

    def add_to(self, total: Tensor, scales: Scales, arithmetic: Arithmetic) -> None:
        """See `Contribution`."""
        del arithmetic
        gradients = _scaled(self.gradients.double(), scales)
        inputs = _only(self.inputs, scales).double()
        product = torch.bmm(gradients.permute(1, 2, 0), inputs.transpose(0, 1))
        _accumulate(self.weight.of(total), product)
        _accumulate(self.bias.of(total), gradients.sum(dim=0))


@dataclass(frozen=True, slots=True)
class Instantiated:
    """Each unit's gradient itself, [units, rows, columns]: where it is small against its making."""

    gradients: Tensor
    span: Span
    kernel: tuple[int, int] | None = None

    def squared_norms(self, arithmetic: Arithmetic) -> Tensor:
        """See `Contribution`."""
        return _squares(self.gradients, arithmetic).sum(dim=1).cpu()

    def add_to(self, total: Tensor, scales: Scales, arithmetic: Arithmetic) -> None:
        """See `Contribution`."""
        flat = _only(self.gradients.flatten(1), scales)
        summed = _block_product(scales.factors.to(flat)[:, None], flat, arithmetic)
        _accumulate(self.span.of(total), _as_parameter(summed, self.kernel))


@dataclass(frozen=True, slots=True)
class GramSequence:
    """A layer used at many places, whose gradient would be larger than its making is worth.

    G = sum over t of g_t a_t^T, and |G|^2 = sum over t, u of (g_t . g_u)(a_t . a_u) (Bu et al.
    2023, eq. 2.2). Inputs [units, places, in], gradients [units, places, out].
    """

    inputs: Tensor
    gradients: Tensor
    weight: Span
    kernel: tuple[int, int] | None = None

    def squared_norms(self, arithmetic: Arithmetic) -> Tensor:
        """See `Contribution`."""
        gram = torch.bmm(self.inputs, self.inputs.mT).double()
        gram *= torch.bmm(self.gradients, self.gradients.mT)
        places = _squares(self.inputs, arithmetic) * _squares(self.gradients, arithmetic)
        terms = self.inputs.shape[2] + self.gradients.shape[2]
        rounding = _rounding(places, terms, arithmetic)
        return (gram.sum(dim=(1, 2)).clamp(min=0) + rounding).cpu()

    def add_to(self, total: Tensor, scales: Scales, arithmetic: Arithmetic) -> None:
        """See `Contribution`."""
        del arithmetic
        gradients = _scaled(self.gradients.double(), scales).flatten(0, 1)
        inputs = _only(self.inputs, scales).double().flatten(0, 1)
        _accumulate(self.weight.of(total), _as_parameter(gradients.T @ inputs, self.kernel))


@dataclass(frozen=True, slots=True)
class EmbeddingRows:
    """Rows of a table that each unit looked up: [units, places] indices, [.., .., width] gradients.

    The gradients of a row that a unit looked up more than once add up before the norm.

    Attributes:
        indices: rows of the table.
        gradients: of each.
        weight: where the table lies.
        is_distinct: no unit looks a row up twice, by the layer's own make.
    """

    indices: Tensor
    gradients: Tensor
    weight: Span
    is_distinct: bool = False

    def squared_norms(self, arithmetic: Arithmetic) -> Tensor:
        """See `Contribution`."""
        if self.is_distinct:
            return _squares(self.gradients, arithmetic).sum(dim=1).cpu()
        same = self.indices[:, :, None] == self.indices[:, None, :]
        gram = torch.where(same, torch.bmm(self.gradients, self.gradients.mT), 0)
        rounding = _rounding(
            _squares(self.gradients, arithmetic), self.gradients.shape[2], arithmetic
        )
        return (gram.sum(dim=(1, 2), dtype=torch.float64).clamp(min=0) + rounding).cpu()

    def add_to(self, total: Tensor, scales: Scales, arithmetic: Arithmetic) -> None:
        """See `Contribution`."""
        del arithmetic
        gradients = _scaled(self.gradients.double(), scales).flatten(0, 1)
        table = self.weight.of(total).view(-1, gradients.shape[1])
        table.index_add_(0, self.indices.flatten().cpu(), gradients.cpu())


def _rounding(places: Tensor, terms: int, arithmetic: Arithmetic) -> Tensor:
    """What is added to a squared norm whose terms may cancel, from the places' squared norms.

    The mass of a unit is the sum of its places' norms. The first part bounds the rounding of the
    norm: each of its terms, for a pair of places, is off by at most `terms` u times the product of
    their norms. The second keeps the mass below 16 sqrt(places) times the norm, for the rounding
    of the sum; where terms are independent it adds 2^-8.

    Raises:
        InputError: a unit has more places than the bounds in `arithmetic` hold for.
    """
    count = places.shape[1]
    if count > MOST_PLACES:
        raise InputError(f"a unit uses a layer at {count} places; expected at most {MOST_PLACES}")
    mass: Tensor = places.sqrt().sum(dim=1)
    share = 1.1 * (terms + 8) * arithmetic.unit_roundoff + 2.0**-8 / count
    return share * mass.square()


def _as_parameter(summed: Tensor, kernel: tuple[int, int] | None) -> Tensor:
    """A flat gradient as the parameter lies: a convolution's has its channels before its kernel."""
    if kernel is None:
        return summed.reshape(-1)
    return summed.reshape(-1, *kernel).mT.reshape(-1)


def _squares(values: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Upper bounds of the squared norms along the last dimension, float64.

    A square below the smallest number vanishes, and so may a product of two: what is added for
    each term is so large that u times it still covers that, and nothing against any gradient.
    """
    terms = values.shape[-1]
    norms: Tensor = torch.linalg.vector_norm(values, dim=-1)
    bounds = norms.double().square() * (1 + 2 * (terms + 8) * arithmetic.unit_roundoff)
    return bounds + terms * _UNDERFLOW


def _only(values: Tensor, scales: Scales) -> Tensor:
    """`values` with zero rows for the excluded: zero times NaN would be NaN."""
    if scales.excluded is None:
        return values
    return values.masked_fill(_as_rows(scales.excluded, values).to(values.device), 0.0)


def _scaled(values: Tensor, scales: Scales) -> Tensor:
    return _only(values, scales) * _as_rows(scales.factors.to(values), values)


def _as_rows(column: Tensor, values: Tensor) -> Tensor:
    """[units] with as many dimensions as `values`."""
    return column.view(-1, *[1] * (values.dim() - 1))


def _block_product(left: Tensor, right: Tensor, arithmetic: Arithmetic) -> Tensor:
    """left^T right as a sum of products of few rows: see `arithmetic`, point 3."""
    group = arithmetic.block_rows * _BLOCKS_TOGETHER
    product = _group_product(left[:group], right[:group], arithmetic)
    for start in range(group, len(left), group):
        rows = slice(start, start + group)
        product += _group_product(left[rows], right[rows], arithmetic)
    return product


def _group_product(left: Tensor, right: Tensor, arithmetic: Arithmetic) -> Tensor:
    # One call a block, whatever the number of blocks: another call may add in another order.
    block = arithmetic.block_rows
    with arithmetic.products():
        product = left[:block].T @ right[:block]
        scratch = torch.empty_like(product) if len(left) > block else product
        for start in range(block, len(left), block):
            rows = slice(start, start + block)
            product += torch.mm(left[rows].T, right[rows], out=scratch)
    return product


def _accumulate(total: Tensor, part: Tensor) -> None:
    """Add `part` to `total`, from any precision and device to float64 on the CPU."""
    # Numpy converts piece by piece in the cache; torch would write a converted copy first.
    sums = total.numpy()
    np.add(sums, part.reshape(-1).cpu().numpy(), out=sums)
