"""Which marginals are measured, in what order, and that their noise costs what the plan says."""

import itertools
import math

import pytest

from sordino_protocols.privacy import Composed, DiscreteGaussian, SelfComposed
from sordino_protocols.synthesis.marginals import (
    LARGEST_ITEM_PAIRS,
    Marginal,
    event_of,
    marginals_of,
    with_more_noise,
)
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

AGE = SingleShape(groups=(10,) * 8 + (1,))
SEX = SingleShape(groups=(1, 1))
TOWERS = SetShape(items=5, at_most=3)
SHAPE = DomainShape(columns=(AGE, SEX, TOWERS), label=1)


def measured(
    shape: DomainShape = SHAPE, *, noise_multiplier: float = 20.0, label_weight: float = 4.0
) -> tuple[Marginal, ...]:
    return marginals_of(
        shape, noise_multiplier=noise_multiplier, fine_share=0.15, label_weight=label_weight
    )


def precision(marginals: tuple[Marginal, ...]) -> float:
    return sum(each.contribution / each.noise_std**2 for each in marginals)


def test_one_way_marginals_are_fine_and_pairs_are_coarse_in_order() -> None:
    assert [
        (each.columns, each.resolution, each.cells, each.contribution) for each in measured()
    ] == [
        ((0,), "fine", 81, 1),
        ((1,), "fine", 2, 1),
        ((2,), "fine", 5, 3),
        ((0, 1), "coarse", 18, 1),
        ((0, 2), "coarse", 45, 3),
        ((1, 2), "coarse", 10, 3),
        ((2, 2), "coarse", 10, 3),
    ]


@pytest.mark.parametrize("noise_multiplier", [0.3, 2.0, 20.0, 777.7])
def test_all_noise_together_is_that_of_the_plan_and_never_less(noise_multiplier: float) -> None:
    marginals = measured(noise_multiplier=noise_multiplier)
    whole = noise_multiplier**-2
    assert whole * (1 - 1e-2) < precision(marginals) <= whole
    fine = tuple(each for each in marginals if each.resolution == "fine")
    assert precision(fine) == pytest.approx(0.15 * whole, rel=1e-2)


def test_a_table_of_more_cells_gets_less_noise_and_a_pair_with_the_label_too() -> None:
    first, second, *_ = measured()
    assert first.noise_std / second.noise_std == pytest.approx((81 / 2) ** (-1 / 3), rel=1e-3)
    shape = DomainShape(columns=(SEX, SEX, SEX), label=0)
    pairs = measured(shape)[3:]
    with_label, without = pairs[0].noise_std, pairs[2].noise_std
    assert without / with_label == pytest.approx(2.0, rel=1e-3)
    assert len({each.noise_std for each in measured(shape, label_weight=1.0)[3:]}) == 1


def test_the_event_has_a_discrete_gaussian_for_each_count_that_a_unit_is_in() -> None:
    marginals = measured()
    event = event_of(marginals, "entity")
    assert isinstance(event, Composed)
    counts = 0
    for part in event.events:
        assert isinstance(part, SelfComposed)
        assert isinstance(part.event, DiscreteGaussian)
        assert (part.event.sensitivity, part.event.unit) == (1, "entity")
        counts += part.count
    assert counts == 1 + 1 + 3 + 1 + 3 + 3 + 3


def test_noise_is_rounded_up_to_four_digits_and_so_are_shares_of_it() -> None:
    for each, share in zip(measured(), with_more_noise(measured(), 1 / math.sqrt(3)), strict=True):
        assert each.noise_std == float(f"{each.noise_std:.4g}")
        exact = each.noise_std / math.sqrt(3)
        assert exact <= share.noise_std <= exact * (1 + 1.001e-3)


def test_a_single_column_has_no_pairs_and_all_of_the_privacy() -> None:
    marginals = measured(DomainShape(columns=(SEX,)))
    assert [each.columns for each in marginals] == [(0,)]
    assert precision(marginals) == pytest.approx(1 / 400, rel=1e-3)


def test_two_sets_and_a_set_of_many_items_are_not_paired() -> None:
    items = next(n for n in itertools.count(2) if n * (n - 1) // 2 > LARGEST_ITEM_PAIRS)
    many = SetShape(items=items, at_most=4)
    assert [each.columns for each in measured(DomainShape(columns=(many, TOWERS)))] == [
        (0,),
        (1,),
        (1, 1),
    ]
    lonely = DomainShape(columns=(SetShape(items=5, at_most=1),))
    assert [each.columns for each in measured(lonely)] == [(0,)]
