import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.errors import InputError
from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    Exponential,
    ExponentialQuantile,
    Gaussian,
    Laplace,
    Leaf,
    PoissonGaussian,
    SelfComposed,
)
from sordino_protocols.trade_off import (
    gaussian_trade_off,
    privacy_profile,
    trade_off,
    true_positive_bound,
)

RATES = np.array([0.0, 1e-4, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0])
INNER = RATES[1:-1]
EVENTS: list[Event] = [
    PoissonGaussian(0.1, 2.0, 20),
    PoissonGaussian(0.5, 0.9, 1),
    DiscreteGaussian(1.0),
    Laplace(2.0),
    DiscreteLaplace(2.0),
    ExponentialQuantile(0.5),
    Exponential(0.5),
    Composed((PoissonGaussian(0.2, 4.0, 10), DiscreteGaussian(10.0), Gaussian(8.0))),
    SelfComposed(Laplace(20.0), 10),
    Gaussian(1.5),
]


def test_there_is_an_event_of_every_mechanism() -> None:
    shown = {type(event) for event in EVENTS}
    assert set(get_args(Leaf)) <= shown


@pytest.mark.parametrize("noise", [0.5, 1.0, 5.0, 40.0])
def test_the_curve_of_a_gaussian_is_exact(noise: float) -> None:
    exact = stats.norm.cdf(stats.norm.ppf(1 - INNER) - 1 / noise)
    assert trade_off(Gaussian(noise))(INNER) == pytest.approx(exact, rel=1e-9)
    bound = true_positive_bound(Gaussian(noise), 0.01)
    assert bound == pytest.approx(stats.norm.cdf(stats.norm.ppf(0.01) + 1 / noise), rel=1e-9)


@pytest.mark.parametrize("mu", [0.2, 1.0, 2.5])
def test_the_general_curve_finds_the_gaussian_one(mu: float) -> None:
    # Half of it sampled at a rate of nearly 1, so that nothing is in closed form.
    nearly = Composed(
        (PoissonGaussian(1 - 1e-12, math.sqrt(2) / mu, 1), Gaussian(math.sqrt(2) / mu))
    )
    found, exact = trade_off(nearly)(INNER), gaussian_trade_off(mu)(INNER)
    assert found == pytest.approx(exact, abs=1e-3)
    assert (found <= exact + 1e-9).all()


@pytest.mark.parametrize("scale", [0.7, 2.0, 10.0])
def test_the_curve_of_laplace_noise_is_known(scale: float) -> None:
    # Dong, Roth & Su 2022, prop. A.6: of two Laplace laws, a scale's reciprocal apart.
    exact = stats.laplace.cdf(stats.laplace.ppf(1 - INNER) - 1 / scale)
    found = trade_off(Laplace(scale))(INNER)
    assert found == pytest.approx(exact, abs=1e-3)
    assert (found <= exact + 1e-9).all()


@pytest.mark.parametrize("scale", [0.7, 2.0, 10.0])
def test_the_curve_of_geometric_noise_is_randomised_responses(scale: float) -> None:
    growth = math.exp(1 / scale)
    exact = np.maximum(0, np.maximum(1 - growth * INNER, (1 - INNER) / growth))
    found = trade_off(DiscreteLaplace(scale))(INNER)
    assert found == pytest.approx(exact, abs=1e-3)
    assert (found <= exact + 1e-9).all()


def test_the_curve_of_one_sampled_step_is_the_envelope_of_both_directions() -> None:
    # The best tests of a mixture against a Gaussian are thresholds; each direction has its own.
    rate, noise = 0.5, 0.9
    thresholds = np.linspace(-6, 8, 400)
    without = stats.norm.sf(thresholds, 0, noise)
    with_unit = (1 - rate) * without + rate * stats.norm.sf(thresholds, 1, noise)
    curve = trade_off(PoissonGaussian(rate, noise, 1))
    # Guess "there" above the threshold; or guess "not there" below it, with the roles exchanged.
    present, absent = curve(without), curve(1 - with_unit)
    assert (present <= 1 - with_unit + 1e-9).all()
    assert (absent <= without + 1e-9).all()
    # No slack at the ends, where each direction is the worse one; a chord between them.
    assert np.min(1 - with_unit - present) < 1e-3
    assert np.min(without - absent) < 1e-3


@pytest.mark.parametrize("event", EVENTS)
def test_a_curve_falls_is_convex_and_symmetric(event: Event) -> None:
    curve = trade_off(event)
    rates = np.linspace(0, 1, 501)
    values = curve(rates)
    assert ((values >= 0) & (values <= 1 - rates + 1e-12)).all()
    assert (np.diff(values) <= 1e-12).all()
    assert (np.diff(values, 2) >= -1e-9).all()
    # f(f(rate)) = rate where f is not 0.
    inside = values > 1e-3
    assert curve(values[inside]) == pytest.approx(rates[inside], abs=2e-3)


@pytest.mark.parametrize("event", EVENTS)
def test_every_guarantee_lies_on_or_below_the_curve(event: Event) -> None:
    for delta in (1e-2, 1e-4):
        epsilon = epsilon_by_pld(event, delta)
        line = 1 - delta - math.exp(epsilon) * RATES
        assert (trade_off(event)(RATES) >= line - 1e-3).all()


@settings(max_examples=15, deadline=None)
@given(noise=st.floats(1.0, 10.0), rate=st.floats(0, 1), steps=st.integers(1, 30))
def test_an_attack_finds_more_where_less_noise_hides(noise: float, rate: float, steps: int) -> None:
    bound = true_positive_bound(PoissonGaussian(0.2, noise, steps), rate)
    assert rate <= bound <= 1
    assert bound <= true_positive_bound(PoissonGaussian(0.2, noise / 1.5, steps), rate) + 1e-3
    assert bound <= true_positive_bound(PoissonGaussian(0.2, noise, 2 * steps), rate) + 1e-3


def test_hardly_any_noise_leaves_an_attacker_everything() -> None:
    for event in (PoissonGaussian(0.5, 0.05, 1000), Gaussian(1e-5), DiscreteGaussian(1e-300)):
        assert true_positive_bound(event, 0.01) == pytest.approx(1)


def test_much_noise_leaves_an_attacker_nothing() -> None:
    assert true_positive_bound(DiscreteGaussian(1000.0), 0.01) == pytest.approx(0.01, abs=1e-4)


def test_a_profile_is_what_the_prices_say() -> None:
    profile = privacy_profile(PoissonGaussian(0.1, 2.0, 20))
    assert (np.diff(profile.epsilons) > 0).all()
    assert (np.diff(profile.deltas) <= 0).all()
    for delta in (1e-3, 1e-6):
        epsilon = epsilon_by_pld(PoissonGaussian(0.1, 2.0, 20), delta)
        found = np.interp(epsilon, profile.epsilons, profile.deltas)
        assert found == pytest.approx(delta, rel=0.05)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_refuses_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(InputError, match="false positive rate"):
        true_positive_bound(Gaussian(1.0), rate)
