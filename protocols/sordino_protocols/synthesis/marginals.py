"""Which marginals a site measures, at which noise: a function of the shape alone.

One-way marginals at fine resolution say what single columns look like; two-way marginals at coarse
resolution say how columns go together. All noise is independent, so the squared inverse noise
multipliers of the parts add up to that of the whole (Dong, Roth & Su 2022: mu of composed Gaussians
add in squares). A marginal's share grows with its cells to the power 2/3, which makes the sum of
the squared errors of the fitted table smaller than equal shares do.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sordino_protocols.privacy import Composed, DiscreteGaussian, Event, PrivacyUnit, SelfComposed
from sordino_protocols.synthesis.shapes import ColumnShape, DomainShape, SetShape

Resolution = Literal["fine", "coarse"]

LARGEST_ITEM_PAIRS = 2_000
"""A set's items are counted in pairs only if there are no more of them."""

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Marginal:
    """One table of counts, released with independent noise on every cell.

    Attributes:
        columns: positions in `DomainShape.columns`, ascending: one or two; twice the same for the
            pairs of a set's items.
        resolution: of single columns.
        cells: how many counts there are. In C order, the first column slowest; a set stands with
            its items, pairs of one set's items i < j in lexicographic order.
        contribution: how many of the counts one unit is in at most.
        noise_std: sigma of the discrete Gaussian on every count.
    """

    columns: tuple[int, ...]
    resolution: Resolution
    cells: int
    contribution: int
    noise_std: float


def marginals_of(
    shape: DomainShape, *, noise_multiplier: float, fine_share: float, label_weight: float
) -> tuple[Marginal, ...]:
    """What is measured: fine one-way marginals by column, then coarse pairs in lexicographic order.

    Args:
        shape: of the cells.
        noise_multiplier: of all marginals together.
        fine_share: share of the squared inverse noise multiplier that one-way marginals get.
        label_weight: how much more of it a pair with the label gets.
    """
    pairs = [*_pairs(shape)]
    shares = (fine_share, 1 - fine_share) if pairs else (1.0, 0.0)
    weights = [label_weight if shape.label in marginal.columns else 1.0 for marginal in pairs]
    return (
        *one_ways_of(shape, noise_multiplier=noise_multiplier / math.sqrt(shares[0])),
        *_with_noise(pairs, weights, shares[1] / noise_multiplier**2),
    )


def one_ways_of(shape: DomainShape, *, noise_multiplier: float) -> tuple[Marginal, ...]:
    """The fine one-way marginals alone, by column.

    Args:
        shape: of the cells.
        noise_multiplier: of all of them together.
    """
    ones = [_one(column, each) for column, each in enumerate(shape.columns)]
    return tuple(_with_noise(ones, [1.0] * len(ones), 1 / noise_multiplier**2))


def with_more_noise(marginals: Sequence[Marginal], factor: float) -> tuple[Marginal, ...]:
    """The same marginals, every sigma multiplied, and rounded up."""
    return tuple(
        replace(each, noise_std=_rounded_up(each.noise_std * factor)) for each in marginals
    )


def event_of(marginals: Sequence[Marginal], unit: PrivacyUnit) -> Event:
    """What releasing the marginals costs: a discrete Gaussian for each count that a unit is in."""
    counts = Counter[float]()
    for marginal in marginals:
        counts[marginal.noise_std] += marginal.contribution
    return Composed(
        tuple(
            SelfComposed(DiscreteGaussian(noise_std, 1, unit), count)
            for noise_std, count in sorted(counts.items())
        )
    )


def _one(column: int, shape: ColumnShape) -> Marginal:
    if isinstance(shape, SetShape):
        return Marginal((column,), "fine", shape.items, shape.at_most, math.nan)
    return Marginal((column,), "fine", shape.fine, 1, math.nan)


def _pairs(shape: DomainShape) -> Iterator[Marginal]:
    for first, second in itertools.combinations_with_replacement(range(len(shape.columns)), 2):
        if (pair := _pair(shape, first, second)) is not None:
            yield pair


def _pair(shape: DomainShape, first: int, second: int) -> Marginal | None:
    """None for a pair that is not measured: of two sets, or of a column with itself."""
    match shape.columns[first], shape.columns[second]:
        case SetShape(items=items, at_most=at_most), SetShape():
            pairs = items * (items - 1) // 2
            if first != second or at_most < 2 or pairs > LARGEST_ITEM_PAIRS:  # noqa: PLR2004
                return None
            return Marginal(
                (first, second), "coarse", pairs, at_most * (at_most - 1) // 2, math.nan
            )
        case SetShape() as several, single:
            return _with_set((first, second), several, single)
        case single, SetShape() as several:
            return _with_set((first, second), several, single)
        case one, other if first != second:
            cells = _coarse(one) * _coarse(other)
            return Marginal((first, second), "coarse", cells, 1, math.nan)
        case _:
            return None


def _with_set(columns: tuple[int, int], several: SetShape, single: ColumnShape) -> Marginal:
    cells = several.items * _coarse(single)
    return Marginal(columns, "coarse", cells, several.at_most, math.nan)


def _coarse(shape: ColumnShape) -> int:
    return shape.items if isinstance(shape, SetShape) else shape.coarse


def _with_noise(
    marginals: Sequence[Marginal], weights: Sequence[float], precision: float
) -> Iterator[Marginal]:
    """Sigmas with which the contributions over sigma squared add up to `precision`, or to less."""
    shares = [
        weight * marginal.cells ** (2 / 3)
        for weight, marginal in zip(weights, marginals, strict=True)
    ]
    for share, marginal in zip(shares, marginals, strict=True):
        variance = marginal.contribution * sum(shares) / (share * precision)
        yield replace(marginal, noise_std=_rounded_up(math.sqrt(variance)))


def _rounded_up(noise_std: float) -> float:
    """To four digits: a plan has few different sigmas then, and a price is soon found."""
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(noise_std)))
    return math.ceil(noise_std * scale) / scale
