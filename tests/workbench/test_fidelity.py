"""Measures of likeness: each says nothing where nothing differs, and finds what was changed."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats.contingency import association

from sordino.fidelity import (
    Resolution,
    associations,
    closest_records,
    distances,
    query_shares,
    set_distances,
)
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

Cells = npt.NDArray[np.int32]

SHAPE = DomainShape(
    columns=(
        SingleShape(groups=(3, 3, 2)),
        SetShape(items=5, at_most=3),
        SingleShape(groups=(1, 1, 1)),
        SingleShape(groups=(4, 4)),
    ),
    label=2,
)
FIRST, ITEMS, LABEL, LAST = 0, slice(1, 6), 6, 7


def records(count: int, *, seed: int = 0) -> Cells:
    """The label follows the first column nearly always, the last one nothing."""
    rng = np.random.default_rng(seed)
    first = rng.integers(8, size=count)
    label = np.where(rng.random(count) < 0.9, first % 3, rng.integers(3, size=count))
    items = rng.random((count, 5)) < (0.5, 0.3, 0.2, 0.1, 0.1)
    return np.column_stack([first, items, label, rng.integers(8, size=count)]).astype(np.int32)


REAL = records(4_000)


def changed(position: int, values: npt.NDArray[np.integer]) -> Cells:
    cells = REAL.copy()
    cells[:, position] = values
    return cells


@pytest.mark.parametrize("ways", [1, 2, 3])
@pytest.mark.parametrize("resolution", ["fine", "coarse"])
def test_a_table_is_at_no_distance_from_itself_in_any_order(
    ways: int, resolution: Resolution
) -> None:
    shuffled = np.random.default_rng(1).permutation(REAL)
    found = distances(REAL, shuffled, SHAPE, ways=ways, resolution=resolution)
    assert found.columns == tuple(itertools.combinations((0, 2, 3), ways))
    assert found.mean == 0


def test_distances_are_half_the_differences_of_shares() -> None:
    real = np.array([[0, 0, 0, 0, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0, 1, 0]], dtype=np.int32)
    synthetic = np.array(
        [[0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 1, 0], [6, 0, 0, 0, 0, 0, 1, 7]] * 2,
        dtype=np.int32,
    )
    fine = distances(real, synthetic, SHAPE, ways=1, resolution="fine")
    # 1/2 against 1/3 at 0, nothing against 2/3 at 1 and 6, 1/2 against nothing at 7.
    assert fine.values == pytest.approx([2 / 3, 1 / 6, 1 / 3])
    coarse = distances(real, synthetic, SHAPE, ways=1, resolution="coarse")
    # The cells 0 and 1 are one, and so are 6 and 7.
    assert coarse.values == pytest.approx([1 / 6, 1 / 6, 1 / 3])
    pairs = distances(real, synthetic, SHAPE, ways=2, resolution="coarse")
    assert pairs.values[pairs.columns.index((0, 2))] == pytest.approx(1 / 3)
    assert pairs.matrix(4)[2, 0] == pytest.approx(1 / 3)
    assert np.isnan(pairs.matrix(4)[1]).all()


def test_only_marginals_of_two_columns_see_that_these_were_torn_apart() -> None:
    torn = changed(LABEL, np.random.default_rng(2).permutation(REAL[:, LABEL]))
    assert distances(REAL, torn, SHAPE, ways=1, resolution="fine").mean == 0
    pairs = distances(REAL, torn, SHAPE, ways=2, resolution="fine")
    by_columns = dict(zip(pairs.columns, pairs.values.tolist(), strict=True))
    assert by_columns[0, 2] > 0.5
    assert by_columns[0, 3] == 0


def test_marginals_too_large_to_count_are_counted_all_the_same() -> None:
    wide = DomainShape(columns=(SingleShape(groups=(3_000,)), SingleShape(groups=(3_000,))))
    cells = np.random.default_rng(3).integers(3_000, size=(500, 2)).astype(np.int32)
    other = cells.copy()
    other[:250, 1] = (other[:250, 1] + 1) % 3_000
    assert distances(cells, cells, wide, ways=2, resolution="fine").mean == 0
    assert distances(cells, other, wide, ways=2, resolution="fine").mean == pytest.approx(
        0.5, abs=0.01
    )


def test_at_most_a_thousand_marginals_are_compared() -> None:
    many = DomainShape(columns=(SingleShape(groups=(1, 1)),) * 60)
    cells = np.random.default_rng(4).integers(2, size=(50, 60)).astype(np.int32)
    found = distances(cells, cells[::-1], many, ways=2, resolution="fine")
    assert len(found.columns) == len(set(found.columns)) == 1_000
    assert {column for pair in found.columns for column in pair} == set(range(60))


def test_sets_are_compared_by_size_by_item_and_by_pair() -> None:
    assert set_distances(REAL, REAL, SHAPE)[1].pairs == 0
    # Each item on its own: the same shares and nothing else.
    torn = REAL.copy()
    rng = np.random.default_rng(5)
    torn[:, 1] = rng.permutation(1 - REAL[:, 2])
    found = set_distances(REAL, torn, SHAPE)[1]
    assert found.items == pytest.approx(
        abs(REAL[:, 1].mean() - (1 - REAL[:, 2]).mean()) / 5, abs=1e-12
    )
    assert found.pairs > 0.01
    assert found.sizes > 0.01


def test_queries_have_the_same_answer_on_the_same_records_and_another_on_others() -> None:
    same = query_shares(REAL, REAL[::-1], SHAPE, rng=np.random.default_rng(6))
    assert same.shape == (1_000, 2)
    assert (same[:, 0] == same[:, 1]).all()
    # Neither all nothing nor all everything.
    assert 0.02 < same[:, 0].mean() < 0.5
    other = changed(FIRST, np.zeros(len(REAL), dtype=np.int64))
    different = query_shares(REAL, other, SHAPE, rng=np.random.default_rng(6))
    assert (different[:, 0] == same[:, 0]).all()
    assert np.abs(different[:, 0] - different[:, 1]).mean() > 0.01


def test_queries_ask_for_sets_too() -> None:
    emptied = REAL.copy()
    emptied[:, ITEMS] = 0
    shares = query_shares(REAL, emptied, SHAPE, rng=np.random.default_rng(7), count=200)
    assert (shares[:, 0] != shares[:, 1]).mean() > 0.3


def test_associations_are_cramers_v_of_a_library() -> None:
    matrix = associations(REAL, SHAPE)
    coarse = (np.repeat(np.arange(3), (3, 3, 2))[REAL[:, FIRST]], REAL[:, LABEL])
    table = np.zeros((3, 3), dtype=np.int64)
    np.add.at(table, coarse, 1)
    assert matrix[0, 2] == matrix[2, 0] == pytest.approx(association(table, method="cramer"))
    assert matrix[2, 2] == pytest.approx(1)
    assert matrix[3, 0] < 0.1
    assert np.isnan(matrix[1]).all()
    assert np.isnan(associations(changed(LABEL, np.zeros(len(REAL), dtype=np.int64)), SHAPE)[2, 0])


def test_the_closest_record_is_as_far_as_it_has_other_columns() -> None:
    real = records(300, seed=8)
    copies = real[[5, 6, 7]].copy()
    copies[1, LAST] = 99
    copies[2, [FIRST, LAST]] = 99
    copies[2, ITEMS] = 7
    found = closest_records(real, copies, SHAPE, rng=np.random.default_rng(0), count=10)
    assert sorted(found.tolist()) == [0, 1, 3]
    few = closest_records(real, real, SHAPE, rng=np.random.default_rng(0), count=40)
    assert few.tolist() == [0] * 40
