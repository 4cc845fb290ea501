import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld import privacy_loss_distribution as pld
from scipy import stats

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.loss_distributions import loss_distribution, parts_of
from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    ExponentialQuantile,
    Gaussian,
    Laplace,
    PoissonGaussian,
    SelfComposed,
)

DELTA = 1e-5
EPSILONS = np.array([-1.0, -0.3, -0.05, 0.0, 0.05, 0.3, 1.0])


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 1.0), (0.5, 0.8), (0.02, 2.0)])
def test_the_sampled_gaussian_is_taken_in_both_directions(rate: float, noise: float) -> None:
    # By numerical integration alone.
    outcomes = np.linspace(-9 * noise, 1 + 9 * noise, 400_001)
    width = float(outcomes[1] - outcomes[0])
    without = stats.norm.pdf(outcomes, 0, noise)
    with_unit = (1 - rate) * without + rate * stats.norm.pdf(outcomes, 1, noise)
    removed, added = (
        np.array([np.maximum(p - np.exp(epsilon) * q, 0).sum() * width for epsilon in EPSILONS])
        for p, q in ((with_unit, without), (without, with_unit))
    )
    losses = loss_distribution(PoissonGaussian(rate, noise, 1))
    ours = np.asarray(losses.get_delta_for_epsilon(EPSILONS))
    assert ours == pytest.approx(np.maximum(removed, added), abs=2e-6)
    # Neither direction alone would do: each is the worse one somewhere.
    assert (ours > removed + 1e-5).any()
    assert (ours > added + 1e-5).any()


LIBRARY = [
    (PoissonGaussian(0.1, 2.0, 1), pld.from_gaussian_mechanism(2.0, sampling_prob=0.1)),
    (PoissonGaussian(0.9, 3.0, 1), pld.from_gaussian_mechanism(3.0, sampling_prob=0.9)),
    (DiscreteGaussian(1.5), pld.from_discrete_gaussian_mechanism(1.5)),
    (DiscreteGaussian(4.0, 3), pld.from_discrete_gaussian_mechanism(4.0, 3)),
    (Laplace(3.0), pld.from_laplace_mechanism(3.0)),
    (DiscreteLaplace(3.0), pld.from_discrete_laplace_mechanism(1 / 3)),
]


@pytest.mark.parametrize(("event", "library"), LIBRARY, ids=lambda value: type(value).__name__)
def test_each_mechanism_is_the_librarys(event: Event, library: pld.PrivacyLossDistribution) -> None:
    repeated = SelfComposed(event, 7)
    expected = library.self_compose(7)
    for epsilon in (0.0, 0.2, 1.0, 2.0):
        ours = loss_distribution(repeated).get_delta_for_epsilon(epsilon)
        assert ours == pytest.approx(expected.get_delta_for_epsilon(epsilon), abs=2e-4, rel=2e-3)
    assert epsilon_by_pld(repeated, DELTA) == pytest.approx(
        expected.get_epsilon_for_delta(DELTA), rel=1e-3
    )


def test_a_coarser_grid_only_ever_overstates() -> None:
    for rate, noise, steps in ((0.1, 2.0, 200), (0.5, 4.0, 50), (0.1, 8.0, 40)):
        event = PoissonGaussian(rate, noise, steps)
        fine = pld.from_gaussian_mechanism(
            noise, sampling_prob=rate, value_discretization_interval=1e-4
        ).self_compose(steps)
        exact = fine.get_epsilon_for_delta(DELTA)
        assert exact * (1 - 1e-9) <= epsilon_by_pld(event, DELTA) <= exact * (1 + 2e-4)


def test_a_quantile_costs_what_a_bounded_range_costs() -> None:
    # Dong, Durfee & Rogers 2020, lemma 2.
    epsilon, delta = 0.5, 1e-3
    exact = epsilon + 2 * math.log(1 - math.sqrt(delta * -math.expm1(-epsilon)))
    found = epsilon_by_pld(ExponentialQuantile(epsilon), delta)
    assert exact <= found <= exact + 1e-3
    assert found < epsilon_by_pld(DiscreteLaplace(1 / epsilon), delta) - 0.01


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25, 0.4, 0.5])
def test_no_mechanism_of_bounded_range_costs_more_than_a_quantile(shift: float) -> None:
    # Losses `shift` and `shift` - 1/2 with the probabilities that make both laws add up to one.
    top, bottom = math.exp(shift), math.exp(shift - 0.5)
    lower = np.array([(1 - bottom) / (top - bottom), (top - 1) / (top - bottom)])
    upper = lower * np.array([top, bottom])
    losses = loss_distribution(ExponentialQuantile(0.5))
    for epsilon in np.linspace(0, 0.6, 13):
        delta = float(np.maximum(upper - math.exp(epsilon) * lower, 0).sum())
        assert delta <= losses.get_delta_for_epsilon(float(epsilon)) + 1e-12


def test_the_wrong_scale_of_discrete_noise_would_be_seen() -> None:
    library = pld.from_discrete_gaussian_mechanism(2.0 * 1.02).get_epsilon_for_delta(DELTA)
    assert epsilon_by_pld(DiscreteGaussian(2.0), DELTA) != pytest.approx(library, rel=5e-3)


def test_discrete_noise_costs_about_what_continuous_noise_costs() -> None:
    # Measured: 1.6 % more at most where sigma >= 1, .01 % at 20. Below, it costs what it costs.
    for std, slack in ((1.0, 0.016), (1.5, 0.017), (2.0, 0.01), (5.0, 2e-3), (20.0, 2e-4)):
        discrete, continuous = (
            epsilon_by_pld(each, DELTA) for each in (DiscreteGaussian(std), Gaussian(std))
        )
        assert discrete == pytest.approx(continuous, rel=slack)
    assert epsilon_by_pld(DiscreteGaussian(0.3), DELTA) < epsilon_by_pld(Gaussian(0.3), DELTA) - 2


def test_what_is_the_same_is_counted_and_unsampled_gaussians_are_one() -> None:
    step = PoissonGaussian(0.1, 2.0, 3, "entity")
    parts = parts_of(
        Composed(
            (
                SelfComposed(Composed((step, Gaussian(2.0, "entity"))), 4),
                PoissonGaussian(1.0, 3.0, 9, "entity"),
                Laplace(5.0, "entity"),
                PoissonGaussian(0.1, 2.0, 1, "entity"),
            )
        )
    )
    assert parts.precision == pytest.approx(4 / 4 + 9 / 9)
    assert parts.groups == ((PoissonGaussian(0.1, 2.0, 1), 13), (Laplace(5.0), 1))


def test_what_is_composed_from_the_cache_is_what_the_library_composes() -> None:
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-4)
    events: tuple[Event, ...] = ()
    for index in range(1, 8):
        rate, noise, steps = 0.02 * index, 4.0 + index, 10 * index
        events = (*events, PoissonGaussian(rate, noise, steps))
        sampled = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(sampled, steps)
        found = epsilon_by_pld(Composed(events), DELTA)
        assert found == pytest.approx(accountant.get_epsilon(DELTA), rel=5e-4)
