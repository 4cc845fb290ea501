import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.binning import (
    Scale,
    boundaries_of_integers,
    boundaries_of_numbers,
    near_equal_runs,
    runs_between,
)


def test_few_whole_numbers_have_a_cell_each() -> None:
    found = boundaries_of_integers(17, 20, bins=None, scale="linear")
    np.testing.assert_array_equal(found, [18, 19, 20])
    # 200 numbers at most; the next range has 100 cells.
    assert len(boundaries_of_integers(0, 199, bins=None, scale="log1p")) == 199
    assert len(boundaries_of_integers(0, 200, bins=None, scale="linear")) == 99


def test_bins_of_whole_numbers_hold_as_many_each_as_can_be() -> None:
    edges = [0, *boundaries_of_integers(0, 1005, bins=10, scale="linear"), 1006]
    assert set(np.diff(edges)) <= {100, 101}


def test_no_bin_is_without_a_whole_number() -> None:
    found = boundaries_of_integers(0, 99_999, bins=100, scale="log1p")
    assert found[0] == 1
    assert (np.diff(found) >= 1).all()
    assert len(found) < 99


def test_numbers_have_a_hundred_cells_of_equal_width() -> None:
    found = boundaries_of_numbers(-1, 1, bins=None, scale="linear")
    np.testing.assert_allclose(np.diff([-1, *found, 1]), 0.02)


def test_a_logarithmic_scale_has_cells_of_equal_width_on_it() -> None:
    found = boundaries_of_numbers(10, 1010, bins=8, scale="log1p")
    scaled = np.log1p(np.array([10, *found, 1010]) - 10)
    np.testing.assert_allclose(np.diff(scaled), np.log1p(1000) / 8)


@given(
    st.integers(-(10**9), 10**9),
    st.integers(1, 10**9),
    st.none() | st.integers(1, 300),
    st.sampled_from(["linear", "log1p"]),
)
def test_boundaries_ascend_within_the_bounds(
    low: int, width: int, bins: int | None, scale: Scale
) -> None:
    for find in (boundaries_of_integers, boundaries_of_numbers):
        found = find(low, low + width, bins=bins, scale=scale)
        assert (np.diff(found) > 0).all()
        assert ((found > low) & (found <= low + width)).all()
        assert len(found) < (bins or 200)


def test_runs_lie_between_edges() -> None:
    boundaries = boundaries_of_integers(0, 9, bins=None, scale="linear")
    assert runs_between(boundaries, [3, 4, 9], width=9) == (3, 1, 5, 1)


def test_a_decimal_edge_is_the_boundary_that_it_is_meant_to_be() -> None:
    boundaries = boundaries_of_numbers(0.1, 0.8, bins=7, scale="linear")
    assert 0.6 not in boundaries
    assert runs_between(boundaries, [0.3, 0.6], width=0.7) == (2, 3, 2)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [([0.3, 0.3], "must ascend"), ([0.31], "the nearest is 0.3"), ([0.0], "the nearest is 0.1")],
)
def test_an_edge_that_is_no_boundary_is_refused(edges: list[float], expected: str) -> None:
    boundaries = boundaries_of_numbers(0, 1, bins=10, scale="linear")
    with pytest.raises(ValueError, match=expected):
        runs_between(boundaries, edges, width=1)


def test_one_cell_has_no_boundary() -> None:
    with pytest.raises(ValueError, match="there is one cell"):
        runs_between(boundaries_of_numbers(0, 1, bins=1, scale="linear"), [0.5], width=1)


@given(st.integers(1, 500), st.integers(1, 64))
def test_runs_of_nearly_the_same_length_hold_all_cells(cells: int, at_most: int) -> None:
    runs = near_equal_runs(cells, at_most=at_most)
    assert sum(runs) == cells
    assert len(runs) == min(cells, at_most)
    assert max(runs) - min(runs) <= 1
