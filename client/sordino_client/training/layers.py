"""From what a pass kept of a layer to its contribution: one rule for each kind of layer.

A layer without a rule goes through the per-sample gradients of Opacus, which form each unit's
gradient: slower, the same result. Every use of a layer within one pass counts: uses are joined
along the places of a unit before its norm is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

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
from sordino_protocols.cell_modules import DistinctEmbedding, PositionLinear
from sordino_protocols.errors import InputError

Sampler = Callable[[nn.Module, list[Tensor], Tensor], dict[nn.Parameter, Tensor]]

# A unit's gradient of one layer may take this many numbers where there is another way.
_INSTANTIATED_LIMIT = 2**17
# What convolutions see is copied for so few units at a time that it stays in the cache.
_PATCHES_IN_CACHE = 2**18
# Nanoseconds a weight entry on a current core: reading and writing a unit's gradient thrice, and
# one more place in a single-precision product, in a Gram matrix, in a double-precision product.
_MEMORY_COST, _PRODUCT_COST, _DOUBLE_COST = 1.2, 1 / 40, 1 / 15


@dataclass(frozen=True, slots=True)
class Layer:
    """A module that has parameters of its own.

    Attributes:
        name: qualified, as in the model.
        module: the module.
        spans: where its parameters lie in the flat vector, by their name in the module.
    """

    name: str
    module: nn.Module
    spans: dict[str, Span]

    @property
    def has_rule(self) -> bool:
        """Whether no unit's gradient has to be formed by Opacus."""
        module = self.module
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            return module.groups == 1 and module.padding_mode == "zeros"
        known = nn.Linear | nn.Embedding | nn.LayerNorm | nn.GroupNorm | PositionLinear
        return isinstance(module, known)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a layer in a pass: what went in, and the loss's gradient at what came out."""

    inputs: Tensor
    gradients: Tensor


def contributions(layer: Layer, uses: Sequence[Use]) -> list[Contribution]:
    """What the layer's parameters get from each unit."""
    module = layer.module
    if not layer.has_rule:
        return _by_opacus(layer, uses)
    match module:
        case nn.Linear():
            return _dense(layer, uses)
        case PositionLinear():
            return _by_position(module, layer, uses)
        case nn.Embedding():
            return [_embedding(module, layer, uses)]
        case nn.Conv1d() | nn.Conv2d():
            return _convolution(module, layer, uses)
        case nn.LayerNorm():
            normed = [_layer_normed(module, use.inputs) for use in uses]
            products = [n * u.gradients for n, u in zip(normed, uses, strict=True)]
            return _affine(layer, products, uses, kept=len(module.normalized_shape))
        case nn.GroupNorm():
            products = [
                functional.group_norm(u.inputs, module.num_groups, eps=module.eps) * u.gradients
                for u in uses
            ]
            return _group_affine(layer, products, uses)
    raise AssertionError(layer.name)


def _layer_normed(module: nn.LayerNorm, inputs: Tensor) -> Tensor:
    return functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)


def _affine(
    layer: Layer, products: list[Tensor], uses: Sequence[Use], *, kept: int
) -> list[Contribution]:
    """Scale and shift on the last `kept` dimensions."""
    scale = [p.flatten(-kept).flatten(1, -2).sum(dim=1) for p in map(_with_place, products)]
    shift = [_with_place(u.gradients).flatten(-kept).flatten(1, -2).sum(dim=1) for u in uses]
    return _scale_and_shift(layer, scale, shift)


def _with_place(values: Tensor) -> Tensor:
    """[units, ...] as [units, 1, ...], so that there is always a dimension to sum over."""
    return values.unsqueeze(1)


def _group_affine(layer: Layer, products: list[Tensor], uses: Sequence[Use]) -> list[Contribution]:
    """Scale and shift on dimension 1."""
    scale = [product.flatten(2).sum(dim=2) for product in map(_with_end, products)]
    shift = [_with_end(use.gradients).flatten(2).sum(dim=2) for use in uses]
    return _scale_and_shift(layer, scale, shift)


def _with_end(values: Tensor) -> Tensor:
    return values.unsqueeze(-1)


def _scale_and_shift(layer: Layer, scale: list[Tensor], shift: list[Tensor]) -> list[Contribution]:
    parts = {"weight": _total(scale), "bias": _total(shift)}
    return [Instantiated(parts[name][:, None], span) for name, span in layer.spans.items()]


def _total(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(dim=0)


def _dense(layer: Layer, uses: Sequence[Use]) -> list[Contribution]:
    if len(uses) == 1 and uses[0].inputs.dim() == 2:  # noqa: PLR2004 ([units, features])
        bias = layer.spans.get("bias")
        return [Outer(uses[0].inputs, uses[0].gradients, layer.spans["weight"], bias)]
    inputs = _joined([_places(use.inputs) for use in uses])
    gradients = _joined([_places(use.gradients) for use in uses])
    return _sequence(layer, inputs, gradients)


def _places(values: Tensor) -> Tensor:
    """[units, ..., width] as [units, places, width]."""
    return values.reshape(len(values), -1, values.shape[-1])


def _sequence(
    layer: Layer,
    inputs: Tensor,
    gradients: Tensor,
    *,
    kernel: tuple[int, int] | None = None,
) -> list[Contribution]:
    """A product summed over places: inputs [units, places, in], gradients [units, places, out].

    With `kernel`, the inputs are a convolution's: places of the kernel times channels.
    """
    weight = layer.spans["weight"]
    parts: list[Contribution]
    if is_instantiated(inputs.shape, gradients.shape[2]):
        parts = [Instantiated(torch.bmm(gradients.mT, inputs), weight, kernel)]
    else:
        parts = [GramSequence(inputs, gradients, weight, kernel)]
    return parts + _shift(layer, gradients)


def is_instantiated(inputs: torch.Size, width: int) -> bool:
    """Whether a unit's gradient is cheaper to form than to avoid; public shapes decide.

    The number of units must not: the two forms round differently, and one unit more would then
    change what the others contribute.
    """
    _, places, entering = inputs
    entries = entering * width
    if places > MOST_PLACES:
        return True
    if entries > _INSTANTIATED_LIMIT:
        return False
    formed = _MEMORY_COST + places * _PRODUCT_COST
    avoided = places * _DOUBLE_COST + places**2 * (entering + width) / entries * _PRODUCT_COST
    return formed < avoided


def _embedding(module: nn.Embedding, layer: Layer, uses: Sequence[Use]) -> Contribution:
    indices = _joined([use.inputs.reshape(len(use.inputs), -1) for use in uses])
    gradients = _joined([_places(use.gradients) for use in uses])
    if module.padding_idx is not None:
        gradients = gradients.masked_fill((indices == module.padding_idx)[..., None], 0.0)
    is_distinct = isinstance(module, DistinctEmbedding) and len(uses) == 1
    return EmbeddingRows(indices, gradients, layer.spans["weight"], is_distinct)


def _by_position(module: PositionLinear, layer: Layer, uses: Sequence[Use]) -> list[Contribution]:
    """A linear map of each position's own: block by block, positions of equal width together."""
    if len(uses) != 1:
        raise InputError(f"layer {layer.name} is used {len(uses)} times; expected once")
    (use,) = uses
    weight, bias = layer.spans["weight"], layer.spans["bias"]
    width = module.weight.shape[1]
    return [
        PositionOuter(
            entering.transpose(0, 1),
            use.gradients[:, block.start : block.stop].reshape(-1, *block.shape),
            Span(weight.start + block.start * width, weight.start + block.stop * width),
            Span(bias.start + block.start, bias.start + block.stop),
        )
        for block, entering in module.entering(use.inputs)
    ]


def _convolution(
    module: nn.Conv1d | nn.Conv2d, layer: Layer, uses: Sequence[Use]
) -> list[Contribution]:
    """A convolution is a dense layer on what each place of its output sees."""
    gradients = _joined([_places(_channels_last(use.gradients)) for use in uses])
    kernel = (1, *module.kernel_size) if isinstance(module, nn.Conv1d) else module.kernel_size
    seen = (kernel[0] * kernel[1], module.in_channels)
    entries = seen[0] * seen[1]
    shape = torch.Size((*gradients.shape[:2], entries))
    if len(uses) > 1 or not is_instantiated(shape, gradients.shape[2]):
        patches = _joined([_patches(module, use.inputs) for use in uses])
        return _sequence(layer, patches, gradients, kernel=seen)
    formed = gradients.new_empty(len(gradients), gradients.shape[2], entries)
    rows = max(1, _PATCHES_IN_CACHE // (gradients.shape[1] * entries))
    for start in range(0, len(formed), rows):
        part = slice(start, start + rows)
        patches = _patches(module, uses[0].inputs[part])
        torch.bmm(gradients[part].mT, patches, out=formed[part])
    parts: list[Contribution] = [Instantiated(formed, layer.spans["weight"], seen)]
    return parts + _shift(layer, gradients)


def _shift(layer: Layer, gradients: Tensor) -> list[Contribution]:
    """A bias gets the sum over places, if there is one."""
    if "bias" not in layer.spans:
        return []
    return [Instantiated(gradients.sum(dim=1)[:, None], layer.spans["bias"])]


def _patches(module: nn.Conv1d | nn.Conv2d, inputs: Tensor) -> Tensor:
    """What each place of the output sees: [units, places, kernel * channels]."""
    padding = _padding(module)
    # The channels stay as they are; then width, then height, each before and after.
    sides = [0, 0, *(side for pair in reversed(padding) for side in pair)]
    images = _channels_last(inputs).contiguous()
    if any(sides):
        images = functional.pad(images, sides)
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if images.dim() == 3:  # noqa: PLR2004 ([units, length, channels])
        images = images.unsqueeze(1)
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    units, height, width, channels = images.shape
    places = [
        (size - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
        for axis, size in enumerate((height, width))
    ]
    unit, row, column, channel = images.stride()
    windows = images.as_strided(
        (units, *places, *kernel, channels),
        (
            unit,
            row * stride[0],
            column * stride[1],
            row * dilation[0],
            column * dilation[1],
            channel,
        ),
    )
    return windows.reshape(units, places[0] * places[1], -1)


def _channels_last(values: Tensor) -> Tensor:
    """[units, channels, ...] as [units, ..., channels]."""
    return values.movedim(1, -1)


def _joined(parts: list[Tensor]) -> Tensor:
    """The places of every use, one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[tuple[int, int]]:
    """Before and after each spatial dimension, first dimension first."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":
        spans = zip(module.kernel_size, module.dilation, strict=True)
        totals = [dilation * (kernel - 1) for kernel, dilation in spans]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(side), int(side)) for side in module.padding]


def opacus_sampler(module: nn.Module) -> Sampler | None:
    """What forms the per-unit gradients of a layer without a rule here, if Opacus has it."""
    # Seconds to import, and hardly any model needs it.
    from opacus.grad_sample import GradSampleModule  # noqa: PLC0415

    found: Sampler | None = GradSampleModule.GRAD_SAMPLERS.get(type(module))
    return found


def _by_opacus(layer: Layer, uses: Sequence[Use]) -> list[Contribution]:
    sampler = opacus_sampler(layer.module)
    if sampler is None:
        raise AssertionError(layer.name)
    named = {id(p): name for name, p in layer.module.named_parameters(recurse=False)}
    gathered: dict[str, list[Tensor]] = {name: [] for name in layer.spans}
    for use in uses:
        # Opacus takes it for granted that the channels come before the places in memory.
        inputs, gradients = use.inputs.contiguous(), use.gradients.contiguous()
        for parameter, formed in sampler(layer.module, [inputs], gradients).items():
            gathered[named[id(parameter)]].append(formed.flatten(1))
    return [
        Instantiated(_total(parts)[:, None], layer.spans[name]) for name, parts in gathered.items()
    ]
