import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_protocols.accounting import (
    NO_COST,
    ORDERS,
    RenyiCurve,
    composed_epsilon,
    epsilon_by_pld,
    epsilon_by_rdp,
    renyi_curve,
    total,
)
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


@pytest.mark.parametrize("epsilon_of", [epsilon_by_pld, epsilon_by_rdp])
def test_an_entitys_price_is_a_records_price(epsilon_of: Callable[[Event, float], float]) -> None:
    # What a step costs depends on what one unit can add, whatever a unit is.
    by_record, by_entity = (
        Composed((PoissonGaussian(0.5, 4.0, 3, unit), Gaussian(4.0, unit)))
        for unit in ("record", "entity")
    )
    assert epsilon_of(by_record, DELTA) == epsilon_of(by_entity, DELTA)


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


# --- every mechanism ----------------------------------------------------------------------------

DEARER: list[Callable[[float], Leaf]] = [
    lambda cost: PoissonGaussian(min(1.0, 0.05 * cost), 2.0, 20),
    lambda cost: PoissonGaussian(0.1, 4.0 / cost, 20),
    lambda cost: PoissonGaussian(0.1, 4.0, round(10 * cost)),
    lambda cost: Gaussian(6.0 / cost),
    lambda cost: DiscreteGaussian(6.0 / cost),
    lambda cost: DiscreteGaussian(6.0, round(cost)),
    lambda cost: Laplace(6.0 / cost),
    lambda cost: DiscreteLaplace(6.0 / cost),
    lambda cost: ExponentialQuantile(0.2 * cost),
    lambda cost: Exponential(0.2 * cost),
]
costs = st.floats(1.0, 6.0)
some = st.sampled_from(DEARER).flatmap(costs.map)


@settings(max_examples=40, deadline=None)
@given(make=st.sampled_from(DEARER), costs=st.tuples(costs, costs).map(sorted))
def test_the_price_rises_with_everything_that_costs(
    make: Callable[[float], Leaf], costs: list[float]
) -> None:
    cheap, dear = make(costs[0]), make(costs[1])
    assert renyi_curve(cheap).is_within(renyi_curve(dear))
    # Up to the rounding of the two grids.
    rounding = 1 + 1e-3
    assert epsilon_by_pld(cheap, DELTA) <= epsilon_by_pld(dear, DELTA) * rounding + 1e-4
    repeated = SelfComposed(cheap, 2)
    assert renyi_curve(cheap).is_within(renyi_curve(repeated))
    assert epsilon_by_pld(cheap, DELTA) <= epsilon_by_pld(repeated, DELTA) * rounding + 1e-4
    assert epsilon_by_pld(cheap, 10 * DELTA) <= epsilon_by_pld(cheap, DELTA)


@settings(max_examples=25, deadline=None)
@given(events=st.lists(some, min_size=2, max_size=5), data=st.data())
def test_the_order_of_events_does_not_matter(events: list[Leaf], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(events))
    one, other = Composed(tuple(events)), Composed((Composed(tuple(shuffled)),))
    assert epsilon_by_pld(one, DELTA) == pytest.approx(epsilon_by_pld(other, DELTA), rel=1e-6)
    assert renyi_curve(one).values == pytest.approx(renyi_curve(other).values, rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(events=st.lists(some, min_size=1, max_size=4), more=some)
def test_one_event_more_costs_more_and_no_more_than_by_its_curve(
    events: list[Leaf], more: Leaf
) -> None:
    before, after = Composed(tuple(events)), Composed((*events, more))
    assert epsilon_by_pld(after, DELTA) <= epsilon_by_rdp(after, DELTA) * (1 + 1e-3)
    assert epsilon_by_pld(before, DELTA) <= epsilon_by_pld(after, DELTA) * (1 + 1e-3) + 1e-4


@pytest.mark.parametrize("count", [1, 7, 200])
def test_what_is_repeated_costs_what_it_costs_written_out(count: int) -> None:
    for leaf in (PoissonGaussian(0.1, 6.0, 2), DiscreteGaussian(40.0), Gaussian(50.0)):
        short, long = SelfComposed(leaf, count), Composed((leaf,) * count)
        assert epsilon_by_pld(short, DELTA) == epsilon_by_pld(long, DELTA)
        assert renyi_curve(short).values == pytest.approx(renyi_curve(long).values)


def test_quantiles_are_cheaper_together_than_their_worst_cases() -> None:
    many = SelfComposed(ExponentialQuantile(0.1), 100)
    assert epsilon_by_pld(many, DELTA) == epsilon_by_rdp(many, DELTA)
    assert epsilon_by_pld(many, DELTA) < epsilon_by_pld(
        SelfComposed(DiscreteLaplace(10.0), 100), DELTA
    )


def test_a_choice_costs_what_a_quantile_costs_in_whatever_company() -> None:
    quantile, choice = (
        Composed((SelfComposed(each, 13), SelfComposed(DiscreteGaussian(25.0), 14)))
        for each in (ExponentialQuantile(0.08), Exponential(0.08))
    )
    assert renyi_curve(choice) == renyi_curve(quantile)
    assert epsilon_by_pld(choice, DELTA) == epsilon_by_pld(quantile, DELTA)
    assert epsilon_by_pld(choice, DELTA) < epsilon_by_rdp(choice, DELTA)


def test_the_price_of_a_lifetime_is_between_its_dearest_event_and_the_filter() -> None:
    events: list[Event] = [
        Composed((PoissonGaussian(0.05, 5.0 + index, 40), DiscreteGaussian(20.0 + index)))
        for index in range(12)
    ]
    whole = composed_epsilon(events, DELTA)
    filtered = total([renyi_curve(event) for event in events]).epsilon(DELTA)
    assert max(epsilon_by_pld(event, DELTA) for event in events) < whole < filtered < 1.15 * whole
    further = composed_epsilon([*events, Laplace(50.0)], DELTA)
    assert whole < further < whole + 1 / 50
    assert composed_epsilon([], DELTA) == 0.0


EXTREMES: tuple[Event, ...] = (
    Gaussian(1e-200),
    Gaussian(1e200),
    PoissonGaussian(0.5, 1e-200, 10**9),
    PoissonGaussian(1.0, 1e-200, 10**9),
    PoissonGaussian(1e-300, 0.03, 10**6),
    PoissonGaussian(0.5, 1e100, 10**9),
    PoissonGaussian(1 - 1e-15, 5.0, 1),
    SelfComposed(DiscreteGaussian(1e-300), 10**9),
    DiscreteGaussian(1e5),
    DiscreteGaussian(1e5, 10**5),
    Laplace(1e-320),
    Laplace(1e300),
    DiscreteLaplace(1e-5),
    DiscreteLaplace(1e300),
    SelfComposed(ExponentialQuantile(1e300), 10**9),
    ExponentialQuantile(1e-300),
    Composed(tuple(Laplace(1000.0 + index) for index in range(2000))),
)


@pytest.mark.parametrize("event", EXTREMES, ids=lambda event: str(event)[:60])
def test_nothing_that_a_stranger_writes_makes_pricing_fail_or_explode(event: Event) -> None:
    tight, loose = epsilon_by_pld(event, DELTA), epsilon_by_rdp(event, DELTA)
    assert not math.isnan(tight)
    assert 0 <= tight <= loose * (1 + 1e-3) + 1e-3


def test_hardly_any_noise_is_no_privacy_at_all() -> None:
    for event in (Gaussian(1e-200), PoissonGaussian(0.5, 1e-200, 1), DiscreteGaussian(1e-300)):
        assert epsilon_by_pld(event, DELTA) == math.inf


def test_a_delta_too_small_for_a_distribution_is_priced_by_the_curve() -> None:
    event = Composed((PoissonGaussian(0.1, 4.0, 20), DiscreteGaussian(10.0)))
    assert epsilon_by_pld(event, 1e-18) == epsilon_by_rdp(event, 1e-18) < math.inf
    assert epsilon_by_pld(event, 1e-12) < epsilon_by_rdp(event, 1e-12)
