import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_noise import SeededNoise
from small_tables import SHAPE, CountedNoise, pair_distance, small_table

from sordino_client.synthesis.generators.privbayes import (
    CHOICE_SENSITIVITY,
    CoarseTable,
    dependence,
    fit_network,
    select,
)
from sordino_protocols.synthesis.positions import coarse_cells, flattened, singles
from sordino_protocols.synthesis.privbayes import NetworkPlan

FLAT = flattened(SHAPE)
COLUMNS = len(FLAT.columns)
SIZES = [column.coarse for column in singles(FLAT)]
CELLS = small_table(4_000)


def plan(noise_multiplier: float, *, degree: int = 2) -> NetworkPlan:
    return NetworkPlan(COLUMNS, degree, noise_multiplier, "record")


tables = st.lists(st.lists(st.integers(0, 6), min_size=3, max_size=3), min_size=2, max_size=4)


@settings(max_examples=300, deadline=None)
@given(table=tables, data=st.data())
def test_one_unit_changes_a_score_by_less_than_two(
    table: list[list[int]], data: st.DataObject
) -> None:
    before = np.array(table, dtype=np.int64)
    row = data.draw(st.integers(0, before.shape[0] - 1))
    column = data.draw(st.integers(0, 2))
    after = before.copy()
    after[row, column] += 1
    assert abs(dependence(after) - dependence(before)) <= CHOICE_SENSITIVITY


def test_one_unit_can_change_a_score_by_almost_two() -> None:
    # So no smaller number would do.
    before = np.zeros((2, 2), dtype=np.int64)
    before[0, 0] = 999
    after = before.copy()
    after[1, 1] = 1
    assert dependence(after) - dependence(before) > 0.99 * CHOICE_SENSITIVITY


def test_independent_columns_score_nothing_and_equal_ones_most() -> None:
    assert dependence(np.outer([2, 4], [10, 20, 30])) == pytest.approx(0)
    assert dependence(np.zeros((3, 2), dtype=np.int64)) == 0
    assert dependence(np.diag([50, 50])) == pytest.approx(50)


def test_the_network_finds_what_goes_together() -> None:
    coarse = CoarseTable(coarse_cells(CELLS, FLAT), SIZES)
    families = select(coarse, plan(0.3), units=4_000, noise=SeededNoise(1))
    assert sorted(family.child for family in families) == list(range(COLUMNS))
    above = {family.child: set(family.parents) for family in families}
    assert 0 in above[1] or 1 in above[0]
    assert 2 in above[6] or 6 in above[2]
    seen: set[int] = set()
    for family in families:
        assert seen.issuperset(family.parents)
        assert len(family.parents) <= 2
        seen.add(family.child)


def test_tables_that_would_drown_in_noise_are_no_candidates() -> None:
    coarse = CoarseTable(coarse_cells(CELLS, FLAT), SIZES)
    noisy = plan(80.0)
    families = select(coarse, noisy, units=4_000, noise=SeededNoise(2))
    assert noisy.largest_table(4_000) < 4
    assert all(not family.parents for family in families)


def test_a_table_of_little_noise_is_as_the_records_are() -> None:
    fitted = fit_network(CELLS, plan(0.3), flat=FLAT, noise=SeededNoise(3))
    made = fitted.sampler.sample(8_000, rng=np.random.default_rng(4))
    assert pair_distance(CELLS, made, (0, 1), (5, 3)) < 0.05
    assert pair_distance(CELLS, made, (2, 6), (6, 2)) < 0.05
    assert pair_distance(CELLS, made, (3, 4), (2, 2)) < 0.05


def test_every_count_gets_the_noise_that_is_paid_for() -> None:
    noise, chosen = CountedNoise(5), plan(2.0)
    fit_network(CELLS, chosen, flat=FLAT, noise=noise)
    assert set(noise.drawn) == {chosen.one_way_std, chosen.table_std}
    assert noise.drawn[chosen.one_way_std] == 5 + 3 + 6 + 2 * 3 + 2


@pytest.mark.parametrize("units", [0, 1])
def test_hardly_any_records_are_no_error(units: int) -> None:
    fitted = fit_network(CELLS[:units], plan(3.0), flat=FLAT, noise=SeededNoise(6))
    assert fitted.sampler.sample(50, rng=np.random.default_rng(1)).shape == (50, COLUMNS)
