import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statistical import assert_rate

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.positions import (
    coarse_cells,
    coarse_counts,
    drawn,
    estimated_units,
    fine_cells,
    flattened,
    probabilities,
    singles,
    within_sets,
)
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

AGE, TOWERS, SEX = (
    SingleShape(groups=(2, 3, 1)),
    SetShape(items=4, at_most=2),
    SingleShape(groups=(1, 1)),
)
MIXED = DomainShape(columns=(AGE, TOWERS, SEX), label=2)
FLAT = flattened(MIXED)


def test_every_item_becomes_a_column_of_the_same_cells() -> None:
    assert FLAT.position_count == MIXED.position_count == len(FLAT.columns)
    assert [column.fine for column in singles(FLAT)] == [6, 2, 2, 2, 2, 2]
    # The label is where it was among the positions.
    assert FLAT.label == 5


def test_a_shape_without_sets_stays_as_it_is() -> None:
    plain = DomainShape(columns=(AGE, SEX), label=1)
    assert flattened(plain) == plain
    with pytest.raises(ValueError, match="without sets"):
        singles(MIXED)


def test_too_many_items_are_no_columns() -> None:
    wide = DomainShape(columns=(SetShape(items=1001, at_most=3),))
    with pytest.raises(InputError, match="use the mixture"):
        flattened(wide)


def test_only_records_with_too_many_items_lose_some() -> None:
    rng = np.random.default_rng(1)
    cells = rng.integers(2, size=(500, 6), dtype=np.int32)
    kept = within_sets(cells, MIXED, rng=rng)
    before, after = cells[:, 1:5].sum(axis=1), kept[:, 1:5].sum(axis=1)
    assert np.array_equal(after, np.minimum(before, 2))
    assert (kept <= cells).all()
    assert np.array_equal(kept[:, [0, 5]], cells[:, [0, 5]])
    assert np.array_equal(kept[before <= 2], cells[before <= 2])


def test_every_item_is_as_likely_to_be_lost() -> None:
    rows = 4_000
    kept = within_sets(np.ones((rows, 6), np.int32), MIXED, rng=np.random.default_rng(2))
    for item in range(1, 5):
        assert_rate(int(kept[:, item].sum()), rows, 0.5, false_failure=1e-9)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=6))
def test_probabilities_are_some_whatever_the_noise(counts: list[float]) -> None:
    found = probabilities(np.array(counts))
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)


def test_probabilities_are_uniform_only_where_nothing_is_left() -> None:
    found = probabilities(np.array([[-1.0, 0.0], [-5.0, 3.0], [1.0, 3.0]]))
    assert found.tolist() == [[0.5, 0.5], [0.0, 1.0], [0.25, 0.75]]


def test_draws_follow_each_rows_own_probabilities() -> None:
    rows = 6_000
    first, second = np.array([0.2, 0.0, 0.8]), np.array([0.0, 1.0, 0.0])
    chances = np.repeat([first, second], rows, axis=0)
    cells = drawn(chances, rng=np.random.default_rng(3))
    assert_rate(int((cells[:rows] == 0).sum()), rows, 0.2)
    assert not (cells[:rows] == 1).any()
    assert (cells[rows:] == 1).all()


def test_fine_cells_lie_in_their_coarse_ones_as_often_as_measured() -> None:
    rows, shape = 6_000, DomainShape(columns=(AGE,))
    counts = [np.array([30.0, 10.0, -4.0, 5.0, 15.0, 7.0])]
    coarse = np.random.default_rng(4).integers(3, size=(rows, 1), dtype=np.int32)
    fine = fine_cells(coarse, counts, shape, rng=np.random.default_rng(5))
    assert np.array_equal(coarse_cells(fine, shape), coarse)
    in_first = fine[coarse == 0]
    assert_rate(int((in_first == 0).sum()), len(in_first), 0.75)
    in_second = fine[coarse == 1]
    assert not (in_second == 2).any()
    assert_rate(int((in_second == 4).sum()), len(in_second), 0.75)


def test_coarse_counts_are_counts_of_coarse_cells() -> None:
    shape = DomainShape(columns=(AGE, SEX))
    cells = np.random.default_rng(6).integers([6, 2], size=(200, 2)).astype(np.int32)
    fine = [np.bincount(cells[:, 0], minlength=6), np.bincount(cells[:, 1], minlength=2)]
    found = coarse_counts([each.astype(np.float64) for each in fine], shape)
    coarse = coarse_cells(cells, shape)
    assert np.array_equal(found[0], np.bincount(coarse[:, 0], minlength=3))
    assert np.array_equal(found[1], np.bincount(coarse[:, 1], minlength=2))


def test_the_number_of_units_comes_from_sums_the_small_ones_above_all() -> None:
    # Two cells: variance 2; eight cells: variance 8. So the first counts four times as much.
    assert estimated_units([np.full(2, 50.0), np.full(8, 15.0)]) == pytest.approx(104)
    assert estimated_units([np.full(2, -50.0)]) == 1.0
