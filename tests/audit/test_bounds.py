"""Published values, inverses, coverage and false alarms of the bounds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statistical import assert_rate

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.clopper_pearson import (
    Counts,
    epsilon_from_rates,
    epsilon_lower_bound,
    upper_limit,
)
from sordino_audit.bounds.trade_off import (
    gaussian_curve,
    guarantee_curve,
    is_rejected,
    profile_curve,
    rejection_p_value,
    strictest,
)
from sordino_protocols.privacy import Guarantee


def test_reproduces_the_cap_of_400_perfect_guesses_a_side() -> None:
    bound = epsilon_lower_bound(Counts(0, 400, 0, 400), delta=0.0, confidence=0.95)
    assert bound == pytest.approx(4.6815, abs=5e-5)


def test_reproduces_the_published_audit_of_a_backpropagation_bug() -> None:
    counts = Counts(174, 100_000, 100_000 - 4_922, 100_000)
    bound = epsilon_lower_bound(counts, delta=0.0, confidence=1 - 1e-10)
    assert bound == pytest.approx(2.795, abs=1e-3)


def test_upper_limit_inverts_the_binomial_tail() -> None:
    limit = float(upper_limit(7, 50, 0.01))
    assert stats.binom.cdf(7, 50, limit) == pytest.approx(0.01, rel=1e-9)
    assert float(upper_limit(50, 50, 0.01)) == 1.0
    assert float(upper_limit(0, 0, 0.01)) == 1.0


def test_upper_limit_keeps_its_precision_at_tiny_errors() -> None:
    assert float(upper_limit(0, 10, 1e-30)) == pytest.approx(1 - 1e-3, rel=1e-12)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="false_positives"):
        Counts(5, 4, 0, 1)
    with pytest.raises(ValueError, match="false_negatives"):
        Counts(0, 4, 2, 1)


@given(st.floats(0.1, 8.0), st.floats(1e-8, 1e-2), st.floats(1e-4, 0.999))
def test_rates_on_a_guarantees_curve_show_its_epsilon(
    epsilon: float, delta: float, rate: float
) -> None:
    curve = guarantee_curve(Guarantee(epsilon, delta))
    missed = float(curve(np.array(rate)))
    shown = epsilon_from_rates(rate, missed, delta) if missed > 0 else 0.0
    assert shown <= epsilon + 1e-9
    if missed > 0:
        assert shown == pytest.approx(epsilon, abs=1e-6)


@given(st.integers(0, 200), st.integers(0, 200), st.floats(0.0, 0.1), st.floats(0.5, 1 - 1e-9))
def test_one_error_less_never_lowers_a_bound(
    alarms: int, misses: int, delta: float, confidence: float
) -> None:
    worse, fewer_alarms, fewer_misses = (
        epsilon_lower_bound(Counts(fp, 200, fn, 200), delta=delta, confidence=confidence)
        for fp, fn in ((alarms, misses), (max(alarms - 1, 0), misses), (alarms, max(misses - 1, 0)))
    )
    # Guesses that are wrong more often than right tell just as much: only better ones are ordered.
    if alarms + misses <= 200:
        assert worse <= fewer_alarms + 1e-9
        assert worse <= fewer_misses + 1e-9
    perfect = epsilon_lower_bound(Counts(0, 200, 0, 200), delta=delta, confidence=confidence)
    assert 0 <= worse <= perfect


def test_numbers_out_of_range_are_refused() -> None:
    counts = Counts(1, 10, 1, 10)
    with pytest.raises(ValueError, match="delta"):
        epsilon_lower_bound(counts, delta=1.0, confidence=0.9)
    with pytest.raises(ValueError, match="confidence"):
        epsilon_lower_bound(counts, delta=0.0, confidence=1.0)
    with pytest.raises(ValueError, match="confidence"):
        gaussian.mu_lower_bound(counts, confidence=math.nan)


def test_a_single_laplace_like_claim_is_exceeded_no_more_often_than_stated() -> None:
    """Worst case: rates exactly on the boundary of (1, 0)-DP."""
    rng, trials, error = np.random.default_rng(3), 4_000, 0.05
    false_positive = 1 / (1 + math.e)
    exceeded = sum(
        epsilon_lower_bound(Counts(int(fp), 200, int(fn), 200), delta=0.0, confidence=1 - error)
        > 1.0
        for fp, fn in rng.binomial(200, false_positive, size=(trials, 2))
    )
    assert_rate(exceeded, trials, error, at_most=True)


@pytest.mark.parametrize(("mu", "delta"), [(0.2, 1e-5), (1.0, 1e-5), (3.0, 1e-6), (6.0, 1e-9)])
def test_gaussian_epsilon_and_mu_invert_each_other(mu: float, delta: float) -> None:
    epsilon = gaussian.epsilon_from_mu(mu, delta)
    assert gaussian.delta_from_mu(mu, epsilon) == pytest.approx(delta, rel=1e-6)
    assert gaussian.mu_from_epsilon(epsilon, delta) == pytest.approx(mu, rel=1e-6)


def test_gaussian_delta_matches_the_hockey_stick_integral() -> None:
    grid = np.linspace(-12, 14, 400_001)
    excess = stats.norm.pdf(grid - 1.3) - math.exp(0.7) * stats.norm.pdf(grid)
    expected = float(np.trapezoid(np.maximum(excess, 0), grid))
    assert gaussian.delta_from_mu(1.3, 0.7) == pytest.approx(expected, rel=1e-6)


def test_gaussian_bound_of_hopeless_counts_is_zero() -> None:
    assert gaussian.mu_lower_bound(Counts(100, 100, 0, 100), confidence=0.95) == 0.0
    assert gaussian.mu_lower_bound(Counts(0, 0, 0, 0), confidence=0.95) == 0.0


def test_a_profile_of_the_gaussian_never_exceeds_its_exact_curve() -> None:
    epsilons = np.linspace(0, 12, 400)
    deltas = np.array([gaussian.delta_from_mu(1.5, e) for e in epsilons])
    rates = np.geomspace(1e-6, 1, 200)
    exact, profile = gaussian_curve(1.5)(rates), profile_curve(epsilons, deltas)(rates)
    assert np.all(profile <= exact + 1e-12)
    assert np.max(exact - profile) < 1e-3


def test_the_strictest_of_two_curves_is_the_higher_one() -> None:
    rates = np.linspace(0, 1, 11)
    both = strictest(gaussian_curve(1.0), guarantee_curve(Guarantee(0.5, 1e-5)))(rates)
    assert np.all(both >= gaussian_curve(1.0)(rates))
    assert np.all(both >= guarantee_curve(Guarantee(0.5, 1e-5))(rates))


def test_p_value_is_where_rejection_begins() -> None:
    counts, claimed = Counts(20, 500, 250, 500), gaussian_curve(1.0)
    p_value = rejection_p_value(counts, claimed)
    assert 0 < p_value < 0.05
    assert is_rejected(counts, claimed, error=p_value * 1.001)
    assert not is_rejected(counts, claimed, error=p_value * 0.999)


def test_a_true_curve_is_rejected_no_more_often_than_stated_and_a_false_one_is() -> None:
    rng, trials, lanes, error = np.random.default_rng(4), 2_000, 400, 0.05
    claimed = gaussian_curve(1.0)
    false_negative = float(claimed(np.array(0.2)))
    false_positives = rng.binomial(lanes, 0.2, size=trials)
    false_negatives = rng.binomial(lanes, false_negative, size=trials)
    rejected = sum(
        is_rejected(Counts(int(fp), lanes, int(fn), lanes), claimed, error=error)
        for fp, fn in zip(false_positives, false_negatives, strict=True)
    )
    assert_rate(rejected, trials, error, at_most=True)
    caught = sum(
        is_rejected(Counts(int(fp), lanes, int(fn), lanes), gaussian_curve(0.5), error=error)
        for fp, fn in zip(false_positives, false_negatives, strict=True)
    )
    assert_rate(caught, trials, 0.95, at_least=True)
