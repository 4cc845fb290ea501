from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.training.clipping import Units
from sordino_client.training.noise import SecureNoise
from sordino_client.training.steps import train_round
from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.models import LogisticSpec
from sordino_protocols.optimizer import ServerOptimizer
from sordino_protocols.plan import TrainingPlan
from sordino_server.aggregation import (
    advance,
    check_update,
    initial_state,
    largest_plausible_norm,
    released_weights,
    sum_updates,
)

PLAN = TrainingPlan(
    sampling_rate=1.0,
    noise_multiplier=2.0,
    clipping_norm=0.5,
    rounds=4,
    local_steps=1,
    local_learning_rate=0.5,
    lanes=2,
)
PLAIN = ServerOptimizer(learning_rate=1.0, momentum=0.0, average_from=1.0)


def test_the_sum_does_not_depend_on_who_answered_first() -> None:
    rng = np.random.default_rng(0)
    updates = [rng.standard_normal(50) * 10.0**k for k in range(-8, 9, 4)]
    expected = sum_updates(updates)
    assert np.allclose(expected, np.sum(updates, axis=0))
    for _ in range(10):
        order = rng.permutation(len(updates))
        assert np.array_equal(sum_updates([updates[k] for k in order]), expected)


def test_refuses_to_sum_nothing_or_different_lengths() -> None:
    with pytest.raises(ValueError, match="quorum"):
        sum_updates([])
    with pytest.raises(ValueError, match="lengths"):
        sum_updates([np.zeros(2), np.zeros(3)])


def test_plain_descent_divides_by_the_public_constant() -> None:
    state = initial_state(np.array([1.0, 2.0]), lanes=2)
    after = advance(
        state, np.array([10.0, -20.0, 5.0, 5.0]), plan=PLAN, expected_units=10.0, optimizer=PLAIN
    )
    assert np.array_equal(after.weights, [0.0, 4.0, 0.0, 0.0])
    assert after.rounds_done == 1


def test_momentum_keeps_its_share_of_the_last_step() -> None:
    optimizer = replace(PLAIN, momentum=0.5)
    state = initial_state(np.zeros(1), lanes=0)
    plan = replace(PLAN, lanes=0)
    for _ in range(3):
        state = advance(state, np.ones(1), plan=plan, expected_units=1.0, optimizer=optimizer)
    assert state.weights[0] == -(1 + 1.5 + 1.75)


@pytest.mark.parametrize(("average_from", "expected"), [(0.0, -2.5), (0.5, -3.5), (1.0, -4.0)])
def test_the_result_is_the_mean_of_the_later_rounds(average_from: float, expected: float) -> None:
    optimizer = replace(PLAIN, average_from=average_from)
    state = initial_state(np.zeros(1), lanes=2)
    for _ in range(4):
        state = advance(state, np.ones(3), plan=PLAN, expected_units=1.0, optimizer=optimizer)
    assert released_weights(state, lanes=2).tolist() == [expected]


def test_refuses_a_round_too_many_and_sums_that_do_not_fit() -> None:
    state = replace(initial_state(np.zeros(1), lanes=2), rounds_done=4)
    with pytest.raises(ValueError, match="rounds are done"):
        advance(state, np.ones(3), plan=PLAN, expected_units=1.0, optimizer=PLAIN)
    fresh = initial_state(np.zeros(1), lanes=2)
    with pytest.raises(ValueError, match="shape"):
        advance(fresh, np.ones(1), plan=PLAN, expected_units=1.0, optimizer=PLAIN)
    with pytest.raises(ValueError, match="expected_units"):
        advance(fresh, np.ones(3), plan=PLAN, expected_units=0.0, optimizer=PLAIN)


@settings(max_examples=40, deadline=None)
@given(
    records=st.integers(0, 300),
    noise_multiplier=st.floats(0.05, 50),
    sampling_rate=st.sampled_from([0.1, 1.0]),
    local_steps=st.integers(1, 4),
)
def test_an_honest_update_passes(
    records: int, noise_multiplier: float, sampling_rate: float, local_steps: int
) -> None:
    plan = replace(
        PLAN,
        noise_multiplier=noise_multiplier,
        sampling_rate=sampling_rate,
        local_steps=local_steps,
    )
    # The worst case: every record has the same large gradient, and every lane a canary.
    units = Units(np.ones((records, 3), np.float32), np.ones(records, np.float32), np.arange(2))
    expected = sampling_rate * 100
    update = train_round(
        units,
        np.zeros(6),
        LogisticSpec(kind="logistic"),
        plan,
        expected_batch_size=expected,
        noise=SecureNoise(),
    ).vector
    check_update(update, plan, dimension=6, expected_batch_size=expected)


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (np.zeros(5), "expected float64"),
        (np.zeros(6, np.float32), "expected float64"),
        (np.array([0.0, np.nan, 0, 0, 0, 0]), "not finite"),
        (np.array([0.0, np.inf, 0, 0, 0, 0]), "not finite"),
        (np.full(6, 1e6), "norm"),
        # Squares of it are not finite.
        (np.full(6, 1e200), "norm"),
    ],
)
def test_refuses_an_update_that_no_honest_site_sends(
    update: np.typing.NDArray[np.float64], says: str
) -> None:
    with pytest.raises(PeerError, match=says):
        check_update(update, PLAN, dimension=6, expected_batch_size=100.0)


def test_the_bound_stays_near_what_an_honest_site_can_send() -> None:
    # All of the largest plausible batch in one direction, and noise on top: no slack beyond that.
    bound = largest_plausible_norm(PLAN, 6, expected_batch_size=100.0)
    assert 0.5 * 316 < bound < 0.5 * 316 * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"average_from": 1.1},
    ],
)
def test_an_optimizer_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        replace(PLAIN, **wrong)
