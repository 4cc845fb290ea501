import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from statistical import assert_rate

from sordino_protocols.privacy import DiscreteGaussian, Event, Exponential, leaves
from sordino_protocols.synthesis.mst import Measured, Tree, TreePlan, estimate, rooted

SIZES = (3, 2, 4, 2)
EDGES = ((0, 1), (1, 2), (1, 3))


def zcdp(event: Event) -> float:
    """The rho of everything together (Bun & Steinke 2016; Cesar & Rogers 2021)."""
    rho = 0.0
    for leaf, count in leaves(event):
        match leaf:
            case DiscreteGaussian(noise_std, 1, _):
                rho += count / (2 * noise_std**2)
            case Exponential(epsilon, _):
                rho += count * epsilon**2 / 8
            case _:
                raise AssertionError(leaf)
    return rho


@given(columns=st.integers(1, 60), noise=st.floats(0.1, 50))
def test_the_shares_add_up_to_what_was_wanted(columns: int, noise: float) -> None:
    event = TreePlan(columns, noise, "entity").event
    assert zcdp(event) == pytest.approx(1 / (2 * noise**2))
    counts = {type(leaf): count for leaf, count in leaves(event)}
    assert counts.get(Exponential, 0) == columns - 1
    assert {leaf.unit for leaf, _ in leaves(event)} == {"entity"}


def measured(*, noise_std: float, seed: int = 0) -> Measured:
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(np.prod(SIZES), 0.3)).reshape(SIZES) * 1000

    def noisy(axes: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        others = tuple(axis for axis in range(len(SIZES)) if axis not in axes)
        exact = joint.sum(axis=others)
        return np.asarray(exact + rng.normal(0, noise_std, exact.shape))

    return Measured(
        [noisy((column,)) for column in range(len(SIZES))],
        {edge: noisy(edge) for edge in EDGES},
        one_way_std=2.0,
        pair_std=3.0,
    )


def distance(tree: Tree, of: Measured, units: float) -> float:
    """What `estimate` makes small, written out once more."""
    ones, twos = tree.one_ways(), tree.two_ways()
    total = 0.0
    for column, counts in enumerate(of.one_ways):
        total += float(np.sum((units * ones[column] - counts) ** 2)) / of.one_way_std**2
    for edge, counts in of.two_ways.items():
        total += float(np.sum((units * twos[edge] - counts) ** 2)) / of.pair_std**2
    return total / 2


def test_consistent_marginals_are_met_exactly() -> None:
    exact = measured(noise_std=0.0)
    tree = estimate(exact, units=1000)
    for edge, found in tree.two_ways().items():
        assert found * 1000 == pytest.approx(exact.two_ways[edge], abs=0.5)


def test_noisy_marginals_are_met_as_closely_as_any_distribution_can() -> None:
    noisy, units = measured(noise_std=8.0), 1000.0
    names = list(itertools.product(*map(range, SIZES)))
    picks = [
        (np.array([[name[column] == cell for name in names] for cell in range(size)]), column)
        for column, size in enumerate(SIZES)
    ]

    def loss(logits: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
        weights = np.exp(logits - logits.max())
        joint = (weights / weights.sum() * units).reshape(SIZES)
        total = 0.0
        for rows, column in picks:
            found = rows @ joint.ravel()
            total += np.sum((found - noisy.one_ways[column]) ** 2) / noisy.one_way_std**2
        for (i, j), counts in noisy.two_ways.items():
            others = tuple(axis for axis in range(len(SIZES)) if axis not in (i, j))
            total += np.sum((joint.sum(axis=others) - counts) ** 2) / noisy.pair_std**2
        return float(total) / 2

    best = optimize.minimize(loss, np.zeros(len(names)), method="L-BFGS-B").fun
    found = distance(estimate(noisy, units=units, steps=5_000), noisy, units)
    assert found <= best * 1.005
    # The test would see a tree that has not been fitted.
    assert distance(estimate(noisy, units=units, steps=3), noisy, units) > best * 1.1


def test_samples_have_the_marginals_of_the_tree() -> None:
    tree, rows = estimate(measured(noise_std=2.0), units=1000), 20_000
    cells = tree.sample(rows, rng=np.random.default_rng(7))
    for (i, j), chances in tree.two_ways().items():
        for (a, b), chance in np.ndenumerate(chances):
            together = int(((cells[:, i] == a) & (cells[:, j] == b)).sum())
            assert_rate(together, rows, min(float(chance), 1.0))


def test_a_single_column_is_a_tree() -> None:
    tree = estimate(Measured([np.array([30.0, 10.0])], {}, 1.0, 1.0), units=40)
    assert tree.first == pytest.approx([0.75, 0.25], abs=1e-3)
    assert tree.sample(3, rng=np.random.default_rng(0)).shape == (3, 1)


def test_a_tree_hangs_from_its_first_column() -> None:
    assert rooted([(2, 3), (0, 2), (1, 3)], 4) == ((0, 2), (2, 3), (3, 1))
    assert rooted([], 1) == ()


@pytest.mark.parametrize("pairs", [[(0, 1)], [(0, 1), (0, 1)], [(1, 2), (2, 3), (3, 1)]])
def test_what_is_no_tree_over_all_columns_is_refused(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="tree"):
        rooted(pairs, 4)
