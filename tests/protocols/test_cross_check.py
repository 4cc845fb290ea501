import itertools
import math
from dataclasses import replace

import pytest

from sordino_protocols.accounting import (
    RenyiCurve,
    epsilon_by_pld,
    epsilon_by_rdp,
    renyi_curve,
)
from sordino_protocols.cross_check import AccountantsDisagreeError, Tight, check_accountants
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
    PoissonGaussian,
    SelfComposed,
    leaves,
)

DELTA = 1e-5
RUN = Composed((Gaussian(15.0), PoissonGaussian(0.2, 4.0, 40), DiscreteGaussian(12.0)))
RUNS: list[Event] = [
    RUN,
    Composed((PoissonGaussian(0.05, 2.0, 100, "entity"), DiscreteGaussian(2.0, 1, "entity"))),
    PoissonGaussian(0.01, 1.1, 1000),
    PoissonGaussian(0.05, 60.0, 50),
    Composed((PoissonGaussian(1.0, 6.0, 40), PoissonGaussian(0.5, 6.0, 40))),
]
UNSAMPLED: list[Event] = [
    Composed((PoissonGaussian(1.0, 6.0, 40), DiscreteGaussian(15.0))),
    Composed((DiscreteGaussian(1.0),)),
    Gaussian(4.0),
    Gaussian(0.4),
    Gaussian(2e5),
]
OTHERS: list[Event] = [
    Laplace(3.0),
    SelfComposed(DiscreteLaplace(5.0), 3),
    SelfComposed(ExponentialQuantile(0.3), 9),
    SelfComposed(Exponential(0.3), 9),
    DiscreteGaussian(3.0, 2),
    DiscreteGaussian(0.6),
]


def with_noise(event: Event, factor: float) -> Event:
    """The same training with more noise than it has: a price that is too low."""
    changed = [
        SelfComposed(
            replace(leaf, noise_multiplier=leaf.noise_multiplier * factor)
            if isinstance(leaf, PoissonGaussian)
            else leaf,
            count,
        )
        for leaf, count in leaves(event)
    ]
    return Composed(tuple(changed))


@pytest.mark.parametrize("event", RUNS)
def test_the_accountants_agree_about_runs(event: Event) -> None:
    agreement = check_accountants(event, DELTA)
    assert agreement.is_whole
    assert agreement.epsilon_pld == epsilon_by_pld(event, DELTA)
    assert agreement.epsilon_rdp == epsilon_by_rdp(event, DELTA)
    assert agreement.opacus_rdp == pytest.approx(agreement.epsilon_rdp, rel=1e-6)
    assert agreement.opacus_prv is not None
    # What is shown is no less than what an independent accountant says.
    assert agreement.epsilon_pld >= agreement.opacus_prv * (1 - 2e-3) - 1e-3
    assert agreement.opacus_prv <= agreement.epsilon_rdp


@pytest.mark.parametrize("event", UNSAMPLED)
def test_what_is_not_sampled_is_held_against_an_integral(event: Event) -> None:
    agreement = check_accountants(event, DELTA)
    assert agreement.epsilon_pld == epsilon_by_pld(event, DELTA)
    assert (agreement.opacus_rdp, agreement.opacus_prv) == (None, None)


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_wrong_closed_form_is_caught(factor: float) -> None:
    def wrong(event: Event, delta: float) -> float:
        return epsilon_by_pld(event, delta) * factor

    with pytest.raises(AccountantsDisagreeError, match="integral"):
        check_accountants(Gaussian(1.0), DELTA, tight=wrong)


@pytest.mark.parametrize("event", OTHERS)
def test_mechanisms_that_opacus_does_not_know_are_checked_elsewhere(event: Event) -> None:
    agreement = check_accountants(event, DELTA)
    assert agreement.epsilon_pld <= agreement.epsilon_rdp + 1e-3
    mixed = check_accountants(Composed((event, PoissonGaussian(0.1, 4.0, 10))), DELTA)
    assert mixed.opacus_rdp is not None
    assert mixed.is_whole is isinstance(event, DiscreteGaussian)
    if not mixed.is_whole:
        assert (agreement.opacus_rdp, agreement.opacus_prv) == (None, None)
        assert mixed.opacus_rdp < mixed.epsilon_rdp


@pytest.mark.parametrize("factor", [1.01, 1.5])
def test_a_tight_accountant_that_sees_a_hundredth_too_much_noise_is_caught(factor: float) -> None:
    def broken(event: Event, delta: float) -> float:
        return epsilon_by_pld(with_noise(event, factor), delta)

    with pytest.raises(AccountantsDisagreeError, match="tightly is"):
        check_accountants(RUN, DELTA, tight=broken)


def test_a_curve_that_sees_a_thousandth_too_much_noise_is_caught() -> None:
    def broken(event: Event) -> RenyiCurve:
        return renyi_curve(with_noise(event, 1.001))

    with pytest.raises(AccountantsDisagreeError, match="by Rényi curve is"):
        check_accountants(RUN, DELTA, curve=broken)


def shrunk(event: Event) -> RenyiCurve:
    return RenyiCurve(tuple(value * 0.5 for value in renyi_curve(event).values))


def cheap(event: Event, delta: float) -> float:
    return epsilon_by_pld(event, delta) * 0.98


def dear(event: Event, delta: float) -> float:
    return 1.5 * epsilon_by_pld(event, delta)


def nothing(event: Event, delta: float) -> float:
    del event, delta
    return math.nan


@pytest.mark.parametrize(
    ("event", "broken"), list(itertools.product([*RUNS[:2], *OTHERS], [cheap, dear, nothing]))
)
def test_a_wrong_tight_accountant_is_caught(event: Event, broken: Tight) -> None:
    with pytest.raises(AccountantsDisagreeError):
        check_accountants(event, DELTA, tight=broken)


@pytest.mark.parametrize("event", [RUN, *OTHERS])
def test_a_wrong_curve_is_caught(event: Event) -> None:
    with pytest.raises(AccountantsDisagreeError):
        check_accountants(event, DELTA, curve=shrunk)


def test_what_would_take_a_grid_of_gigabytes_is_checked_by_its_curve_alone() -> None:
    for event in (PoissonGaussian(1e-4, 1.0, 10**7), PoissonGaussian(0.5, 0.2, 100)):
        agreement = check_accountants(event, DELTA)
        assert agreement.opacus_prv is None
        assert agreement.opacus_rdp == pytest.approx(agreement.epsilon_rdp, rel=1e-6)


def test_a_dispute_is_the_jobs_error() -> None:
    assert issubclass(AccountantsDisagreeError, InputError)
