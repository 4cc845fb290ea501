"""Four ways to bring a unit's gradient to the clipping norm, each bounded by it.

Every rule multiplies each layer's part of a unit's gradient with a factor in [0, 1] and the sum
over the units with one public constant. So no factor can overflow, and in every precision a rule is
as exact as flat clipping (`arithmetic`): it clips to `1 / amplification` of the bound, and what
comes out is that sum, amplified. Norms are upper bounds of the exact ones, so the bound holds. A
unit whose norm is not finite gets zeros from every rule.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sordino_protocols.clipping import (
    AdaptiveClipping,
    ClippingRule,
    FlatClipping,
    NormalizedClipping,
    PerLayerClipping,
)

# Products in single precision lose what is below 2^-126; times this it is still far below a bound.
_LARGEST_AMPLIFICATION = 2.0**20


@dataclass(frozen=True, slots=True)
class Clip:
    """What some units' gradients are multiplied with.

    Attributes:
        factors: [layers, units], in [0, 1].
        excluded: [units], whose gradient has no finite norm.
        below: [units], whose gradient is left as it is; never an excluded unit.
    """

    factors: Tensor
    excluded: Tensor
    below: Tensor


def clip(squared_norms: Tensor, rule: ClippingRule, *, bound: float) -> Clip:
    """Clip units by the norms of their gradients' layers.

    Args:
        squared_norms: [layers, units], float64, no less than the exact ones; may be NaN.
        rule: how.
        bound: the L2 norm that a unit's gradient, clipped and amplified, may have. Under adaptive
            clipping, the gradient gets its share of it.
    """
    whole = squared_norms.sum(dim=0)
    # No square is negative: a sum is finite only if each of them is. One that overflows is not.
    excluded = whole.isfinite().logical_not_()
    match rule:
        case FlatClipping():
            factors, target = clip_scales(whole, bound), bound
        case AdaptiveClipping():
            target = rule.gradient_share * bound
            factors = clip_scales(whole, target)
        case PerLayerClipping():
            target = bound / math.sqrt(len(squared_norms))
            factors = clip_scales(squared_norms, target)
        case NormalizedClipping():
            target = bound
            factors = _normalized(whole, rule, bound)
    factors = factors.expand_as(squared_norms).masked_fill(excluded, 0)
    # What is no number or infinite is not below anything.
    return Clip(factors, excluded, whole.sqrt() <= target)


def clip_scales(squared_norms: Tensor, bound: float) -> Tensor:
    """What a gradient of each norm is multiplied with; zero where it is not finite."""
    norms = squared_norms.sqrt()
    scales = (bound / norms).clamp_(max=1.0)
    return scales.masked_fill_(norms.isfinite().logical_not_(), 0)


def amplification(rule: ClippingRule, bound: float) -> float:
    """What a sum of gradients, multiplied with their factors, is multiplied with; at least 1."""
    match rule:
        case NormalizedClipping():
            return min(max(bound / rule.stability, 1.0), _LARGEST_AMPLIFICATION)
        case _:
            return 1.0


def threshold_sum(rule: AdaptiveClipping, *, below: int, above: int, bound: float) -> float:
    """What units add to the threshold's coordinate, by whether their norm was below it."""
    bits = below * rule.bit(is_below=True) + above * rule.bit(is_below=False)
    return rule.share * bound * bits


def _normalized(squared_norms: Tensor, rule: NormalizedClipping, bound: float) -> Tensor:
    """C / (norm + stability), less the amplification; where that is capped, at most 1."""
    norms = squared_norms.sqrt()
    scales = bound / (norms + rule.stability) / amplification(rule, bound)
    return torch.where(norms.isfinite(), torch.clamp(scales, max=1.0), 0.0)
