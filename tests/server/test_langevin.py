"""DP-SGLD against a posterior that is known exactly, and the temperature it can have."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statistical import assert_scale

from sordino_protocols.clipping import AdaptiveClipping, ClippingRule, NormalizedClipping
from sordino_protocols.errors import InputError
from sordino_protocols.models import FloatVector
from sordino_protocols.optimizer import SgldOptimizer
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.schedules import Schedule
from sordino_server.aggregation import CohortRelease
from sordino_server.langevin import check_temperature
from sordino_server.optimizers import advance, initial_state

PLAN = TrainingPlan(
    sampling_rate=1.0,
    noise_multiplier=50.0,
    clipping_norm=0.5,
    rounds=150,
    local_steps=1,
    local_learning_rate=0.1,
    lanes=0,
)
SITES, UNITS = 2, 1000
CURVATURE, CENTRE = 0.05, 0.3
CHAINS = 20_000


def chains(
    optimizer: SgldOptimizer, *, noise_ratio: float = 1.0, rounds: int = PLAN.rounds
) -> FloatVector:
    """End points of independent chains, one a coordinate.

    Every unit has the loss `curvature / 2 (w - x)^2` in each coordinate, the x of a mean `CENTRE`:
    together a Gaussian posterior of precision `units * curvature + prior_precision`.
    """
    rng = np.random.default_rng(11)
    std = PLAN.noise_std * noise_ratio * np.sqrt(SITES)
    state = initial_state(np.zeros(CHAINS), PLAN)
    for _ in range(rounds):
        exact = UNITS * CURVATURE * (state.weights - CENTRE)
        release = CohortRelease(exact + rng.normal(0, std, CHAINS), UNITS, SITES)
        state = advance(state, release, plan=PLAN, optimizer=optimizer, seed=b"job")
    return state.weights


def stationary(optimizer: SgldOptimizer) -> tuple[float, float, float]:
    """Mean and standard deviation of the chain at its end, and the posterior's deviation.

    The chain is autoregressive with coefficient a = 1 - eta * precision, so its variance after k
    steps is `2 eta temperature (1 - a^2k) / (1 - a^2)`: the posterior's but for the step's length.
    """
    precision = UNITS * CURVATURE + optimizer.prior_precision
    eta = optimizer.learning_rate / UNITS
    a = 1 - eta * precision
    mean = UNITS * CURVATURE * CENTRE / precision * (1 - a**PLAN.rounds)
    grown = (1 - a ** (2 * PLAN.rounds)) / (1 - a**2)
    variance = 2 * eta * optimizer.temperature * grown
    return mean, float(np.sqrt(variance)), float(np.sqrt(optimizer.temperature / precision))


# The privacy noise alone is 62 %, 31 % and all but 0.1 % of the wanted heat.
@pytest.mark.parametrize(
    "optimizer",
    [
        SgldOptimizer(kind="sgld", learning_rate=1.0),
        SgldOptimizer(kind="sgld", learning_rate=1.0, temperature=2.0, prior_precision=50.0),
        SgldOptimizer(kind="sgld", learning_rate=1.598, prior_precision=0.0),
    ],
)
def test_the_weights_wander_over_the_posterior(optimizer: SgldOptimizer) -> None:
    mean, std, posterior_std = stationary(optimizer)
    found = chains(optimizer)
    # Chi-square over 20,000 independent chains, false failure 1e-9: finds a deviation of 4 %.
    assert_scale(found, std, expected_mean=mean)
    # 6.2 standard errors: 1e-9.
    assert abs(found.mean() - mean) < 6.2 * std / np.sqrt(CHAINS)
    assert std == pytest.approx(posterior_std, rel=0.06)


@pytest.mark.parametrize("noise_ratio", [0.0, 0.8, 1.2])
def test_privacy_noise_of_another_scale_is_another_temperature(noise_ratio: float) -> None:
    # So the test above would fail if the server took the privacy noise for more or less than it is.
    optimizer = SgldOptimizer(kind="sgld", learning_rate=1.0)
    mean, std, _ = stationary(optimizer)
    found = chains(optimizer, noise_ratio=noise_ratio)
    with pytest.raises(AssertionError, match="a correct implementation does this"):
        assert_scale(found, std, expected_mean=mean)


def test_a_restart_adds_the_same_noise_and_every_round_and_job_another() -> None:
    optimizer = SgldOptimizer(kind="sgld", learning_rate=1.0)
    state = initial_state(np.zeros(50), PLAN)
    release = CohortRelease(np.zeros(50), UNITS, SITES)

    def step(number: int, seed: bytes) -> FloatVector:
        there = replace(state, rounds_done=number)
        return advance(there, release, plan=PLAN, optimizer=optimizer, seed=seed).weights

    assert np.array_equal(step(3, b"a"), step(3, b"a"))
    others = [step(4, b"a"), step(3, b"b")]
    assert all(not np.isin(other, step(3, b"a")).any() for other in others)


# --- the temperature ------------------------------------------------------------------------------


def named(optimizer: SgldOptimizer, *, units: list[int], quorum: int) -> float:
    """The largest learning rate that a refusal names."""
    with pytest.raises(InputError, match="hotter than temperature") as caught:
        check_temperature(optimizer, PLAN, units=units, quorum=quorum)
    return float(str(caught.value).split("at most ")[1].split()[0])


@settings(max_examples=60, deadline=None)
@given(
    units=st.lists(st.integers(10, 10_000), min_size=1, max_size=6),
    data=st.data(),
    temperature=st.floats(0.01, 100),
    warmup=st.floats(0, 0.9),
)
def test_the_rate_that_a_refusal_names_fits_every_cohort_and_little_more_does(
    units: list[int], data: st.DataObject, temperature: float, warmup: float
) -> None:
    quorum = data.draw(st.integers(1, len(units)))
    schedule = Schedule(decay="cosine", warmup=warmup)
    hot = SgldOptimizer(kind="sgld", learning_rate=1e6, temperature=temperature, schedule=schedule)
    largest = named(hot, units=units, quorum=quorum)
    fits = hot.model_copy(update={"learning_rate": largest})
    check_temperature(fits, PLAN, units=units, quorum=quorum)
    assert named(
        hot.model_copy(update={"learning_rate": largest * 1.01}), units=units, quorum=quorum
    ) == pytest.approx(largest)
    # Then no round is ever too hot, whoever answers it.
    cohort = data.draw(st.lists(st.sampled_from(range(len(units))), min_size=quorum, unique=True))
    state = replace(
        initial_state(np.zeros(1), PLAN), rounds_done=data.draw(st.integers(0, PLAN.rounds - 1))
    )
    release = CohortRelease(np.zeros(1), sum(units[k] for k in cohort), len(cohort))
    after = advance(state, release, plan=PLAN, optimizer=fits, seed=b"job")
    assert np.isfinite(after.weights).all()


def test_a_step_that_is_too_hot_is_a_bug() -> None:
    state = initial_state(np.zeros(1), PLAN)
    hot = SgldOptimizer(kind="sgld", learning_rate=100.0)
    with pytest.raises(ValueError, match="too hot"):
        advance(
            state, CohortRelease(np.zeros(1), UNITS, SITES), plan=PLAN, optimizer=hot, seed=b"job"
        )


@pytest.mark.parametrize(
    "clipping", [AdaptiveClipping(kind="adaptive"), NormalizedClipping(kind="normalized")]
)
def test_clipping_that_changes_every_gradient_or_its_own_norm_is_refused(
    clipping: ClippingRule,
) -> None:
    cool = SgldOptimizer(kind="sgld", learning_rate=1e-6)
    check_temperature(cool, PLAN, units=[UNITS], quorum=1)
    with pytest.raises(InputError, match=f"'{clipping.kind}'; use 'flat' or 'per_layer'"):
        check_temperature(cool, replace(PLAN, clipping=clipping), units=[UNITS], quorum=1)
