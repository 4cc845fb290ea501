"""Noisy marginals: what they say of the number of units, and where they stand in a stack."""

import numpy as np
import pytest
from small_domain import small_cells, small_schema, small_table
from statistical import assert_scale

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.shapes import DomainShape, SetShape
from sordino_protocols.synthesis.stacking import stack_of, stacked
from sordino_protocols.synthesis.tables import SiteTable, estimate_units

TINY = 1e-6


def test_without_noise_the_units_are_counted_exactly() -> None:
    rng = np.random.default_rng(1)
    table = small_table(small_cells(777, rng=rng), noise_multiplier=TINY, rng=rng)
    assert estimate_units(table).value == pytest.approx(777, abs=1e-6)


def test_an_estimate_of_units_errs_by_as_much_as_it_says() -> None:
    rng = np.random.default_rng(2)
    cells = small_cells(500, rng=rng)
    found = [estimate_units(small_table(cells, noise_multiplier=3, rng=rng)) for _ in range(2000)]
    errors = np.array([each.value for each in found]) - 500
    # Counts are rounded to whole numbers here, which adds a little to a noise of ten and more.
    assert_scale(errors, found[0].sd, false_failure=1e-9)
    assert len({each.sd for each in found}) == 1


def test_sets_alone_do_not_say_how_many_units_there_are() -> None:
    shape = DomainShape(columns=(SetShape(items=2, at_most=1),))
    table = SiteTable("a", shape, (Marginal((0,), "fine", 2, 1, 1.0),), np.ones(2), (1.0,))
    with pytest.raises(InputError, match="cannot be told from sets alone"):
        estimate_units(table)


@pytest.mark.parametrize(
    ("counts", "stds", "expected"),
    [
        (np.ones(3), (1.0,), "other counts"),
        (np.ones(2), (0.0,), "positive noise_std"),
        (np.ones(2), (1.0, 1.0), "positive noise_std"),
        (np.array([1.0, np.nan]), (1.0,), "must be finite"),
    ],
)
def test_a_table_that_does_not_fit_its_marginals_is_refused(
    counts: np.ndarray[tuple[int], np.dtype[np.float64]], stds: tuple[float, ...], expected: str
) -> None:
    shape = DomainShape(columns=(SetShape(items=2, at_most=1),))
    with pytest.raises(InputError, match=expected):
        SiteTable("a", shape, (Marginal((0,), "fine", 2, 1, 1.0),), counts, stds)


def test_a_stacked_table_is_the_gram_matrix_of_the_stacked_records() -> None:
    rng = np.random.default_rng(3)
    cells = small_cells(300, rng=rng)
    shape = domain_of(small_schema()).shape
    stack = stack_of(shape)
    found = stacked(small_table(cells, noise_multiplier=TINY, rng=rng), stack)
    records = np.zeros((300, stack.length))
    for position, (column, run) in zip(shape.starts(), stack.columns(), strict=True):
        if isinstance(column, SetShape):
            records[:, run] = cells[:, position : position + column.items]
        else:
            coarse = column.coarse_of()[cells[:, position]]
            records[np.arange(300), run.start + coarse] = 1
    np.testing.assert_allclose(found.ones, records.sum(axis=0), atol=1e-6)
    is_measured = found.pair_precisions > 0
    np.testing.assert_allclose(found.pairs[is_measured], (records.T @ records)[is_measured])
    # All pairs are measured but those within a single column, and an item with itself.
    expected = np.ones((stack.length, stack.length), dtype=np.bool_)
    for column, run in stack.columns():
        is_set = isinstance(column, SetShape)
        expected[run, run] = ~np.eye(run.stop - run.start, dtype=np.bool_) if is_set else False
    np.testing.assert_array_equal(is_measured, expected)


def test_a_coarse_count_is_as_noisy_as_its_fine_counts_together() -> None:
    rng = np.random.default_rng(4)
    stack = stack_of(domain_of(small_schema()).shape)
    table = small_table(small_cells(50, rng=rng), noise_multiplier=2, rng=rng)
    found = stacked(table, stack)
    of_age = table.noise_stds[0] ** 2 * np.array([12, 15, 15, 15, 23])
    np.testing.assert_allclose(1 / found.one_precisions[stack.run(0)], of_age)
