"""The server's steps, each against the formula it stands for, and the state that they carry."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import tiny_rounds
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.adam import adam_start, adam_step
from sordino_protocols.clipping import LARGEST_ADAPTATION, AdaptiveClipping
from sordino_protocols.models import FloatVector
from sordino_protocols.optimizer import (
    AdamOptimizer,
    ServerOptimizer,
    SgdOptimizer,
    SgldOptimizer,
)
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.schedules import Schedule
from sordino_server.aggregation import (
    CohortRelease,
    aggregate,
    clipping_norm_at,
    gradient_noise_variance,
)
from sordino_server.optimizers import ServerState, advance, initial_state, released_weights
from sordino_server.runs import run_directory

PLAN = replace(tiny_rounds.PLAN, rounds=4, lanes=1, lane_groups=2)
BARE = replace(PLAN, lanes=0)
RULE = AdaptiveClipping(kind="adaptive", quantile=0.8, learning_rate=0.3, share=0.2)
ADAPTIVE = replace(PLAN, clipping=RULE)
DELTA = replace(PLAN, update="delta", local_steps=5)
PLAIN = SgdOptimizer(learning_rate=1.0, average_from=1.0)
ADAM = AdamOptimizer(kind="adam", learning_rate=0.1, beta2=0.9, average_from=1.0)
SGLD = SgldOptimizer(kind="sgld", learning_rate=0.01)


def take(
    state: ServerState,
    *totals: FloatVector,
    plan: TrainingPlan = PLAN,
    optimizer: ServerOptimizer = PLAIN,
    units: int = 1,
    sites: int = 1,
) -> ServerState:
    """One round for each total."""
    for total in totals:
        release = CohortRelease(np.asarray(total, dtype=np.float64), units, sites)
        state = advance(state, release, plan=plan, optimizer=optimizer, seed=b"job")
    return state


# --- descent --------------------------------------------------------------------------------------


def test_plain_descent_divides_by_the_public_constant() -> None:
    state = initial_state(np.array([1.0, 2.0]), PLAN)
    after = take(state, np.array([10.0, -20.0, 5.0, 5.0]), units=10)
    assert after.weights.tolist() == [0.0, 4.0, 0.0, 0.0]
    assert after.rounds_done == 1


def test_momentum_keeps_its_share_of_the_last_step() -> None:
    optimizer = SgdOptimizer(learning_rate=1.0, momentum=0.5, average_from=1.0)
    after = take(
        initial_state(np.zeros(1), BARE), *[np.ones(1)] * 3, plan=BARE, optimizer=optimizer
    )
    assert after.weights[0] == -(1 + 1.5 + 1.75)


def test_weight_decay_takes_its_share_beside_the_momentum() -> None:
    optimizer = SgdOptimizer(learning_rate=0.5, momentum=0.5, weight_decay=0.2, average_from=1.0)
    after = take(
        initial_state(np.array([10.0]), BARE),
        np.ones(1),
        np.zeros(1),
        plan=BARE,
        optimizer=optimizer,
    )
    first = 10 * (1 - 0.5 * 0.2) - 0.5
    # The decay is not in the momentum: the second step has half of the first's gradient, no more.
    assert after.weights[0] == pytest.approx(first * (1 - 0.5 * 0.2) - 0.5 * 0.5)


def test_weight_decay_never_turns_weights_round() -> None:
    optimizer = SgdOptimizer(learning_rate=100.0, weight_decay=1.0)
    state = initial_state(np.array([10.0]), BARE)
    assert take(state, np.zeros(1), plan=BARE, optimizer=optimizer).weights.tolist() == [0.0]


def test_the_learning_rate_follows_the_schedule_by_round() -> None:
    optimizer = SgdOptimizer(
        learning_rate=2.0, schedule=Schedule(decay="linear", final=0.2), average_from=1.0
    )
    state, steps = initial_state(np.zeros(1), BARE), []
    for _ in range(4):
        before = state.weights[0]
        state = take(state, np.ones(1), plan=BARE, optimizer=optimizer)
        steps.append(before - state.weights[0])
    assert steps == pytest.approx([2.0, 1.6, 1.2, 0.8])


def test_a_step_of_one_along_deltas_is_their_mean() -> None:
    deltas = [np.array([1.0, -2.0, 9, 9]), np.array([3.0, 2.0, 9, 9])]
    state = initial_state(np.array([10.0, 10.0]), DELTA)
    release = aggregate(deltas, [10, 30], DELTA)
    after = advance(state, release, plan=DELTA, optimizer=PLAIN, seed=b"job")
    assert after.weights.tolist() == [12.5, 11.0, 0.0, 0.0]


# --- Adam -----------------------------------------------------------------------------------------


def test_adam_takes_the_noise_of_all_answering_sites_off() -> None:
    plan = replace(BARE, local_steps=3, sampling_rate=0.5)
    gradients = np.random.default_rng(0).normal(size=(4, 6))
    state, moments, weights = initial_state(np.zeros(6), plan), adam_start(6), np.zeros(6)
    for gradient in gradients:
        state = take(state, gradient * 0.5 * 40, plan=plan, optimizer=ADAM, units=40, sites=2)
        direction, moments = adam_step(
            moments,
            gradient,
            # Two sites, three steps each, of noise with standard deviation 2 * 0.5.
            noise_variance=2 * 3 * (2.0 * 0.5) ** 2 / (0.5 * 40) ** 2,
            beta1=0.9,
            beta2=0.9,
            stability=0.01,
        )
        weights = weights - 0.1 * direction
    assert np.allclose(state.weights, weights)
    assert np.allclose(state.second_moment, moments.second)


def test_adam_takes_off_the_noise_of_the_rounds_own_norm() -> None:
    state = replace(initial_state(np.zeros(1), ADAPTIVE), weights=np.array([0.0, np.log(4), 0, 0]))
    after = take(state, np.zeros(4), plan=ADAPTIVE, optimizer=ADAM, units=10)
    assert after.second_moment[0] == pytest.approx(-0.1 * (2.0 * 0.5 * 4) ** 2 / 100)


@pytest.mark.parametrize("optimizer", [ADAM, SGLD])
def test_only_descent_follows_deltas(optimizer: ServerOptimizer) -> None:
    with pytest.raises(ValueError, match="a delta is no gradient"):
        take(initial_state(np.zeros(1), DELTA), np.ones(3), plan=DELTA, optimizer=optimizer)


# --- the model that is released -------------------------------------------------------------------


@pytest.mark.parametrize(("average_from", "expected"), [(0.0, -2.5), (0.5, -3.5), (1.0, -4.0)])
def test_the_result_is_the_mean_of_the_later_rounds(average_from: float, expected: float) -> None:
    optimizer = SgdOptimizer(learning_rate=1.0, average_from=average_from)
    after = take(initial_state(np.zeros(1), PLAN), *[np.ones(3)] * 4, optimizer=optimizer)
    assert released_weights(after, PLAN).tolist() == [expected]


@pytest.mark.parametrize("average_from", [0.0, 0.5])
def test_an_exponential_average_forgets_its_start(average_from: float) -> None:
    decay = 0.7
    optimizer = SgdOptimizer(learning_rate=1.0, average_from=average_from, average_decay=decay)
    after = take(initial_state(np.zeros(1), PLAN), *[np.ones(3)] * 4, optimizer=optimizer)
    weights = [-1.0, -2.0, -3.0, -4.0][int(4 * average_from) :]
    # Started at zero, and freed of that start: as Adam does with its moments.
    average = 0.0
    for each in weights:
        average = decay * average + (1 - decay) * each
    average /= 1 - decay ** len(weights)
    assert released_weights(after, PLAN) == pytest.approx([average])


def test_what_is_released_is_a_copy_without_threshold_and_lanes() -> None:
    state = initial_state(np.array([1.0, 2.0]), ADAPTIVE)
    released = released_weights(state, ADAPTIVE)
    assert released.tolist() == [1.0, 2.0]
    released[0] = 9.0
    assert state.weights[0] == 1.0


# --- the threshold --------------------------------------------------------------------------------


def bits(below: float, *, plan: TrainingPlan, weights: FloatVector, units: int) -> FloatVector:
    """The sum that a batch of exactly the expected size adds when a share `below` is below."""
    total = np.zeros(len(weights))
    mean = below * RULE.bit(is_below=True) + (1 - below) * RULE.bit(is_below=False)
    steps = plan.local_steps * plan.sampling_rate * units
    total[len(weights) - plan.extra_coordinates] = (
        steps * mean * RULE.share * clipping_norm_at(weights, plan)
    )
    return total


@pytest.mark.parametrize("below", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("start", [-2.0, 0.0, 2.0])
def test_the_threshold_moves_as_published(below: float, start: float) -> None:
    # Andrew et al. 2021: C <- C exp(-rate (b - quantile)).
    plan = replace(ADAPTIVE, sampling_rate=0.25, local_steps=3)
    state = initial_state(np.zeros(2), plan)
    state.weights[2] = start
    after = take(
        state, bits(below, plan=plan, weights=state.weights, units=80), plan=plan, units=80
    )
    ratio = clipping_norm_at(after.weights, plan) / clipping_norm_at(state.weights, plan)
    assert ratio == pytest.approx(np.exp(-RULE.learning_rate * (below - RULE.quantile)), rel=1e-6)
    assert after.weights[3:].tolist() == [0.0, 0.0]


def test_the_threshold_finds_the_quantile_of_the_norms() -> None:
    norms = np.random.default_rng(3).lognormal(1.0, 0.7, size=1000)
    plan = replace(ADAPTIVE, rounds=200)
    state = initial_state(np.zeros(1), plan)
    for _ in range(200):
        threshold = RULE.gradient_share * clipping_norm_at(state.weights, plan)
        below = float(np.mean(norms <= threshold))
        state = take(
            state, bits(below, plan=plan, weights=state.weights, units=1000), plan=plan, units=1000
        )
    threshold = RULE.gradient_share * clipping_norm_at(state.weights, plan)
    assert abs(np.mean(norms <= threshold) - RULE.quantile) < 0.01


def test_the_threshold_is_what_the_sites_are_sent_to_the_last_bit() -> None:
    after = take(initial_state(np.zeros(1), ADAPTIVE), np.array([0, 0.1, 0, 0]), plan=ADAPTIVE)
    assert after.weights[1] != 0
    assert after.weights[1] == np.float32(after.weights[1])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4))
def test_no_sum_throws_the_threshold_out_of_bounds(sums: list[float]) -> None:
    rule = AdaptiveClipping(kind="adaptive", learning_rate=10.0)
    plan = replace(PLAN, clipping=rule)
    state = initial_state(np.zeros(1), plan)
    for each in sums:
        before = state.weights[1]
        state = take(state, np.array([0, each, 0, 0]), plan=plan)
        assert abs(state.weights[1] - before) <= 10.0 * 0.5 * (1 + 1e-6)
    assert abs(state.weights[1]) <= np.log(LARGEST_ADAPTATION) * (1 + 1e-6)


# --- the state ------------------------------------------------------------------------------------

KINDS: dict[str, tuple[TrainingPlan, ServerOptimizer]] = {
    "sgd": (PLAN, SgdOptimizer(learning_rate=0.3, momentum=0.9, weight_decay=0.1)),
    "adam": (PLAN, AdamOptimizer(kind="adam", learning_rate=0.1)),
    "ema": (PLAN, SgdOptimizer(learning_rate=0.3, average_decay=0.9, average_from=0.25)),
    "adaptive": (ADAPTIVE, AdamOptimizer(kind="adam", learning_rate=0.1)),
    "delta": (DELTA, SgdOptimizer(learning_rate=1.0, momentum=0.5)),
    "sgld": (PLAN, SGLD),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interrupted_after", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_model(
    kind: str, interrupted_after: int, tmp_path: Path
) -> None:
    plan, optimizer = KINDS[kind]
    start = initial_state(np.array([0.3, -0.2, 0.1]), plan)
    totals = list(np.random.default_rng(8).normal(size=(4, len(start.weights))))
    whole = take(start, *totals, plan=plan, optimizer=optimizer, units=50)
    run = run_directory(tmp_path)
    run.save_checkpoint(
        take(start, *totals[:interrupted_after], plan=plan, optimizer=optimizer, units=50)
    )
    resumed = run.checkpoint()
    assert resumed is not None
    resumed = take(resumed, *totals[interrupted_after:], plan=plan, optimizer=optimizer, units=50)
    for field in fields(ServerState):
        expected, found = getattr(whole, field.name), getattr(resumed, field.name)
        assert np.asarray(expected).tobytes() == np.asarray(found).tobytes()
    assert released_weights(resumed, plan).tobytes() == released_weights(whole, plan).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_lanes_stay_at_zero_and_no_state_is_changed_in_place(kind: str) -> None:
    plan, optimizer = KINDS[kind]
    start = initial_state(np.ones(3), plan)
    before = start.weights.tobytes()
    after = take(
        start, *[np.ones(len(start.weights))] * 4, plan=plan, optimizer=optimizer, units=50
    )
    assert not after.weights[-2:].any()
    assert start.weights.tobytes() == before
    assert not start.first_moment.any()


def test_refuses_a_round_too_many_and_sums_that_do_not_fit() -> None:
    fresh = initial_state(np.zeros(1), PLAN)
    with pytest.raises(ValueError, match="rounds are done"):
        take(replace(fresh, rounds_done=4), np.ones(3))
    with pytest.raises(ValueError, match="shape"):
        take(fresh, np.ones(1))
    with pytest.raises(ValueError, match="units"):
        take(fresh, np.ones(3), units=0)


def test_the_noise_variance_scales_as_the_plan_says() -> None:
    one = gradient_noise_variance(PLAN, sites=1, units=100, clipping_norm=0.5)
    assert one == pytest.approx((2.0 * 0.5 / 100) ** 2)
