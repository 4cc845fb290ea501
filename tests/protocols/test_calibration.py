import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.calibration import calibrate, gaussian_noise
from sordino_protocols.errors import InputError
from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    Event,
    Gaussian,
    Guarantee,
    PoissonGaussian,
)

DELTA = 1e-5


def test_a_gaussian_of_known_price() -> None:
    # Balle & Wang 2018: sigma for (1, 1e-5) and sensitivity 1 is 3.7306.
    assert gaussian_noise(Guarantee(1.0, 1e-5)) == pytest.approx(3.7306, abs=1e-4)
    assert epsilon_by_pld(Gaussian(3.730632), 1e-5) == pytest.approx(1.0, abs=1e-5)


@given(epsilon=st.floats(0.01, 50), delta=st.floats(1e-12, 1e-2))
def test_noise_and_price_of_a_gaussian_are_inverse_on_the_safe_side(
    epsilon: float, delta: float
) -> None:
    noise_multiplier = gaussian_noise(Guarantee(epsilon, delta))
    assert epsilon_by_pld(Gaussian(noise_multiplier), delta) <= epsilon * (1 + 1e-9)
    assert epsilon_by_pld(Gaussian(noise_multiplier * 0.999), delta) > epsilon


@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "steps"),
    [(1.0, 1e-5, 0.1, 40), (0.1, 1e-5, 0.05, 50), (4.0, 1e-5, 0.2, 10), (1.0, 1e-2, 0.5, 30)],
)
def test_calibrated_noise_keeps_the_guarantee_and_wastes_a_thousandth(
    epsilon: float, delta: float, rate: float, steps: int
) -> None:
    def event_at(noise: float) -> Event:
        return Composed((PoissonGaussian(rate, noise, steps), Gaussian(20.0 / epsilon)))

    noise = calibrate(event_at, Guarantee(epsilon, delta))
    assert epsilon * (1 - 1e-3) <= epsilon_by_pld(event_at(noise), delta) <= epsilon


@settings(max_examples=50, deadline=None)
@given(epsilon=st.floats(0.05, 50), delta=st.floats(1e-8, 1e-2), steps=st.integers(1, 10_000))
def test_calibration_of_full_batches_always_succeeds(
    epsilon: float, delta: float, steps: int
) -> None:
    noise = calibrate(lambda x: PoissonGaussian(1.0, x, steps), Guarantee(epsilon, delta))
    reached = epsilon_by_pld(PoissonGaussian(1.0, noise, steps), delta)
    assert epsilon * (1 - 1e-3) <= reached <= epsilon


def test_refuses_a_plan_of_which_another_part_costs_too_much() -> None:
    with pytest.raises(InputError, match="another part of the plan exceeds it"):
        calibrate(
            lambda noise: Composed((PoissonGaussian(1.0, noise, 5), Gaussian(0.5))),
            Guarantee(1.0, DELTA),
        )


def test_refuses_a_plan_whose_cost_has_nothing_to_do_with_its_noise() -> None:
    with pytest.raises(InputError, match=r"noise reaches this guarantee|does not fall"):
        calibrate(lambda _: Gaussian(1.0), Guarantee(1.0, DELTA))


def test_refuses_a_delta_that_not_being_sampled_meets_without_noise() -> None:
    # Five rounds at a rate of 0.001 are (0, 0.005)-DP without any noise: one record in the clear.
    with pytest.raises(InputError, match="choose less delta"):
        calibrate(lambda noise: PoissonGaussian(0.001, noise, 5), Guarantee(1.0, 1e-2))


def test_discrete_noise_is_calibrated_as_well() -> None:
    # What a validation is: an evaluation alone.
    for epsilon in (0.2, 1.0, 8.0):
        guarantee = Guarantee(epsilon, DELTA)
        noise = calibrate(DiscreteGaussian, guarantee)
        assert epsilon * (1 - 1e-3) <= epsilon_by_pld(DiscreteGaussian(noise), DELTA) <= epsilon


def test_a_calibration_asks_for_few_prices_and_a_second_one_for_no_new_ones() -> None:
    asked: list[Event] = []

    def event_at(noise: float) -> Event:
        asked.append(Composed((PoissonGaussian(0.11, noise, 70), DiscreteGaussian(17.0))))
        return asked[-1]

    first = calibrate(event_at, Guarantee(1.5, DELTA))
    assert len(asked) <= 12
    before = epsilon_by_pld.cache_info().misses
    assert calibrate(event_at, Guarantee(1.5, DELTA)) == first
    assert epsilon_by_pld.cache_info().misses == before


def _rounded_up(noise: float) -> float:
    """To two digits: a step is worth a hundredth of epsilon, or up to a tenth."""
    scale = 10.0 ** (1 - math.floor(math.log10(noise)))
    return math.ceil(noise * scale) / scale


@pytest.mark.parametrize("epsilon", [0.31, 0.5, 1.0, 2.2, 3.7, 8.0])
def test_an_event_that_rounds_its_noise_up_gets_the_least_that_is_enough(epsilon: float) -> None:
    guarantee = Guarantee(epsilon, DELTA)
    noise = calibrate(lambda wanted: DiscreteGaussian(_rounded_up(wanted)), guarantee)
    assert epsilon_by_pld(DiscreteGaussian(_rounded_up(noise)), DELTA) <= epsilon
    assert epsilon_by_pld(DiscreteGaussian(_rounded_up(noise * 0.99)), DELTA) > epsilon * (1 - 1e-3)


def test_a_plan_of_many_marginals_is_calibrated_to_a_thousandth() -> None:
    weights = [1 + (index % 50) / 10 for index in range(105)]

    def event_at(noise: float) -> Event:
        return Composed(
            tuple(DiscreteGaussian(float(f"{noise * weight:.4g}")) for weight in weights)
        )

    noise = calibrate(event_at, Guarantee(1.0, DELTA))
    assert 1 - 1.5e-3 <= epsilon_by_pld(event_at(noise), DELTA) <= 1.0
