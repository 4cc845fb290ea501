"""From noisy statistics to a scaling: right where there is data, harmless where there is noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sordino_protocols.errors import InputError
from sordino_protocols.feature_statistics import (
    make_scaling,
    measured_features,
    noise_std,
    release_length,
    sensitivity,
)
from sordino_protocols.files import parse_toml
from sordino_protocols.plan import StatisticsPlan
from sordino_protocols.scaling import Scaling
from sordino_protocols.schema import Schema

MOMENTS = StatisticsPlan("moments", bins=32, noise_multiplier=1e-3)
QUANTILES = StatisticsPlan("quantiles", bins=200, noise_multiplier=1e-3)
SCHEMA = """
[dataset]
name = "heart"
version = 1
order_of_magnitude = 100
holdout_fraction = 0.25
[columns.age]
type = "integer"
min = 20
max = 90
nullable = true
[columns.pixel]
type = "vector"
count = 3
min = 0
max = 255
[columns.ward]
type = "category"
values = ["north", "south"]
[columns.ill]
type = "integer"
min = 0
max = 1
[roles]
label = "ill"
positive_above = 0
"""


def totals_of(features: NDArray[np.float64], plan: StatisticsPlan) -> NDArray[np.float64]:
    """Statistics without noise."""
    if plan.kind == "moments":
        sums = [features.sum(axis=0), (features**2).sum(axis=0), [len(features)]]
        return np.concatenate(sums)
    rows = [np.histogram(each, bins=plan.bins, range=(-1, 1))[0] for each in features.T]
    return np.concatenate(rows).astype(np.float64)


def scale(
    features: NDArray[np.float64], plan: StatisticsPlan, *, noise: float = 0.0, sites: int = 1
) -> Scaling:
    totals = totals_of(features, plan)
    totals += noise * np.random.default_rng(4).standard_normal(len(totals))
    measured = np.ones(features.shape[1], dtype=np.bool_)
    return make_scaling(plan, totals, sites=sites, measured=measured)


def test_numbers_are_measured_and_nothing_else() -> None:
    schema = parse_toml(SCHEMA, Schema, source="heart.toml")
    names = np.array(schema.feature_names())
    assert names[measured_features(schema)].tolist() == ["age", "pixel[0]", "pixel[1]", "pixel[2]"]


def test_tokens_are_not_measured() -> None:
    before = SCHEMA.index("[columns.age]")
    words = '[columns.word]\ntype = "tokens"\nlength = 3\nvocabulary = 9\n'
    label = SCHEMA.index("[columns.ill]")
    schema = parse_toml(SCHEMA[:before] + words + SCHEMA[label:], Schema, source="tokens.toml")
    assert measured_features(schema).tolist() == [False] * 3


def test_lengths_and_sensitivities() -> None:
    assert (release_length(MOMENTS, 4), sensitivity(MOMENTS, 4)) == (9, 3.0)
    assert (release_length(QUANTILES, 4), sensitivity(QUANTILES, 4)) == (800, 2.0)
    assert noise_std(QUANTILES, 4) == 2e-3


def test_moments_give_mean_zero_and_variance_one() -> None:
    rng = np.random.default_rng(1)
    features = np.clip(rng.normal([0.3, -0.6], [0.2, 0.05], (50_000, 2)), -1, 1)
    scaling = scale(features, MOMENTS)
    scaled = (features - scaling.shift) * scaling.factor
    assert scaled.mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert scaled.std(axis=0) == pytest.approx([1, 1], abs=1e-6)


def test_quantiles_give_median_zero_and_the_middle_half_within_one() -> None:
    rng = np.random.default_rng(2)
    features = np.clip(rng.normal([0.3, -0.6], [0.2, 0.1], (50_000, 2)), -1, 1)
    scaling = scale(features, QUANTILES)
    low, middle, high = np.quantile(
        (features - scaling.shift) * scaling.factor, (0.25, 0.5, 0.75), axis=0
    )
    assert middle == pytest.approx([0, 0], abs=0.1)
    assert (high - low) / 2 == pytest.approx([1, 1], abs=0.1)


@pytest.mark.parametrize("plan", [MOMENTS, QUANTILES])
def test_a_constant_feature_is_not_blown_up(plan: StatisticsPlan) -> None:
    scaling = scale(np.full((5000, 1), 0.5), plan)
    assert abs(scaling.shift[0] - 0.5) < 0.01
    assert 1 <= scaling.factor[0] <= 100 * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["moments", "quantiles"])
def test_noise_that_drowns_the_counts_scales_nothing(kind: str) -> None:
    plan = StatisticsPlan("moments" if kind == "moments" else "quantiles", 16, 100.0)
    features = np.random.default_rng(3).uniform(-1, 1, (200, 2))
    scaling = scale(features, plan, noise=noise_std(plan, 2))
    assert scaling.shift.tolist() == [0, 0]
    assert scaling.factor.tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["moments", "quantiles"])
def test_moderate_noise_gives_nearly_the_same_scaling(kind: str) -> None:
    plan = StatisticsPlan("moments" if kind == "moments" else "quantiles", 16, 5.0)
    features = np.clip(np.random.default_rng(5).normal(0.2, 0.3, (20_000, 2)), -1, 1)
    exact, noisy = scale(features, plan), scale(features, plan, noise=noise_std(plan, 2))
    assert noisy.shift == pytest.approx(exact.shift, abs=0.02)
    assert noisy.factor == pytest.approx(exact.factor, rel=0.05)


def test_more_sites_need_more_units_to_be_believed() -> None:
    # The noise of so many sites hides what that of one did not.
    plan = StatisticsPlan("moments", 16, 5.0)
    features = np.random.default_rng(6).normal(0.2, 0.2, (200, 1))
    assert scale(features, plan).shift[0] != 0
    assert scale(features, plan, sites=10).shift[0] == 0


def test_features_that_are_not_measured_stay() -> None:
    features = np.random.default_rng(7).normal(0.2, 0.2, (1000, 1))
    measured = np.array([False, True, False])
    scaling = make_scaling(MOMENTS, totals_of(features, MOMENTS), sites=1, measured=measured)
    assert scaling.shift[[0, 2]].tolist() == [0, 0]
    assert scaling.factor[[0, 2]].tolist() == [1, 1]
    assert scaling.factor[1] == pytest.approx(5, rel=0.1)


@pytest.mark.parametrize("plan", [MOMENTS, StatisticsPlan("quantiles", 4, 2.0)])
@given(data=st.data())
def test_any_statistics_give_a_finite_scaling_with_bounded_factors(
    plan: StatisticsPlan, data: st.DataObject
) -> None:
    totals = data.draw(arrays(np.float64, release_length(plan, 2), elements=st.floats(-1e12, 1e12)))
    scaling = make_scaling(plan, totals, sites=2, measured=np.ones(2, dtype=np.bool_))
    assert np.all(np.abs(scaling.shift) <= 1)
    assert np.all((scaling.factor >= 1) & (scaling.factor <= 100 * (1 + 1e-9)))


def test_statistics_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="shape"):
        make_scaling(MOMENTS, np.zeros(4), sites=1, measured=np.ones(2, dtype=np.bool_))
