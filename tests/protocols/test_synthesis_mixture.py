"""A mixture is sampled as it says, and fitted to what was measured."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from small_domain import (
    AGE,
    CHURN,
    INCOME,
    SEX,
    TOWERS,
    WORK,
    Cells,
    small_cells,
    small_schema,
    small_table,
)

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis import mixture_fit
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.goodness import expected_counts, goodness_of_fit
from sordino_protocols.synthesis.mixture import Mixture
from sordino_protocols.synthesis.mixture_fit import fit_mixture
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape
from sordino_protocols.synthesis.tables import SiteTable

Counts = NDArray[np.int64]

SHAPE = DomainShape(
    columns=(SingleShape(groups=(2, 1)), SetShape(items=3, at_most=2), SingleShape(groups=(1, 1)))
)
MIXTURE = Mixture(
    shape=SHAPE,
    sites=("a", "b"),
    units=np.array([300.0, 100.0]),
    weights=np.array([[0.5, 0.5], [1.0, 0.0]]),
    cells=np.array([[0.25, 0.75, 0.5, 0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.1, 0.1, 0.1, 1.0, 0.0]]),
    fine=np.array([0.9, 0.1, 1.0, 1.0, 1.0]),
)


def sampled(rows: int, *, site: str | None = None, seed: int = 1) -> Cells:
    return MIXTURE.sample(rows, rng=np.random.default_rng(seed), site=site)


def test_components_come_as_often_as_they_should() -> None:
    # 5/8 of the first component, whose last column is 1, over both sites by their size.
    assert abs(sampled(1000)[:, 4].sum() - 625) <= 1
    assert sampled(1000, site="b")[:, 4].all()
    assert abs(sampled(1000, site="a")[:, 4].sum() - 500) <= 1


def test_cells_within_a_component_come_as_often_as_they_should() -> None:
    rows = sampled(8000, site="b")
    shares = np.bincount(rows[:, 0], minlength=3) / 8000
    np.testing.assert_allclose(shares, [0.9 * 0.25, 0.1 * 0.25, 0.75], atol=2 / 8000)
    assert rows[:, 3].all()
    assert not rows[:, 2].any()
    assert 0.45 < rows[:, 1].mean() < 0.55


def test_columns_are_independent_within_a_component() -> None:
    rows = sampled(20_000, site="b")
    table = np.histogram2d(rows[:, 0] == 2, rows[:, 1], bins=2)[0] / 20_000
    expected = np.outer(table.sum(axis=1), table.sum(axis=0))
    np.testing.assert_allclose(table, expected, atol=0.02)


def test_a_record_has_no_more_items_than_a_set_may_have() -> None:
    crowded = replace(MIXTURE, cells=np.where(MIXTURE.cells == 0, 0.9, MIXTURE.cells))
    crowded = replace(crowded, cells=np.where([[0, 0, 1, 1, 1, 0, 0]], 0.9, MIXTURE.cells))
    rows = crowded.sample(3000, rng=np.random.default_rng(2))
    assert rows[:, 1:4].sum(axis=1).max() == 2
    # Which ones are kept does not depend on their order.
    shares = rows[:, 1:4].mean(axis=0)
    assert np.ptp(shares) < 0.06


@pytest.mark.parametrize("rows", [0, 1, 2, 7])
def test_few_rows_are_rows_too(rows: int) -> None:
    assert sampled(rows).shape == (rows, 5)


def test_rows_are_in_no_order() -> None:
    rows = sampled(1000)[:, 4]
    assert 350 < np.count_nonzero(rows[1:] != rows[:-1]) < 600


def test_the_same_generator_draws_the_same_rows() -> None:
    np.testing.assert_array_equal(sampled(50), sampled(50))
    assert (sampled(50) != sampled(50, seed=2)).any()


def test_a_site_that_it_was_not_fitted_to_is_refused() -> None:
    with pytest.raises(InputError, match="no site 'c'; there are a, b"):
        sampled(3, site="c")


def test_numbers_that_are_no_mixture_are_refused() -> None:
    with pytest.raises(InputError, match="mixture: units is"):
        replace(MIXTURE, units=np.ones(3))
    with pytest.raises(InputError, match="mixture: weights is"):
        replace(MIXTURE, weights=np.ones((1, 2)))
    with pytest.raises(InputError, match="mixture: fine is"):
        replace(MIXTURE, fine=np.ones(4))
    with pytest.raises(InputError, match="mixture: cells is"):
        replace(MIXTURE, cells=np.ones((2, 6)))
    for number in (np.nan, np.inf, -1.0):
        with pytest.raises(InputError, match="cells must be finite and not negative"):
            replace(MIXTURE, cells=np.full((2, 7), number))


def fitted(*tables: SiteTable, components: int = 30, steps: int = 800) -> Mixture:
    return fit_mixture(tables, components=components, steps=steps, rng=np.random.default_rng(9))


def test_a_fit_finds_the_pairs_that_were_measured() -> None:
    rng = np.random.default_rng(3)
    table = small_table(small_cells(4000, rng=rng), noise_multiplier=1e-3, rng=rng)
    expected = expected_counts(fitted(table), table)
    for (marginal, _, counts), (_, _, found) in zip(
        table.parts(), replace(table, counts=expected).parts(), strict=True
    ):
        apart = np.abs(counts - found).sum() / (2 * 4000 * marginal.contribution)
        assert apart < 0.015, marginal


def test_what_is_sampled_has_the_pairs_that_were_measured() -> None:
    rng = np.random.default_rng(4)
    cells = small_cells(4000, rng=rng)
    mixture = fitted(small_table(cells, noise_multiplier=1, rng=rng))
    rows = mixture.sample(4000, rng=rng)
    assert rows[:, TOWERS].sum(axis=1).max() <= 3
    singles = [AGE, CHURN, INCOME, SEX, WORK]
    for pair in itertools.combinations(singles, 2):
        found, expected = (coarse_pair(each, mixture.shape, pair) for each in (rows, cells))
        assert np.abs(found - expected).sum() / 2 < 0.06 * 4000, pair


def coarse_pair(cells: Cells, shape: DomainShape, pair: tuple[int, ...]) -> Counts:
    """How many rows are in each pair of coarse cells of two positions."""
    of_position = dict(zip(shape.starts(), shape.columns, strict=True))
    columns = [column for each in pair if isinstance(column := of_position[each], SingleShape)]
    first, second = (
        column.coarse_of()[cells[:, each]] for column, each in zip(columns, pair, strict=True)
    )
    joint = first * columns[1].coarse + second
    return np.bincount(joint, minlength=columns[0].coarse * columns[1].coarse)


def test_a_fit_leaves_about_as_much_unexplained_as_there_is_noise() -> None:
    rng = np.random.default_rng(5)
    table = small_table(small_cells(4000, rng=rng), noise_multiplier=3, rng=rng)
    assert 0.7 < goodness_of_fit(fitted(table), table) < 1.1
    # One component says that no column depends on another.
    assert goodness_of_fit(fitted(table, components=1), table) > 2
    assert goodness_of_fit(replace(fitted(table), units=np.array([2000.0])), table) > 2


def test_without_the_pull_a_fit_explains_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    table = small_table(small_cells(4000, rng=rng), noise_multiplier=3, rng=rng)
    for pull in ("_FIRST_PULL", "_LEAST_PULL", "_MOST_PULL"):
        monkeypatch.setattr(mixture_fit, pull, 0.0)
    assert goodness_of_fit(fitted(table), table) < 0.6


def test_a_small_site_gains_from_the_others() -> None:
    rng = np.random.default_rng(6)
    sizes = {"large": 6000, "other": 5000, "small": 150}
    cells = {site: small_cells(size, rng=rng) for site, size in sizes.items()}
    tables = {
        site: small_table(rows, noise_multiplier=3, rng=rng, site=site)
        for site, rows in cells.items()
    }
    truth = small_table(cells["small"], noise_multiplier=1e-3, rng=rng, site="small")
    together, alone = fitted(*tables.values()), fitted(tables["small"])
    errors = [
        np.abs(expected_counts(each, truth) - truth.counts).sum() for each in (together, alone)
    ]
    assert errors[0] < 0.7 * errors[1]


def test_sites_keep_weights_of_their_own() -> None:
    rng = np.random.default_rng(7)
    cells = small_cells(8000, rng=rng)
    churns = cells[:, CHURN] == 1
    tables = [
        small_table(each, noise_multiplier=0.5, rng=rng, site=site)
        for site, each in (("a", cells[churns]), ("b", cells[~churns]))
    ]
    mixture = fitted(*tables)
    for site, share in (("a", 1.0), ("b", 0.0)):
        assert abs(mixture.sample(2000, rng=rng, site=site)[:, CHURN].mean() - share) < 0.03
    whole = mixture.sample(2000, rng=rng)[:, CHURN].mean()
    assert abs(whole - churns.mean()) < 0.03


def test_a_fit_is_the_same_each_time() -> None:
    rng = np.random.default_rng(8)
    table = small_table(small_cells(500, rng=rng), noise_multiplier=1, rng=rng)
    one, other = fitted(table, steps=20), fitted(table, steps=20)
    np.testing.assert_array_equal(one.cells, other.cells)
    np.testing.assert_array_equal(one.weights, other.weights)


def test_a_site_of_noise_alone_is_fitted_too() -> None:
    rng = np.random.default_rng(9)
    table = small_table(np.zeros((0, 10), dtype=np.int32), noise_multiplier=5, rng=rng)
    rows = fitted(table, steps=30).sample(40, rng=rng)
    assert rows.shape == (40, 10)


def test_a_fit_has_tables_of_one_shape() -> None:
    rng = np.random.default_rng(10)
    one = small_table(small_cells(5, rng=rng), noise_multiplier=1, rng=rng)
    columns = tuple(reversed(one.shape.columns))
    other = replace(one, shape=DomainShape(columns=columns))
    for tables in ((), (one, other)):
        with pytest.raises(InputError, match="at least one site, all of one shape"):
            fitted(*tables)


def test_fine_cells_are_as_measured_within_a_coarse_one() -> None:
    rng = np.random.default_rng(11)
    cells = small_cells(5000, rng=rng)
    cells[:, 0] = np.where(cells[:, 0] < 27, 20, 60)
    mixture = fitted(small_table(cells, noise_multiplier=1, rng=rng))
    found = np.bincount(mixture.sample(5000, rng=rng)[:, 0], minlength=80)
    np.testing.assert_allclose(found[[20, 60]], np.bincount(cells[:, 0])[[20, 60]], rtol=0.1)
    # Coarse cells without records have nothing but noise to show.
    assert found.sum() - found[[20, 60]].sum() < 250


def test_the_shape_is_that_of_the_schema() -> None:
    rng = np.random.default_rng(12)
    table = small_table(small_cells(100, rng=rng), noise_multiplier=1, rng=rng)
    assert fitted(table, steps=5).shape == domain_of(small_schema()).shape
