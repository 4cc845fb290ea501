"""Tests of held-out noise and of canaries' weight: valid p-values, and what each finds."""

from collections.abc import Callable

import numpy as np
import pytest
from lane_simulation import Faults, simulate, training_plan
from numpy.typing import NDArray
from statistical import assert_rate

from sordino_audit.canary_signal import signal_p_values
from sordino_audit.conformance import (
    cross_layer_p_value,
    cross_site_p_value,
    freshness_p_value,
    quietest_round_p_value,
    repeated_rounds_p_value,
    scale_p_values,
    smallest,
)
from sordino_protocols.plan import TrainingPlan

Noise = list[NDArray[np.float64]]


def _noise(rng: np.random.Generator, *, groups: int = 3) -> Noise:
    """Of two sites: 12 rounds, some lanes held out at each."""
    return [rng.normal(size=(12, groups, lanes)) for lanes in (20, 15)]


def _scale(noise: Noise) -> float:
    return scale_p_values(np.concatenate(noise, axis=2))[0]


def _cross_site(noise: Noise) -> float:
    held_out = np.ones(15, dtype=np.bool_)
    return cross_site_p_value([each[:, :, :15] for each in noise], [held_out, held_out])


@pytest.mark.parametrize(
    "p_value",
    [
        _scale,
        _cross_site,
        freshness_p_value,
        quietest_round_p_value,
        repeated_rounds_p_value,
        cross_layer_p_value,
    ],
)
def test_p_values_of_honest_noise_are_valid_and_hardly_wasteful(
    p_value: Callable[[Noise], float],
) -> None:
    rng, trials = np.random.default_rng(2), 1_000
    found = [p_value(_noise(rng)) for _ in range(trials)]
    for level in (0.01, 0.1):
        assert_rate(sum(p <= level for p in found), trials, level, at_most=True)
    assert_rate(sum(p <= 0.1 for p in found), trials, 0.05, at_least=True)


def test_two_rounds_that_share_noise_at_one_site_are_found() -> None:
    noise = _noise(np.random.default_rng(3), groups=1)
    assert repeated_rounds_p_value(noise) > 0.01
    noise[0][7] = noise[0][2]
    assert repeated_rounds_p_value(noise) < 1e-9


def test_rounds_are_compared_within_blocks_and_first_lanes() -> None:
    """As many rounds as 2,048 are compared with each other; a repeat further on goes unseen."""
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(4_096, 1, 40))
    noise[2_100] = noise[2_050]
    assert repeated_rounds_p_value([noise]) < 1e-6
    noise[2_100] = noise[50]
    assert repeated_rounds_p_value([noise]) > 1e-3


def test_two_layers_that_share_noise_are_found() -> None:
    noise = _noise(np.random.default_rng(5))
    for each in noise:
        each[:, 2] = 0.5 * each[:, 2] + 0.5 * each[:, 0]
    assert cross_layer_p_value(noise) < 1e-6


def test_one_layer_that_two_sites_share_is_found() -> None:
    noise = _noise(np.random.default_rng(6))
    noise[1][:, 1] = noise[0][:, 1, :15]
    assert _cross_site(noise) < 1e-6


def test_a_quiet_round_is_found_at_one_site() -> None:
    noise = _noise(np.random.default_rng(7))
    noise[0][3] *= 0.3
    assert quietest_round_p_value(noise) < 1e-6
    assert quietest_round_p_value(noise) < _scale(noise) / 10


def test_no_lanes_show_nothing() -> None:
    nothing = [np.zeros((4, 2, 0))]
    for p_value in (freshness_p_value, quietest_round_p_value, repeated_rounds_p_value):
        assert p_value(nothing) == 1.0
    assert cross_layer_p_value(nothing) == 1.0
    assert smallest([]) == 1.0


@pytest.mark.parametrize(
    "plan",
    [
        training_plan(sampling_rate=0.1, noise_multiplier=0.8, local_steps=3, groups=2),
        training_plan(noise_multiplier=4.0, groups=3),
    ],
)
def test_signal_is_judged_as_often_wrongly_as_stated(plan: TrainingPlan) -> None:
    rng, trials = np.random.default_rng(8), 600
    found = np.array([signal_p_values(simulate(plan, rng), plan) for _ in range(trials)])
    for side in found.T:
        for level in (0.01, 0.1):
            assert_rate(int(np.sum(side <= level)), trials, level, at_most=True)
        assert_rate(int(np.sum(side <= 0.1)), trials, 0.05, at_least=True)


def test_signal_is_found_on_the_right_side() -> None:
    plan = training_plan(noise_multiplier=4.0, groups=3)
    rng = np.random.default_rng(9)
    heavy = simulate(plan, rng, faults=Faults(canary_weight=(1, 1, 1.5)))
    too_much, too_little = signal_p_values(heavy, plan)
    assert too_much < 1e-4
    assert too_little > 0.1
    light = simulate(plan, rng, faults=Faults(canary_weight=(1, 1, 0.5)))
    too_much, too_little = signal_p_values(light, plan)
    assert too_little < 1e-3
    assert too_much > 0.1


def test_the_margin_for_rounding_is_not_missed() -> None:
    """Clipping leaves some 2^-14 of the norm to rounding: no lack of signal, however long."""
    plan = training_plan(noise_multiplier=0.05, rounds=60, lanes=300)
    observations = simulate(
        plan, np.random.default_rng(10), faults=Faults(canary_weight=1 - 2**-13)
    )
    assert min(signal_p_values(observations, plan)) > 1e-3
