import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_rate

from sordino_client.entities import Entities
from sordino_client.training.noise import SecureNoise
from sordino_client.training.sampling import (
    ABSENT,
    draw_rows,
    poisson_sample,
    shuffled,
    uniform_integers,
)

SECURE = SecureNoise()


def test_the_full_batch_takes_everyone_in_order() -> None:
    assert np.array_equal(poisson_sample(7, sampling_rate=1.0, noise=SECURE), np.arange(7))


def test_no_units_give_an_empty_batch() -> None:
    assert poisson_sample(0, sampling_rate=0.5, noise=SECURE).size == 0
    assert poisson_sample(0, sampling_rate=1.0, noise=SECURE).size == 0


def test_each_unit_enters_at_the_rate_and_independently() -> None:
    draws = np.zeros((4000, 50))
    for row in draws:
        row[poisson_sample(50, sampling_rate=0.3, noise=SECURE)] = 1
    for unit in range(50):
        assert_rate(int(draws[:, unit].sum()), 4000, 0.3)
    # A fixed-size batch has no variance in its size, and would be accounted wrongly.
    sizes = draws.sum(axis=1)
    statistic = (len(sizes) - 1) * sizes.var(ddof=1) / (50 * 0.3 * 0.7)
    assert 1e-9 < stats.chi2.cdf(statistic, len(sizes) - 1) < 1 - 1e-9


def test_two_batches_differ() -> None:
    first, second = (poisson_sample(1000, sampling_rate=0.5, noise=SECURE) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("rate", [0.0, -0.5, 1.5, float("nan")])
def test_refuses_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ValueError, match="sampling_rate"):
        poisson_sample(3, sampling_rate=rate, noise=SECURE)


@pytest.mark.parametrize("count", [1, 2])
def test_a_unit_more_or_less_has_a_coin_of_its_own(count: int) -> None:
    taken = [len(poisson_sample(count, sampling_rate=0.5, noise=SECURE)) for _ in range(2000)]
    assert_rate(sum(taken), 2000 * count, 0.5)


def test_every_order_of_a_batch_is_as_likely() -> None:
    found = [tuple(shuffled(np.arange(3), noise=SECURE)) for _ in range(3000)]
    for order in itertools.permutations(range(3)):
        assert_rate(found.count(order), 3000, 1 / 6)


# --- rows of entities -------------------------------------------------------------------------


def make_entities(sizes: list[int]) -> Entities:
    """Rows dealt out in turn, so that those of one entity do not lie together."""
    owners = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Entities(np.argsort(owners, kind="stable"), starts)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    at_most=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
def test_rows_are_the_entitys_own_none_twice_and_as_many_as_there_are(
    sizes: list[int], at_most: int, seed: int
) -> None:
    entities = make_entities(sizes)
    chosen = np.flatnonzero(np.random.default_rng(seed).random(len(sizes)) < 0.7)
    drawn = draw_rows(entities, chosen, at_most=at_most, noise=SeededNoise(seed))
    assert drawn.shape == (len(chosen), at_most)
    for entity, rows in zip(chosen, drawn, strict=True):
        own = entities.order[entities.starts[entity] : entities.starts[entity + 1]]
        found = rows[rows != ABSENT]
        assert len(found) == len(set(found)) == min(at_most, sizes[entity])
        assert set(found) <= set(own)


def test_every_choice_of_rows_is_as_likely_and_drawn_anew() -> None:
    entities = make_entities([4, 2])
    found = [draw_rows(entities, np.array([1, 0]), at_most=2, noise=SECURE)[1] for _ in range(3000)]
    for pair in itertools.combinations(entities.order[:4], 2):
        assert_rate(sum(set(rows) == set(pair) for rows in found), 3000, 1 / 6)


def test_the_first_rows_would_be_found() -> None:
    # Always the first ones, as without randomness: a fixed choice is another mechanism.
    entities = make_entities([4])
    found = [draw_rows(entities, np.array([0]), at_most=2, noise=NoNoise())[0] for _ in range(300)]
    hits = sum(set(rows) == set(entities.order[:2]) for rows in found)
    with pytest.raises(AssertionError):
        assert_rate(hits, 300, 1 / 6)


def test_no_entities_have_no_rows() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert draw_rows(make_entities([3]), none, at_most=2, noise=SECURE).shape == (0, 2)


@pytest.mark.parametrize("below", [1, 2, 5])
def test_integers_are_uniform(below: int) -> None:
    drawn = uniform_integers(5000, below=below, noise=SECURE)
    for value in range(below):
        assert_rate(int((drawn == value).sum()), 5000, 1 / below)
    assert drawn.min() >= 0
    assert drawn.max() < below
