from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_noise import NoNoise, SeededNoise
from small_tables import SHAPE, CountedNoise, pair_distance, small_table

from sordino_client.synthesis.generators.columns import noisy_columns
from sordino_client.synthesis.generators.mst import (
    _distance,
    compressed,
    fit_tree,
    measure_pairs,
    select,
)
from sordino_protocols.synthesis.mst import TreePlan
from sordino_protocols.synthesis.positions import flattened
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape

FLAT = flattened(SHAPE)
COLUMNS = len(FLAT.columns)
CELLS = small_table(4_000)


def plan(noise_multiplier: float) -> TreePlan:
    return TreePlan(COLUMNS, noise_multiplier, "record")


def test_the_tree_finds_what_goes_together() -> None:
    one_ways = noisy_columns(CELLS, FLAT, noise_std=1.0, noise=SeededNoise(1))
    pairs = select(CELLS, one_ways, plan(0.5), units=4_000, noise=SeededNoise(2))
    assert len(pairs) == COLUMNS - 1
    assert {(0, 1), (2, 6), (3, 4)} <= set(pairs)


def test_a_choice_of_pure_noise_connects_all_columns_too() -> None:
    one_ways = noisy_columns(CELLS, FLAT, noise_std=1.0, noise=SeededNoise(1))
    pairs = select(CELLS, one_ways, plan(1e6), units=4_000, noise=SeededNoise(2))
    reached = {0}
    for _ in pairs:
        reached |= {column for pair in pairs if reached & set(pair) for column in pair}
    assert reached == set(range(COLUMNS))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12),
    more=st.tuples(st.integers(0, 2), st.integers(0, 3)),
    noisy=st.lists(st.floats(-3, 20), min_size=7, max_size=7),
    units=st.floats(1, 50),
)
def test_one_unit_changes_a_score_by_one_at_most(
    rows: list[tuple[int, int]], more: tuple[int, int], noisy: list[float], units: float
) -> None:
    one_ways = [np.array(noisy[:3]), np.array(noisy[3:])]
    with_it = np.array([*rows, more], dtype=np.int32)
    found, before = (
        _distance(cells, (0, 1), one_ways, units=units) for cells in (with_it, with_it[:-1])
    )
    assert abs(found - before) <= 1


def test_cells_with_hardly_a_count_become_one() -> None:
    domain = compressed([np.array([90.0, 29.0, 31.0, -4.0]), np.array([40.0, 35.0])], 10.0)
    assert domain.sizes == (3, 2)
    cells = np.array([[0, 0], [1, 1], [2, 0], [3, 1]], dtype=np.int32)
    merged = domain.merged(cells)
    assert merged.tolist() == [[0, 0], [2, 1], [1, 0], [2, 1]]
    assert [each.tolist() for each in domain.merged_counts([np.arange(4.0), np.ones(2)])] == [
        [0.0, 2.0, 4.0],
        [1.0, 1.0],
    ]
    split = domain.split(np.repeat(merged, 300, axis=0), rng=np.random.default_rng(1))
    assert np.array_equal(domain.merged(split), np.repeat(merged, 300, axis=0))
    assert set(split[300:600, 0]) == {1, 3}


def test_pairs_are_measured_with_the_parent_first() -> None:
    wide = plan(1e-9)
    domain = compressed(noisy_columns(CELLS, FLAT, noise_std=1.0, noise=NoNoise()), 0.0)
    assert domain.sizes == tuple(
        column.fine for column in FLAT.columns if isinstance(column, SingleShape)
    )
    pairs = [(0, 1), (2, 6), (1, 3), (3, 4), (4, 5), (1, 6)]
    tables = measure_pairs(CELLS, pairs, wide, domain=domain, noise=NoNoise())
    assert set(tables) == {(0, 1), (1, 3), (1, 6), (3, 4), (4, 5), (6, 2)}
    for (parent, child), table in tables.items():
        for (a, b), count in np.ndenumerate(table):
            assert count == ((CELLS[:, parent] == a) & (CELLS[:, child] == b)).sum()


def test_a_table_of_little_noise_is_as_the_records_are() -> None:
    fitted = fit_tree(CELLS, plan(0.3), flat=FLAT, noise=SeededNoise(5))
    assert fitted.units == pytest.approx(4_000, abs=20)
    made = fitted.sampler.sample(8_000, rng=np.random.default_rng(6))
    sizes = [column.fine for column in FLAT.columns if isinstance(column, SingleShape)]
    for i, j in combinations(range(COLUMNS), 2):
        assert pair_distance(CELLS, made, (i, j), (sizes[i], sizes[j])) < 0.06
    # Columns that have nothing to do with each other would be further off than that.
    apart = np.random.default_rng(7).permuted(CELLS, axis=0)
    assert pair_distance(CELLS, apart, (0, 1), (5, 3)) > 0.3


def test_every_count_gets_the_noise_that_is_paid_for() -> None:
    noise, chosen = CountedNoise(8), plan(2.0)
    fitted = fit_tree(CELLS, chosen, flat=FLAT, noise=noise)
    assert set(noise.drawn) == {chosen.one_way_std, chosen.pair_std}
    assert noise.drawn[chosen.one_way_std] == 5 + 3 + 6 + 2 * 3 + 2
    assert fitted.units != round(fitted.units)


@pytest.mark.parametrize("units", [0, 1])
def test_hardly_any_records_are_no_error(units: int) -> None:
    fitted = fit_tree(CELLS[:units], plan(3.0), flat=FLAT, noise=SeededNoise(9))
    made = fitted.sampler.sample(50, rng=np.random.default_rng(1))
    assert made.shape == (50, COLUMNS)


def test_a_single_column_needs_no_tree() -> None:
    shape = DomainShape(columns=(SingleShape(groups=(1, 1)),))
    cells = np.zeros((300, 1), np.int32)
    fitted = fit_tree(cells, TreePlan(1, 1.0, "record"), flat=shape, noise=SeededNoise(1))
    assert fitted.sampler.sample(100, rng=np.random.default_rng(1)).mean() < 0.1
