"""What a site measures: counts as laid out, bounded influence of a unit, and noise of the size."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_discrete_gaussian

from sordino_client.synthesis.measure import exact_counts, measure, places_of, with_noise
from sordino_client.training.noise import SecureNoise
from sordino_protocols.synthesis.marginals import Marginal, marginals_of
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

Cells = npt.NDArray[np.int32]

SHAPE = DomainShape(
    columns=(
        SingleShape(groups=(3, 2, 1)),
        SetShape(items=4, at_most=2),
        SingleShape(groups=(1, 1)),
        SetShape(items=3, at_most=3),
    ),
    label=2,
)
MARGINALS = marginals_of(SHAPE, noise_multiplier=3.0, fine_share=0.15, label_weight=4.0)


def rows_of(seed: int, count: int) -> Cells:
    """Cells as an encoder makes them: no set has too many items."""
    rng = np.random.default_rng(seed)
    several = np.zeros((count, 4), dtype=np.int32)
    for row in several:
        row[rng.choice(4, size=rng.integers(0, 3), replace=False)] = 1
    return np.column_stack(
        [
            rng.integers(0, 6, count),
            several,
            rng.integers(0, 2, count),
            rng.integers(0, 2, (count, 3)),
        ]
    ).astype(np.int32)


def counted_by_hand(cells: Cells, marginals: tuple[Marginal, ...]) -> list[int]:
    """The same counts by the definition, a record and a cell at a time."""
    counts = list[int]()
    for marginal in marginals:
        parts = [list(_memberships(column, marginal)) for column in marginal.columns]
        if len(set(marginal.columns)) < len(marginal.columns):
            tests = [[one, other] for one, other in itertools.combinations(parts[0], 2)]
        else:
            tests = [list(each) for each in itertools.product(*parts)]
        counts += [sum(all(test(row) for test in each) for row in cells) for each in tests]
    return counts


def _memberships(index: int, marginal: Marginal) -> Iterator[Callable[[Cells], bool]]:
    """A test of a record for each cell of a column."""
    column, start = SHAPE.columns[index], list(SHAPE.starts())[index]
    match column:
        case SetShape():
            yield from (_test(start + item, {1}) for item in range(column.items))
        case SingleShape() if marginal.resolution == "fine":
            yield from (_test(start, {cell}) for cell in range(column.fine))
        case SingleShape():
            runs = np.split(np.arange(column.fine), np.cumsum(column.groups)[:-1])
            yield from (_test(start, set(run.tolist())) for run in runs)


def _test(place: int, wanted: set[int]) -> Callable[[Cells], bool]:
    return lambda row: int(row[place]) in wanted


def test_counts_are_those_of_the_definition_in_the_order_of_the_marginals() -> None:
    cells = rows_of(1, 40)
    measured = exact_counts(cells, MARGINALS, shape=SHAPE)
    assert measured.tolist() == counted_by_hand(cells, MARGINALS)
    # Two sets are counted in no pair; all other pairs are there.
    assert [each.columns for each in MARGINALS if len(each.columns) == 2] == [
        *[(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 3), (3, 3)]
    ]


def test_without_noise_the_release_is_the_counts() -> None:
    cells = rows_of(2, 30)
    released = measure(cells, MARGINALS, shape=SHAPE, noise=NoNoise())
    assert released.dtype == np.int32
    assert released.tolist() == exact_counts(cells, MARGINALS, shape=SHAPE).tolist()


@pytest.mark.parametrize("count", [0, 1])
def test_the_release_has_the_same_shape_whoever_is_in_it(count: int) -> None:
    released = measure(rows_of(3, count), MARGINALS, shape=SHAPE, noise=SeededNoise(3))
    assert released.shape == (sum(each.cells for each in MARGINALS),)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=7, max_size=7))
def test_one_unit_adds_at_most_its_contribution_whatever_its_cells(
    seed: int, items: list[bool]
) -> None:
    # A set with more items than it may have, too: the encoder's promise is not relied on.
    cells = rows_of(seed, 12)
    unit = rows_of(seed + 1, 1)
    unit[0, [1, 2, 3, 4, 6, 7, 8]] = items
    with_unit = exact_counts(np.vstack([cells, unit]), MARGINALS, shape=SHAPE)
    change = with_unit - exact_counts(cells, MARGINALS, shape=SHAPE)
    assert set(change.tolist()) <= {0, 1}
    for marginal, place in zip(MARGINALS, places_of(MARGINALS), strict=True):
        assert change[place].sum() <= marginal.contribution


def test_a_cut_that_is_left_out_would_be_seen() -> None:
    everything = np.array([[0, 1, 1, 1, 1, 0, 1, 1, 1]], dtype=np.int32)
    loose = SHAPE.model_copy(
        update={"columns": (SHAPE.columns[0], SetShape(items=4, at_most=4), *SHAPE.columns[2:])}
    )
    several = MARGINALS[1:2]
    assert exact_counts(everything, several, shape=SHAPE).sum() == several[0].contribution == 2
    assert exact_counts(everything, several, shape=loose).sum() == 4


def test_noise_has_the_sigma_of_each_marginal_and_is_independent() -> None:
    # One cell in three, again and again: as an auditor runs a release 9,000 times at once.
    sigmas = (2.0, 7.5, 30.0)
    marginals = tuple(Marginal((0,), "fine", 3, 1, sigma) for sigma in sigmas) * 3_000
    drawn = with_noise(np.zeros(27_000, dtype=np.int64), marginals, noise=SecureNoise())
    columns = drawn.reshape(3_000, 3, 3)
    for index, sigma in enumerate(sigmas):
        assert_discrete_gaussian(columns[:, index], sigma)
    first, second = columns[:, 0, 0].astype(np.float64), columns[:, 1, 1].astype(np.float64)
    # For independent columns this statistic is nearly normal: beyond 6.2 with probability 6e-10.
    assert abs(np.corrcoef(first, second)[0, 1]) * np.sqrt(len(first)) < 6.2


def test_noise_that_is_a_tenth_too_small_would_be_seen() -> None:
    marginals = (Marginal((0,), "fine", 9_000, 1, 9.0),)
    drawn = with_noise(np.zeros(9_000, dtype=np.int64), marginals, noise=SecureNoise())
    with pytest.raises(AssertionError):
        assert_discrete_gaussian(drawn, 10.0)


@pytest.mark.parametrize(
    "cells",
    [
        np.full((2, 9), 6, dtype=np.int32),
        np.full((2, 9), -1, dtype=np.int32),
        np.zeros((2, 8), dtype=np.int32),
        np.zeros(9, dtype=np.int32),
    ],
)
def test_cells_of_another_shape_are_an_error(cells: Cells) -> None:
    with pytest.raises(ValueError, match="cell"):
        measure(cells, MARGINALS, shape=SHAPE, noise=NoNoise())


@pytest.mark.parametrize(
    "marginal",
    [
        Marginal((0,), "coarse", 6, 1, 1.0),
        Marginal((1, 3), "coarse", 12, 6, 1.0),
        Marginal((0, 0), "coarse", 9, 1, 1.0),
        Marginal((0,), "fine", 5, 1, 1.0),
    ],
)
def test_a_marginal_that_the_shape_has_not_is_an_error(marginal: Marginal) -> None:
    with pytest.raises(ValueError, match="count"):
        measure(rows_of(4, 5), (marginal,), shape=SHAPE, noise=NoNoise())
