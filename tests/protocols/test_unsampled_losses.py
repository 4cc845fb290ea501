import math

import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_protocols.accounting import epsilon_by_pld, gaussian_delta
from sordino_protocols.loss_distributions import loss_distribution, parts_of
from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    Event,
    Gaussian,
    Laplace,
    PoissonGaussian,
    SelfComposed,
)
from sordino_protocols.unsampled_losses import unsampled_losses

DELTA = 1e-5


@pytest.mark.parametrize(
    "event",
    [
        DiscreteGaussian(3.0),
        DiscreteGaussian(0.6),
        DiscreteGaussian(4.0, 3),
        Composed((PoissonGaussian(1.0, 5.1, 20), DiscreteGaussian(3.4))),
        Composed((Gaussian(0.9), DiscreteGaussian(30.0))),
        Composed((Gaussian(40.0), DiscreteGaussian(80.0))),
    ],
)
def test_is_what_a_library_finds_on_a_grid(event: Event) -> None:
    losses = unsampled_losses(parts_of(event))
    assert losses is not None
    library = loss_distribution(event)
    assert epsilon_by_pld(event, DELTA) == pytest.approx(
        library.get_epsilon_for_delta(DELTA), rel=2e-3, abs=2e-4
    )
    for epsilon in (0.1, 0.5, 1.0):
        # The grid overstates, and never understates.
        assert losses.delta(epsilon) <= library.get_delta_for_epsilon(epsilon) + 1e-15
        assert losses.delta(epsilon) == pytest.approx(
            library.get_delta_for_epsilon(epsilon), rel=2e-2, abs=1e-9
        )


@pytest.mark.parametrize(
    "event",
    [
        DiscreteGaussian(200.0),
        SelfComposed(DiscreteGaussian(3.0), 2),
        Composed((DiscreteGaussian(3.0), DiscreteGaussian(4.0))),
        Composed((Gaussian(4.0), SelfComposed(DiscreteGaussian(6.0, 2), 3), DiscreteGaussian(5.0))),
    ],
)
def test_more_releases_cost_what_a_library_finds_on_another_grid(event: Event) -> None:
    library = loss_distribution(event)
    assert epsilon_by_pld(event, DELTA) == pytest.approx(
        library.get_epsilon_for_delta(DELTA), rel=5e-4
    )


@given(mu=st.floats(0.01, 5.0), epsilon=st.floats(0, 10))
@settings(deadline=None)
def test_of_one_gaussian_it_is_the_closed_form(mu: float, epsilon: float) -> None:
    losses = unsampled_losses(parts_of(Gaussian(1 / mu)))
    assert losses is not None
    assert losses.delta(epsilon) == pytest.approx(
        max(gaussian_delta(1 / mu, epsilon), 0.0), rel=1e-9, abs=1e-15
    )


@given(std=st.floats(0.3, 20), noise=st.floats(0.3, 20), epsilon=st.floats(0, 20))
@settings(deadline=None, max_examples=60)
def test_falls_with_epsilon_and_rises_with_another_release(
    std: float, noise: float, epsilon: float
) -> None:
    both = unsampled_losses(parts_of(Composed((Gaussian(noise), DiscreteGaussian(std)))))
    alone = unsampled_losses(parts_of(DiscreteGaussian(std)))
    assert both is not None
    assert alone is not None
    assert both.delta(epsilon + 0.1) <= both.delta(epsilon) * (1 + 1e-9) + 1e-15
    assert both.delta(epsilon) >= alone.delta(epsilon) * (1 - 1e-9) - 1e-15
    assert math.isfinite(both.delta(1000.0))


@pytest.mark.parametrize(
    "event",
    [
        PoissonGaussian(0.5, 2.0, 3),
        Composed((DiscreteGaussian(3.0), PoissonGaussian(0.5, 2.0, 3))),
        Composed((DiscreteGaussian(3.0), Laplace(4.0))),
    ],
)
def test_leaves_the_rest_to_the_library(event: Event) -> None:
    assert unsampled_losses(parts_of(event)) is None


def test_the_library_is_right_about_a_lattice() -> None:
    found = pld.privacy_loss_distribution.from_discrete_gaussian_mechanism(2.0, 1)
    assert epsilon_by_pld(DiscreteGaussian(2.0), DELTA) == pytest.approx(
        found.get_epsilon_for_delta(DELTA), abs=2e-4
    )
