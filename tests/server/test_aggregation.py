"""What the server believes of one update, and what it makes of a cohort's."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_rounds
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.training.noise import SecureNoise
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.adam import adam_start, adam_step
from sordino_protocols.clipping import (
    FLAT,
    AdaptiveClipping,
    ClippingRule,
    NormalizedClipping,
    PerLayerClipping,
)
from sordino_protocols.errors import PeerError
from sordino_protocols.local_training import LOCAL_SGD, LocalAdam, LocalOptimizer, LocalSgd
from sordino_protocols.models import FloatVector, LogisticSpec
from sordino_protocols.plan import TrainingPlan
from sordino_server.aggregation import (
    aggregate,
    check_update,
    clipping_norm_at,
    gradient_noise_variance,
    largest_plausible_delta,
    largest_plausible_norm,
    mean_gradient,
    sum_updates,
)

PLAN = replace(tiny_rounds.PLAN, rounds=4, lanes=1, lane_groups=2)
DELTA = replace(PLAN, update="delta")
ADAPTIVE = AdaptiveClipping(kind="adaptive")
RULES: tuple[ClippingRule, ...] = (
    FLAT,
    PerLayerClipping(kind="per_layer"),
    NormalizedClipping(kind="normalized"),
    ADAPTIVE,
)
LOCAL: tuple[LocalOptimizer, ...] = (
    LOCAL_SGD,
    LocalSgd(momentum=0.9),
    LocalAdam(kind="adam"),
    LocalAdam(kind="adam", beta1=0.0, beta2=0.0, stability=1.0),
)


# --- sums -----------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="2 updates of 1 sites"):
        aggregate([np.zeros(2), np.zeros(2)], [10], PLAN)


def test_a_cohorts_sums_add_up_and_divide_by_a_public_constant() -> None:
    plan = replace(PLAN, sampling_rate=0.5)
    release = aggregate([np.array([1.0, 5, 5]), np.array([3.0, 5, 5])], [10, 30], plan)
    assert (release.units, release.sites) == (40, 2)
    assert release.total.tolist() == [4.0, 10.0, 10.0]
    assert mean_gradient(release, plan).tolist() == [4.0 / (0.5 * 40)]


def test_deltas_count_by_their_sites_public_size_and_the_rest_adds_up() -> None:
    updates = [np.array([1.0, 5, 6]), np.array([3.0, 5, 6])]
    release = aggregate(updates, [10, 30], DELTA)
    assert release.total[-2:].tolist() == [10.0, 12.0]
    # A delta points where a gradient does not.
    assert mean_gradient(release, DELTA).tolist() == [-(1 * 10 + 3 * 30) / 40]
    assert updates[0].tolist() == [1.0, 5, 6]


def test_the_noises_variance_is_what_two_sites_noise_has() -> None:
    rng = np.random.default_rng(1)
    plan = replace(PLAN, sampling_rate=0.25, local_steps=3, lanes=0)
    std = plan.noise_multiplier * 0.3 * np.sqrt(3)
    release = aggregate(list(rng.normal(0, std, size=(2, 100_000))), [40, 60], plan)
    expected = gradient_noise_variance(plan, sites=2, units=100, clipping_norm=0.3)
    # A relative standard error of sqrt(2 / 100,000) = 0.0045, six of them.
    assert mean_gradient(release, plan).var() == pytest.approx(expected, rel=0.027)


# --- the norm of a round --------------------------------------------------------------------------


def test_the_norm_is_the_plans_unless_it_adapts() -> None:
    weights = np.array([1.0, np.log(3), 0, 0])
    assert clipping_norm_at(weights, PLAN) == 0.5
    adaptive = replace(PLAN, clipping=ADAPTIVE)
    assert clipping_norm_at(weights, adaptive) == pytest.approx(1.5)
    assert clipping_norm_at(weights.astype(np.float32), adaptive) == pytest.approx(1.5)


# --- what is believed -----------------------------------------------------------------------------


def check(vector: FloatVector, plan: TrainingPlan = PLAN, *, expected: float = 100.0) -> None:
    check_update(
        vector, plan, dimension=6, expected_batch_size=expected, clipping_norm=plan.clipping_norm
    )


honest_plans = st.builds(
    replace,
    st.just(PLAN),
    noise_multiplier=st.floats(0.05, 50),
    sampling_rate=st.sampled_from([0.1, 1.0]),
    local_steps=st.integers(1, 4),
    clipping=st.sampled_from(RULES),
    update=st.sampled_from(["sum", "delta"]),
    local_optimizer=st.sampled_from(LOCAL),
)


@settings(max_examples=60, deadline=None)
@given(plan=honest_plans, records=st.integers(0, 300), threshold=st.sampled_from([-3.0, 0.0, 3.0]))
def test_an_honest_update_passes(plan: TrainingPlan, records: int, threshold: float) -> None:
    # The worst case: every record has the same large gradient, and every lane a canary.
    units = Units(np.ones((records, 3), np.float32), np.ones(records, np.float32), np.arange(1))
    weights = np.zeros(4 + plan.extra_coordinates)
    weights[4 : 4 + plan.thresholds] = threshold
    expected = plan.sampling_rate * 100
    vector = train_round(
        units,
        weights,
        LogisticSpec(kind="logistic"),
        plan,
        expected_batch_size=expected,
        noise=SecureNoise(),
    ).vector
    check_update(
        vector,
        plan,
        dimension=len(weights),
        expected_batch_size=expected,
        clipping_norm=clipping_norm_at(weights, plan),
    )


def worst_delta(
    plan: TrainingPlan, rng: np.random.Generator, *, batch: float, dimension: int
) -> FloatVector:
    """A delta of gradients that all point one way, by the words of `local_training`."""
    weights, velocity, moments = np.zeros(dimension), np.zeros(dimension), adam_start(dimension)
    for _ in range(plan.local_steps):
        clipped = np.zeros(dimension)
        clipped[0] = batch * plan.clipping_norm
        gradient = (clipped + rng.normal(0, plan.noise_std, dimension)) / 100.0
        match plan.local_optimizer:
            case LocalSgd(momentum=momentum):
                velocity = momentum * velocity + gradient
                direction = velocity
            case LocalAdam(beta1=beta1, beta2=beta2, stability=stability):
                direction, moments = adam_step(
                    moments,
                    gradient,
                    noise_variance=(plan.noise_std / 100.0) ** 2,
                    beta1=beta1,
                    beta2=beta2,
                    stability=stability,
                )
        weights = weights - plan.local_learning_rate * direction
    return weights


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    local_steps=st.integers(1, 20),
    noise_multiplier=st.floats(0.05, 50),
    dimension=st.sampled_from([1, 10, 3000]),
    local_optimizer=st.sampled_from(LOCAL),
)
def test_the_longest_honest_delta_passes(
    seed: int,
    local_steps: int,
    noise_multiplier: float,
    dimension: int,
    local_optimizer: LocalOptimizer,
) -> None:
    plan = replace(
        DELTA,
        local_steps=local_steps,
        noise_multiplier=noise_multiplier,
        local_optimizer=local_optimizer,
    )
    # As many as half an order of magnitude more than declared, in every batch.
    delta = worst_delta(plan, np.random.default_rng(seed), batch=316.0, dimension=dimension)
    bound = largest_plausible_delta(
        plan, dimension, expected_batch_size=100.0, clipping_norm=plan.clipping_norm
    )
    assert np.linalg.norm(delta) <= bound
    if isinstance(local_optimizer, LocalSgd) and noise_multiplier * dimension**0.5 < 20:
        # And the bound is not far above.
        assert bound < 3 * np.linalg.norm(delta)


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
@pytest.mark.parametrize("plan", [PLAN, DELTA], ids=["sum", "delta"])
def test_refuses_an_update_that_no_honest_site_sends(
    update: np.typing.NDArray[np.float64], says: str, plan: TrainingPlan
) -> None:
    with pytest.raises(PeerError, match=says):
        check(update, plan)


def test_each_part_of_a_delta_has_its_own_bound() -> None:
    # What a sum may well be is far too long for a model's change of 100 units a step.
    long = np.zeros(6)
    long[0] = 100.0
    check(long)
    with pytest.raises(PeerError, match="the change of the model has norm 100;"):
        check(long, DELTA)
    lanes = np.zeros(6)
    lanes[-1] = 1e4
    with pytest.raises(PeerError, match="update has norm 10000;"):
        check(lanes, DELTA)


def test_the_bound_stays_near_what_an_honest_site_can_send() -> None:
    # All of the largest plausible batch in one direction, and noise on top: no slack beyond that.
    bound = largest_plausible_norm(PLAN, 6, expected_batch_size=100.0, clipping_norm=0.5)
    assert 0.5 * 316 < bound < 0.5 * 316 * 2


def test_the_bound_follows_the_norm_of_the_round() -> None:
    bounds = [
        largest_plausible_norm(PLAN, 6, expected_batch_size=100.0, clipping_norm=norm)
        for norm in (0.5, 5.0)
    ]
    assert bounds[1] == pytest.approx(10 * bounds[0])
