import numpy as np
import pytest
from scipy import stats
from statistical import assert_rate

from sordino_client.training.noise import SecureNoise
from sordino_client.training.sampling import poisson_sample

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
