"""Locations that a few bad vectors cannot move far, and what they cost in noise."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statistical import assert_scale

from sordino_protocols.models import FloatVector
from sordino_server.robust_statistics import FloatMatrix, krum, median, trimmed_mean

SITES, BAD = 7, 2
Location = Callable[[FloatMatrix], FloatVector]


def trimmed(vectors: FloatMatrix) -> FloatVector:
    return trimmed_mean(vectors, bad_sites=BAD)


def closest(vectors: FloatMatrix) -> FloatVector:
    return krum(vectors, bad_sites=BAD, keep=1, dimension=vectors.shape[1])


def three_closest(vectors: FloatMatrix) -> FloatVector:
    return krum(vectors, bad_sites=BAD, keep=3, dimension=vectors.shape[1])


def mean(vectors: FloatMatrix) -> FloatVector:
    return np.asarray(vectors.mean(axis=0), dtype=np.float64)


ROBUST = (trimmed, median, closest, three_closest)


def draw(seed: int, *, sites: int = SITES, coordinates: int = 40) -> FloatMatrix:
    return np.random.default_rng(seed).standard_normal((sites, coordinates))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-1e300, 1e300, allow_nan=False),
    st.sampled_from((trimmed, median)),
)
def test_no_lie_of_as_many_as_assumed_leaves_the_honest_range(
    seed: int, lie: float, location: Location
) -> None:
    vectors = draw(seed)
    honest = vectors[BAD:].copy()
    vectors[:BAD] = lie
    with np.errstate(over="ignore", invalid="ignore"):
        found = location(vectors)
    assert (found >= honest.min(axis=0)).all()
    assert (found <= honest.max(axis=0)).all()


@pytest.mark.parametrize("location", [closest, three_closest])
@pytest.mark.parametrize("lie", [1e3, -1e30, 1e300])
def test_krum_takes_no_lie_that_is_far_from_what_honest_sites_say(
    location: Location, lie: float
) -> None:
    vectors = draw(9)
    vectors[:BAD] = lie
    with np.errstate(over="ignore"):
        assert np.abs(location(vectors)).max() < 10


def test_the_mean_does_leave_it() -> None:
    vectors = draw(1)
    vectors[:BAD] = 1e6
    assert (mean(vectors) > vectors[BAD:].max(axis=0)).all()


@pytest.mark.parametrize("location", ROBUST)
def test_one_more_bad_site_than_half_of_them_decides(location: Location) -> None:
    vectors = draw(2)
    vectors[:4] = 1e6
    assert (location(vectors) > 1e3).all()


@pytest.mark.parametrize("location", ROBUST)
def test_the_order_of_answers_changes_no_bit(location: Location) -> None:
    vectors = draw(3) * 10.0 ** np.arange(-3, 4)[:, None]
    vectors[1] = vectors[0]
    expected = location(vectors)
    rng = np.random.default_rng(4)
    for _ in range(20):
        assert np.array_equal(location(vectors[rng.permutation(SITES)]), expected)


@pytest.mark.parametrize("location", ROBUST)
def test_sites_that_agree_are_believed(location: Location) -> None:
    vectors = np.tile(draw(5, sites=1), (SITES, 1))
    assert np.allclose(location(vectors), vectors[0])


def test_the_trimmed_mean_is_the_mean_of_what_is_left() -> None:
    vectors = np.array([[9.0, -9.0], [1.0, 1.0], [2.0, 5.0], [3.0, 3.0], [-50.0, 40.0]])
    assert trimmed_mean(vectors, bad_sites=1).tolist() == [2.0, 3.0]
    assert trimmed_mean(vectors, bad_sites=2).tolist() == median(vectors).tolist()


def test_krum_takes_one_of_the_vectors_and_by_its_neighbours_only() -> None:
    vectors = np.array([[0.0], [0.1], [0.3], [10.0], [10.05]])
    # Of five with one bad one, two neighbours count: 0.1 has the two closest.
    assert krum(vectors, bad_sites=1, keep=1, dimension=1).tolist() == [0.1]
    assert krum(vectors, bad_sites=1, keep=2, dimension=1).tolist() == [pytest.approx(0.05)]


def test_krum_looks_at_the_model_and_takes_the_rest_along() -> None:
    vectors = np.array([[0.0, 7.0], [0.1, 900.0], [0.3, 8.0], [10.0, 8.0], [11.0, 8.0]])
    assert krum(vectors, bad_sites=1, keep=1, dimension=1).tolist() == [0.1, 900.0]


@pytest.mark.parametrize(
    ("sites", "location"),
    [
        (4, trimmed),
        (6, closest),
        (6, three_closest),
    ],
)
def test_refuses_fewer_vectors_than_the_bound_needs(sites: int, location: Location) -> None:
    with pytest.raises(ValueError, match=f"{sites} vectors"):
        location(draw(6, sites=sites))
    location(draw(6, sites=sites + 1))


@pytest.mark.parametrize(
    ("location", "inflation"),
    [
        # Variance of each rule's result over the mean's, of seven normal values: by 400,000 draws.
        (mean, 1.0),
        (trimmed, 1.217),
        (median, 1.473),
    ],
)
def test_what_a_rule_costs_in_noise(location: Location, inflation: float) -> None:
    noise = draw(7, coordinates=40_000)
    assert_scale(location(noise), math.sqrt(inflation / SITES))


def test_krum_keeps_the_whole_noise_of_one_site() -> None:
    noise = draw(8, coordinates=40_000)
    # The closest one is a little shorter than the others: 1 % of the scale.
    assert_scale(closest(noise) * 1.003, 1.0)
    with pytest.raises(AssertionError):
        assert_scale(closest(noise), math.sqrt(1 / SITES))
