"""The random assertions can fail, on each side, and pass where they should."""

import numpy as np
import pytest
from statistical import assert_rate, assert_scale


def test_accepts_the_right_rate_and_refuses_a_wrong_one() -> None:
    assert_rate(5_012, 10_000, 0.5)
    for wrong in (4_500, 5_500):
        with pytest.raises(AssertionError, match="probability"):
            assert_rate(wrong, 10_000, 0.5)


def test_one_sided_rates_look_at_one_side() -> None:
    assert_rate(0, 10_000, 0.5, at_most=True)
    assert_rate(10_000, 10_000, 0.5, at_least=True)
    with pytest.raises(AssertionError, match="greater"):
        assert_rate(5_500, 10_000, 0.5, at_most=True)
    with pytest.raises(AssertionError, match="less"):
        assert_rate(4_500, 10_000, 0.5, at_least=True)


def test_accepts_the_right_scale_and_refuses_ten_percent_off() -> None:
    samples = np.random.default_rng(1).normal(0.0, 2.0, size=(100, 50))
    assert_scale(samples, 2.0)
    for wrong in (1.8, 2.2):
        with pytest.raises(AssertionError, match="standard deviation"):
            assert_scale(samples, wrong)


def test_scale_sees_a_shifted_mean_unless_told() -> None:
    samples = np.random.default_rng(2).normal(1.0, 1.0, size=5_000)
    assert_scale(samples, 1.0, expected_mean=1.0)
    with pytest.raises(AssertionError):
        assert_scale(samples, 1.0)


def test_refuses_samples_that_are_not_finite() -> None:
    with pytest.raises(AssertionError, match="finite"):
        assert_scale(np.array([0.0, np.nan]), 1.0)
