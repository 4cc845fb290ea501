"""Feature statistics: what one unit adds is bounded, exact on its grid, and noisy as planned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_scale

from sordino_client.statistics import exact_statistics, grid_step, noisy_statistics
from sordino_client.training.noise import SecureNoise
from sordino_protocols.feature_statistics import noise_std, release_length, sensitivity
from sordino_protocols.plan import StatisticsPlan

MOMENTS = StatisticsPlan("moments", bins=32, noise_multiplier=2.0)
QUANTILES = StatisticsPlan("quantiles", bins=8, noise_multiplier=2.0)
PLANS = [MOMENTS, QUANTILES]
ALL = np.ones(3, dtype=np.bool_)

tables = st.integers(1, 8).flatmap(
    lambda records: arrays(
        np.float32, (records, 3), elements=st.floats(allow_nan=True, allow_infinity=True, width=32)
    )
)


def rows_of(features: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.arange(len(features))


def test_moments_are_sums_of_features_squares_and_units() -> None:
    features = np.array([[0.5, -1.0, 0.25], [0.25, 1.0, -0.75]], dtype=np.float32)
    sums = exact_statistics(features, rows_of(features), MOMENTS, measured=ALL)
    expected = [0.75, 0.0, -0.5, 0.3125, 2.0, 0.625, 2.0]
    assert (sums * grid_step(MOMENTS)).tolist() == expected


def test_quantiles_are_counts_by_feature_and_bin() -> None:
    features = np.array([[-1.0, 0.0, 1.0], [-0.8, 0.24, 1.0]], dtype=np.float32)
    counts = exact_statistics(features, rows_of(features), QUANTILES, measured=ALL)
    assert counts.reshape(3, 8).tolist() == [
        [2, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 2],
    ]


@pytest.mark.parametrize("plan", PLANS)
def test_only_measured_features_and_chosen_rows_are_looked_at(plan: StatisticsPlan) -> None:
    rng = np.random.default_rng(1)
    features = rng.uniform(-1, 1, (20, 3)).astype(np.float32)
    measured, rows = np.array([True, False, True]), np.array([3, 4, 11])
    before = exact_statistics(features, rows, plan, measured=measured)
    assert len(before) == release_length(plan, 2)
    features[:, 1] = 0.5
    features[[0, 5]] = 0.5
    assert np.array_equal(before, exact_statistics(features, rows, plan, measured=measured))


@pytest.mark.parametrize("plan", PLANS)
@given(features=tables)
def test_one_unit_adds_no_more_than_the_sensitivity(
    plan: StatisticsPlan, features: NDArray[np.float32]
) -> None:
    whole = exact_statistics(features, rows_of(features), plan, measured=ALL)
    less = exact_statistics(features, rows_of(features)[1:], plan, measured=ALL)
    added = (whole - less) * grid_step(plan)
    assert np.linalg.norm(added) <= sensitivity(plan, 3) * (1 + 1e-12)


@pytest.mark.parametrize("plan", PLANS)
def test_the_sensitivity_is_reached(plan: StatisticsPlan) -> None:
    one = np.ones((1, 3), dtype=np.float32)
    added = exact_statistics(one, rows_of(one), plan, measured=ALL) * grid_step(plan)
    assert np.linalg.norm(added) == pytest.approx(sensitivity(plan, 3))


@pytest.mark.parametrize("plan", PLANS)
@given(features=tables)
def test_neighbours_releases_differ_by_the_unit_and_nothing_else(
    plan: StatisticsPlan, features: NDArray[np.float32]
) -> None:
    # The same noise on two sums: what rounding did to one it did to the other.
    rows = rows_of(features)
    whole = noisy_statistics(features, rows, plan, measured=ALL, noise=SeededNoise(0))
    less = noisy_statistics(features, rows[1:], plan, measured=ALL, noise=SeededNoise(0))
    exact = exact_statistics(features, rows[:1], plan, measured=ALL) * grid_step(plan)
    assert np.array_equal(whole - less, exact)


@pytest.mark.parametrize("plan", PLANS)
def test_what_leaves_is_on_the_grid_with_the_noise_of_the_plan(plan: StatisticsPlan) -> None:
    nothing = np.zeros((0, 3), dtype=np.float32)
    releases = np.stack(
        [
            noisy_statistics(nothing, rows_of(nothing), plan, measured=ALL, noise=SecureNoise())
            for _ in range(1000)
        ]
    )
    steps = releases / grid_step(plan)
    assert np.array_equal(steps, np.rint(steps))
    expected = np.sqrt(noise_std(plan, 3) ** 2 + grid_step(plan) ** 2 / 12)
    assert_scale(releases, expected)
    with pytest.raises(AssertionError):
        assert_scale(releases, expected / sensitivity(plan, 3))


@pytest.mark.parametrize("plan", PLANS)
def test_chunks_do_not_matter(plan: StatisticsPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(2).uniform(-1, 1, (50, 3)).astype(np.float32)
    whole = noisy_statistics(features, rows_of(features), plan, measured=ALL, noise=NoNoise())
    monkeypatch.setattr("sordino_client.statistics._CHUNK_VALUES", 21)
    parts = noisy_statistics(features, rows_of(features), plan, measured=ALL, noise=NoNoise())
    assert np.array_equal(whole, parts)
