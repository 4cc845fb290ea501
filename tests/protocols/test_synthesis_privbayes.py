import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statistical import assert_rate

from sordino_protocols.privacy import DiscreteGaussian, Exponential, leaves
from sordino_protocols.synthesis.privbayes import Family, NetworkPlan, combined, estimate
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape

FLAT = DomainShape(
    columns=(
        SingleShape(groups=(2, 1)),
        SingleShape(groups=(1, 1)),
        SingleShape(groups=(1, 1, 1)),
    )
)
FAMILIES = (Family(1, ()), Family(0, (1,)), Family(2, (0, 1)))
ONE_WAYS = [np.array([30.0, 10.0, 60.0]), np.array([40.0, 60.0]), np.array([20.0, 30.0, 50.0])]


@given(columns=st.integers(1, 60), noise=st.floats(0.1, 50), degree=st.integers(1, 3))
def test_the_shares_add_up_to_what_was_wanted(columns: int, noise: float, degree: int) -> None:
    rho = 0.0
    for leaf, count in leaves(NetworkPlan(columns, degree, noise, "record").event):
        match leaf:
            case DiscreteGaussian(noise_std, 1, _):
                rho += count / (2 * noise_std**2)
            case Exponential(epsilon, _):
                assert count == columns - 1
                rho += count * epsilon**2 / 8
    assert rho == pytest.approx(1 / (2 * noise**2))


def test_a_table_is_of_use_if_its_counts_stand_out_of_the_noise() -> None:
    plan = NetworkPlan(14, 2, 4.0, "record")
    assert plan.largest_table(4 * plan.table_std * 100) == pytest.approx(100)


def test_combinations_are_numbered_with_the_last_column_fastest() -> None:
    cells = np.array([[1, 0, 2], [0, 1, 1]], dtype=np.int32)
    assert combined(cells, (0, 2), (2, 2, 3)).tolist() == [5, 1]
    assert combined(cells, (), (2, 2, 3)).tolist() == [0, 0]


def test_records_follow_the_network() -> None:
    rows = 8_000
    tables = [
        np.array([[10.0, 30.0], [45.0, 15.0]]),
        np.array([[8.0, 2.0, -3.0], [0.0, 0.0, 5.0], [-1.0, 0.0, -2.0], [1.0, 1.0, 2.0]]),
    ]
    network = estimate(FAMILIES, tables, ONE_WAYS, FLAT)
    cells = network.sample(rows, rng=np.random.default_rng(1))
    assert_rate(int(cells[:, 1].sum()), rows, 0.6)
    is_last = cells[:, 0] == 2
    below = cells[:, 1] == 0
    assert_rate(int((is_last & below).sum()), int(below.sum()), 0.75)
    assert_rate(int((is_last & ~below).sum()), int((~below).sum()), 0.25)
    # Within its coarse cell, the first column is as its own counts say.
    assert_rate(int((cells[:, 0] == 0).sum()), int((~is_last).sum()), 0.75)
    seen = ~is_last & below
    assert_rate(int((seen & (cells[:, 2] == 0)).sum()), int(seen.sum()), 0.8)
    assert not (seen & (cells[:, 2] == 2)).any()
    # Nobody seems to be here: the child has its own distribution.
    unseen = is_last & below
    assert_rate(int((unseen & (cells[:, 2] == 2)).sum()), int(unseen.sum()), 0.5)
