from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_rate, assert_scale
from tiny_rounds import LOGISTIC, MLP, PLAN, FloatArray, make_units, releases, run, without_record

from sordino_client.training import rules
from sordino_client.training.arithmetic import DOUBLE
from sordino_client.training.clipping import Units, network_for
from sordino_client.training.noise import SecureNoise, noisy_on_grid
from sordino_client.training.steps import (
    contribution_bound,
    grid_step,
    train_round,
)
from sordino_protocols.models import ModelSpec, parameter_count

Release = Callable[[FloatArray, FloatArray], FloatArray]


# --- sensitivity ------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    records=st.integers(1, 30),
    scale=st.floats(0, 1e4),
    noise_multiplier=st.floats(0.01, 100),
    spec=st.sampled_from([LOGISTIC, MLP]),
    seed=st.integers(0, 2**16),
)
def test_neighbours_differ_by_at_most_the_clipping_norm(
    records: int, scale: float, noise_multiplier: float, spec: ModelSpec, seed: int
) -> None:
    plan = replace(PLAN, noise_multiplier=noise_multiplier)
    units = make_units(records, lanes=(1,))
    whole = run(units, plan, spec, noise=SeededNoise(seed), scale=scale).vector
    neighbour = without_record(units, seed % records)
    less = run(neighbour, plan, spec, noise=SeededNoise(seed), scale=scale).vector
    # The noise is the same, so the difference is that of the rounded sums, and of one more
    # rounding, which is post-processing and not part of the sensitivity.
    slack = grid_step(plan, parameter_count(spec, 6)) * np.sqrt(len(whole))
    assert np.linalg.norm(whole - less) <= plan.clipping_norm + slack


@settings(max_examples=50, deadline=None)
@given(records=st.integers(1, 30), scale=st.floats(0, 1e4), noise_multiplier=st.floats(0.01, 100))
def test_rounded_sums_of_neighbours_differ_by_at_most_the_clipping_norm(
    records: int, scale: float, noise_multiplier: float
) -> None:
    plan = replace(PLAN, noise_multiplier=noise_multiplier)
    units = make_units(records)
    whole = run(units, plan, MLP, noise=NoNoise(), scale=scale).vector
    less = run(without_record(units, 0), plan, MLP, noise=NoNoise(), scale=scale).vector
    assert np.linalg.norm(whole - less) <= plan.clipping_norm


def test_a_worst_case_unit_moves_the_sum_by_the_clipping_norm_less_the_margin() -> None:
    with_canary = run(make_units(20, lanes=(2,)), noise=SeededNoise(1)).vector
    without = run(make_units(20), noise=SeededNoise(1)).vector
    difference = np.linalg.norm(with_canary - without)
    assert PLAN.clipping_norm * (1 - 2**-13) <= difference <= PLAN.clipping_norm


def test_a_broken_clip_is_caught_by_the_same_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "clip_scales", lambda squares, _bound: torch.ones_like(squares))
    units = make_units(20)
    whole = run(units, noise=NoNoise()).vector
    less = run(without_record(units, 0), noise=NoNoise()).vector
    assert np.linalg.norm(whole - less) > PLAN.clipping_norm


@settings(max_examples=200, deadline=None)
@given(
    dimension=st.integers(1, 10**7),
    noise_multiplier=st.floats(1e-3, 1e3),
    clipping_norm=st.floats(1e-4, 1e4),
)
def test_the_margin_covers_the_rounding(
    dimension: int, noise_multiplier: float, clipping_norm: float
) -> None:
    plan = replace(PLAN, noise_multiplier=noise_multiplier, clipping_norm=clipping_norm)
    step, bound = grid_step(plan, dimension), contribution_bound(plan, dimension)
    assert np.log2(step) == np.round(np.log2(step))
    assert step <= plan.noise_std * 2.0**-16
    assert bound + step * np.sqrt(dimension) <= clipping_norm
    assert bound / step == np.round(bound / step)
    # What the margin costs: with little noise and few coordinates the grid is fine as well.
    assert bound >= clipping_norm * (1 - 2.0**-12)


# --- noise ------------------------------------------------------------------------------------


@pytest.mark.parametrize("local_steps", [1, 4])
def test_noise_has_the_scale_of_the_plan(local_steps: int) -> None:
    plan = replace(PLAN, local_steps=local_steps, local_learning_rate=1e-9, lanes=2000)
    exact = run(make_units(30), plan, noise=NoNoise()).vector
    noisy = releases(make_units(30), plan, 10) - exact
    assert_scale(noisy, plan.noise_std * np.sqrt(local_steps))


def test_an_empty_batch_releases_pure_noise() -> None:
    plan = replace(PLAN, lanes=2000)
    assert_scale(releases(make_units(0), plan, 10), plan.noise_std)


def test_one_more_record_does_not_change_the_scale_of_anything() -> None:
    plan = replace(PLAN, lanes=2000)
    for records in (99, 100):
        noisy = releases(make_units(records), plan, 5)[:, 7:]
        assert_scale(noisy, plan.noise_std)
    fewer, more = make_units(100), make_units(101)
    more.features[:100], more.labels[:100] = fewer.features, fewer.labels
    without = run(fewer, noise=NoNoise()).vector
    difference = run(more, noise=NoNoise()).vector - without
    # A scale that depends on the number of records would shrink the other hundred as well.
    assert np.linalg.norm(difference) <= PLAN.clipping_norm
    assert np.linalg.norm(without) > 3 * PLAN.clipping_norm


def test_two_rounds_never_share_noise() -> None:
    first, second = releases(make_units(5), replace(PLAN, lanes=2000), 2)[:, 7:]
    same = int(np.isclose(first, second, rtol=0, atol=1e-6).sum())
    # Two Gaussian draws this close: probability 1e-6 / (std * sqrt(pi)).
    assert_rate(same, first.size, 2e-6, at_most=True)
    assert abs(np.corrcoef(first, second)[0, 1]) < 6.2 / np.sqrt(first.size)


def test_noise_of_a_repeating_source_is_recognised_as_shared() -> None:
    first, second = (run(make_units(5), noise=SeededNoise(3)).vector for _ in range(2))
    assert np.array_equal(first, second)


def test_a_release_says_whether_its_noise_was_secure() -> None:
    assert run(make_units(3), noise=SecureNoise()).is_private
    assert not run(make_units(3), noise=SeededNoise(0)).is_private


# --- what leaves is on the grid ---------------------------------------------------------------


@dataclass(frozen=True)
class Repeating:
    """The same noise, whatever is asked."""

    noise: FloatArray

    @property
    def is_secure(self) -> bool:
        return False

    def standard_normal(self, count: int) -> FloatArray:
        return self.noise[:count].copy()

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        del noise_std
        return np.zeros(count, dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        return np.full(count, probability == 1)


def naive_release(exact: FloatArray, noise: FloatArray) -> FloatArray:
    """As shipped elsewhere: float32 sum plus float32 noise."""
    return (exact.astype(np.float32) + noise.astype(np.float32)).astype(np.float64)


def our_release(exact: FloatArray, noise: FloatArray) -> FloatArray:
    """What a step does with its exact sum."""
    step = grid_step(PLAN, 7)
    return noisy_on_grid(exact, noise=Repeating(noise), noise_std=1.0, step=step)


def share_that_proves(release: Release, *, true_sum: float, other_sum: float) -> float:
    """How many outputs from `true_sum` no noise at all could have made from `other_sum`."""
    count = 5000
    noise = PLAN.noise_std * SecureNoise().standard_normal(count)
    outputs = release(np.full(count, true_sum), noise)
    other = np.full(count, other_sum)
    reachable = np.zeros(count, dtype=np.bool_)
    for ulps in range(-4, 5):
        needed = (outputs - other) + ulps * np.spacing(np.float32(1.0)) / 4
        reachable |= release(other, needed) == outputs
    return float(1 - reachable.mean())


def test_float32_noise_proves_which_sum_it_was_and_ours_never_does() -> None:
    bound = contribution_bound(PLAN, 7)
    assert share_that_proves(naive_release, true_sum=0.0, other_sum=bound) > 0.1
    assert share_that_proves(our_release, true_sum=0.0, other_sum=bound) == 0
    assert share_that_proves(our_release, true_sum=1 / 3, other_sum=1 / 3 + bound) == 0


class LessThanHalfAStep:
    """The same tiny noise everywhere: shows whether the sum was on the grid before it came."""

    is_secure = False

    def standard_normal(self, count: int) -> FloatArray:
        return np.full(count, 0.4 * grid_step(PLAN, 7) / PLAN.noise_std)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        del noise_std
        return np.zeros(count, dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        return np.full(count, probability == 1)


def test_the_sum_is_on_the_grid_before_it_meets_the_noise() -> None:
    units = make_units(30)
    rounded = run(units, noise=NoNoise()).vector
    assert np.array_equal(run(units, noise=LessThanHalfAStep()).vector, rounded)


@pytest.mark.parametrize("units", [make_units(0), make_units(1), make_units(30, lanes=(0, 1))])
def test_a_release_lies_on_the_grid_and_fills_it(units: Units) -> None:
    step = grid_step(PLAN, 7)
    cells = releases(units, PLAN, 100) / step
    assert np.array_equal(cells, np.rint(cells))
    assert len(np.unique(cells % 16)) == 16


# --- steps ------------------------------------------------------------------------------------


def test_chunks_do_not_change_one_bit_of_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(PLAN, local_steps=3, sampling_rate=0.7)
    units = make_units(600, lanes=(0, 3))
    whole = run(units, plan, MLP, noise=SeededNoise(5), scale=1.0).vector
    monkeypatch.setattr(network_for(MLP, 6), "arithmetic", replace(DOUBLE, chunk_rows=256))
    chunked = run(units, plan, MLP, noise=SeededNoise(5), scale=1.0).vector
    assert np.array_equal(whole, chunked)


def test_local_steps_follow_the_noisy_sums_by_a_public_constant() -> None:
    # Unclipped: a clipped logistic gradient hardly depends on the weights.
    one = replace(PLAN, clipping_norm=5.0)
    units = make_units(40)
    noise = SeededNoise(7)
    weights = np.zeros(7 + PLAN.lanes)
    by_hand = np.zeros_like(weights)
    for _ in range(3):
        taken = train_round(units, weights, LOGISTIC, one, expected_batch_size=20.0, noise=noise)
        by_hand += taken.vector
        weights = weights - PLAN.local_learning_rate * (taken.vector / 20.0)
    three = run(units, replace(one, local_steps=3), noise=SeededNoise(7)).vector
    assert np.array_equal(three, by_hand)


def test_does_not_change_the_weights_it_was_given() -> None:
    weights = np.ones(7 + PLAN.lanes)
    train_round(
        make_units(5),
        weights,
        LOGISTIC,
        replace(PLAN, local_steps=2),
        expected_batch_size=3.0,
        noise=SecureNoise(),
    )
    assert (weights == 1).all()


def test_a_bad_record_changes_nothing_but_its_own_absence() -> None:
    clean = make_units(10)
    bad = Units(clean.features.copy(), clean.labels.copy(), clean.canary_lanes)
    bad.features[4] = np.nan
    poisoned = run(bad, noise=SeededNoise(2)).vector
    assert np.array_equal(poisoned, run(without_record(clean, 4), noise=SeededNoise(2)).vector)


def test_a_sampled_canary_reads_its_bound_and_one_that_was_not_reads_nothing() -> None:
    coins = np.array([True, False, True, True, False])
    released = run(make_units(3, lanes=(0, 2)), noise=NoNoise(coins)).vector
    bound = contribution_bound(PLAN, 7)
    assert np.array_equal(released[-4:], [bound, 0, 0, 0])


def test_canaries_are_sampled_at_the_rate_of_the_records() -> None:
    plan = replace(PLAN, sampling_rate=0.25, lanes=2000, noise_multiplier=1e-3)
    lanes = tuple(range(2000))
    readings = run(make_units(3, lanes=lanes), plan, noise=SecureNoise()).vector[-2000:]
    assert_rate(int((readings > plan.clipping_norm / 2).sum()), 2000, 0.25)


def test_leaves_torchs_settings_as_they_were() -> None:
    before = torch.get_num_threads()
    run(make_units(3), noise=SecureNoise())
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_a_batch_size_that_is_no_constant(size: float) -> None:
    with pytest.raises(ValueError, match="expected_batch_size"):
        train_round(
            make_units(3),
            np.zeros(7 + PLAN.lanes),
            LOGISTIC,
            PLAN,
            expected_batch_size=size,
            noise=SecureNoise(),
        )


def test_refuses_weights_that_do_not_fit_the_lanes() -> None:
    with pytest.raises(ValueError, match="lanes"):
        train_round(
            make_units(3),
            np.zeros(7 + PLAN.lanes + 1),
            LOGISTIC,
            PLAN,
            expected_batch_size=3.0,
            noise=SecureNoise(),
        )


@pytest.mark.parametrize("dimension", [1, 10**9])
def test_the_smallest_norm_that_a_job_may_ask_for_has_a_grid(dimension: int) -> None:
    # An adaptive norm may fall further, by 1e4.
    assert 0 < grid_step(replace(PLAN, clipping_norm=1e-9 * 1e-4), dimension) < 1e-13
