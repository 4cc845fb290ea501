import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_protocols.accounting import (
    NO_COST,
    ORDERS,
    RenyiCurve,
    calibrate,
    epsilon_by_pld,
    epsilon_by_rdp,
    gaussian_noise,
    renyi_curve,
    total,
)
from sordino_protocols.errors import InputError
from sordino_protocols.privacy import Composed, Event, Gaussian, Guarantee, PoissonGaussian

DELTA = 1e-5
rates = st.floats(0.001, 1.0)
noises = st.floats(0.7, 30.0)
step_counts = st.integers(1, 2000)


def library_epsilon(event: Gaussian, delta: float) -> float:
    """The library's general PLD accountant on one Gaussian, without our closed form."""
    import dp_accounting  # noqa: PLC0415
    from dp_accounting import pld  # noqa: PLC0415

    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-4)
    accountant.compose(dp_accounting.GaussianDpEvent(event.noise_multiplier))
    return float(accountant.get_epsilon(delta))


# --- PLD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 3.0, 20.0])
def test_the_closed_form_of_a_gaussian_is_what_the_library_computes(
    noise_multiplier: float,
) -> None:
    event = Gaussian(noise_multiplier)
    closed, general = epsilon_by_pld(event, DELTA), library_epsilon(event, DELTA)
    assert closed == pytest.approx(general, abs=1e-3)
    # The discretisation is rounded up, so the exact value is not above it.
    assert closed <= general + 1e-9


def test_a_gaussian_of_known_price() -> None:
    # Balle & Wang 2018: sigma for (1, 1e-5) and sensitivity 1 is 3.7306.
    assert gaussian_noise(Guarantee(1.0, 1e-5)) == pytest.approx(3.7306, abs=1e-4)
    assert epsilon_by_pld(Gaussian(3.730632), 1e-5) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("epsilon_of", [epsilon_by_pld, epsilon_by_rdp])
def test_an_entitys_price_is_a_records_price(epsilon_of: Callable[[Event, float], float]) -> None:
    # What a step costs depends on what one unit can add, whatever a unit is.
    by_record, by_entity = (
        Composed((PoissonGaussian(0.5, 4.0, 3, unit), Gaussian(4.0, unit)))
        for unit in ("record", "entity")
    )
    assert epsilon_of(by_record, DELTA) == epsilon_of(by_entity, DELTA)


@given(epsilon=st.floats(0.01, 50), delta=st.floats(1e-12, 1e-2))
def test_noise_and_price_of_a_gaussian_are_inverse_on_the_safe_side(
    epsilon: float, delta: float
) -> None:
    noise_multiplier = gaussian_noise(Guarantee(epsilon, delta))
    assert epsilon_by_pld(Gaussian(noise_multiplier), delta) <= epsilon * (1 + 1e-9)
    assert epsilon_by_pld(Gaussian(noise_multiplier * 0.999), delta) > epsilon


@given(noise_multiplier=st.floats(0.5, 20), steps=st.integers(1, 500))
def test_full_batches_compose_to_one_gaussian(noise_multiplier: float, steps: int) -> None:
    merged = Gaussian(noise_multiplier / math.sqrt(steps))
    repeated = PoissonGaussian(1.0, noise_multiplier, steps)
    assert epsilon_by_pld(repeated, DELTA) == pytest.approx(epsilon_by_pld(merged, DELTA), rel=1e-9)
    composed = Composed((PoissonGaussian(1.0, noise_multiplier, 1), Composed((repeated,))))
    again = PoissonGaussian(1.0, noise_multiplier, steps + 1)
    assert epsilon_by_pld(composed, DELTA) == pytest.approx(epsilon_by_pld(again, DELTA), rel=1e-9)


def test_sampling_nearly_everyone_costs_nearly_what_everyone_costs() -> None:
    # The two branches, PLD and closed form, meet: a mistake in either would part them.
    sampled = epsilon_by_pld(PoissonGaussian(1 - 1e-9, 4.0, 20), DELTA)
    assert sampled == pytest.approx(epsilon_by_pld(PoissonGaussian(1.0, 4.0, 20), DELTA), abs=2e-3)


@settings(max_examples=6, deadline=None)
@given(rate=st.floats(0.01, 0.5), noise=st.floats(2.0, 8.0), steps=st.integers(1, 100))
def test_the_renyi_price_is_never_below_the_tight_one(
    rate: float, noise: float, steps: int
) -> None:
    event = Composed((PoissonGaussian(rate, noise, steps), Gaussian(10.0)))
    assert epsilon_by_pld(event, DELTA) <= epsilon_by_rdp(event, DELTA) + 1e-3


@settings(max_examples=4, deadline=None)
@given(rate=st.floats(0.01, 0.4), noise=st.floats(2.0, 6.0), steps=st.integers(1, 50))
def test_the_tight_price_rises_with_rate_and_steps_and_falls_with_noise(
    rate: float, noise: float, steps: int
) -> None:
    price = epsilon_by_pld(PoissonGaussian(rate, noise, steps), DELTA)
    assert epsilon_by_pld(PoissonGaussian(rate * 1.5, noise, steps), DELTA) >= price - 1e-3
    assert epsilon_by_pld(PoissonGaussian(rate, noise * 1.5, steps), DELTA) <= price + 1e-3
    assert epsilon_by_pld(PoissonGaussian(rate, noise, 2 * steps), DELTA) >= price - 1e-3


# --- Rényi curves -------------------------------------------------------------------------------


def test_the_renyi_curve_of_a_gaussian_is_the_closed_form() -> None:
    # Mironov 2017, prop. 7.
    assert renyi_curve(Gaussian(2.0)).values == pytest.approx([order / 8 for order in ORDERS])


@settings(max_examples=12, deadline=None)
@given(rate=rates, noise=noises, steps=step_counts)
def test_the_renyi_curve_rises_with_rate_and_steps_and_falls_with_noise(
    rate: float, noise: float, steps: int
) -> None:
    curve = renyi_curve(PoissonGaussian(rate, noise, steps))
    assert curve.is_within(renyi_curve(PoissonGaussian(min(1.0, rate * 1.1), noise, steps)))
    assert curve.is_within(renyi_curve(PoissonGaussian(rate, noise, steps + 1)))
    assert renyi_curve(PoissonGaussian(rate, noise * 1.1, steps)).is_within(curve)
    assert not renyi_curve(PoissonGaussian(rate, noise, 2 * steps)).is_within(curve)


@settings(max_examples=30, deadline=None)
@given(rate=rates, noise=noises, rounds=st.integers(1, 300), local_steps=st.integers(1, 5))
def test_the_curves_of_rounds_add_up_to_the_curve_of_the_run(
    rate: float, noise: float, rounds: int, local_steps: int
) -> None:
    # What the ledger rests on: a hold for the run covers its rounds, and not one more.
    one = renyi_curve(PoissonGaussian(rate, noise, local_steps))
    whole = renyi_curve(PoissonGaussian(rate, noise, local_steps * rounds))
    assert total([one] * rounds).is_within(whole)
    assert whole.is_within(total([one] * rounds))
    assert not total([one] * (rounds + 1)).is_within(whole)


def test_the_curve_of_composed_events_is_the_sum() -> None:
    events: tuple[Event, ...] = (PoissonGaussian(0.1, 2.0, 7), Gaussian(5.0))
    nested = Composed((events[0], Composed(events)))
    expected = renyi_curve(events[0]) + renyi_curve(events[0]) + renyi_curve(events[1])
    assert renyi_curve(nested).values == pytest.approx(expected.values)


def test_nothing_costs_nothing() -> None:
    assert NO_COST.epsilon(DELTA) == 0.0
    assert total([]) == NO_COST


@pytest.mark.parametrize("bad", [math.nan, -1e-9, -math.inf])
def test_refuses_a_curve_that_is_none(bad: float) -> None:
    with pytest.raises(InputError, match="values >= 0"):
        RenyiCurve((bad, *NO_COST.values[1:]))
    with pytest.raises(InputError, match=f"has {len(ORDERS)} values, not 1"):
        RenyiCurve((1.0,))


def test_another_library_computes_the_same_curve() -> None:
    # Opacus' accountant shares no code with dp-accounting. It takes seconds to import.
    from opacus.accountants.analysis import rdp as opacus_rdp  # noqa: PLC0415

    for rate, noise, steps in ((0.01, 1.1, 1000), (0.2, 2.0, 50), (0.5, 0.8, 3), (1.0, 4.0, 20)):
        ours = renyi_curve(PoissonGaussian(rate, noise, steps)).values
        theirs = opacus_rdp.compute_rdp(
            q=rate, noise_multiplier=noise, steps=steps, orders=list(ORDERS)
        )
        assert ours == pytest.approx(list(theirs), rel=1e-6)
        epsilon, _ = opacus_rdp.get_privacy_spent(orders=list(ORDERS), rdp=theirs, delta=DELTA)
        assert epsilon_by_rdp(PoissonGaussian(rate, noise, steps), DELTA) == pytest.approx(
            epsilon, rel=1e-6
        )


# --- calibration --------------------------------------------------------------------------------


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
