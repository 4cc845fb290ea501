"""One round under every kind of plan: units, views, clipping rules, local steps, updates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_rate, assert_scale
from tiny_rounds import LOGISTIC, MLP, PLAN, FloatArray, make_units, releases, run

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import Performance, PrecisionName
from sordino_client.training.clipping import Units
from sordino_client.training.local_optimizers import LocalDescent
from sordino_client.training.noise import Noise, SecureNoise
from sordino_client.training.steps import (
    at_threshold,
    contribution_bound,
    grid_step,
    train_round,
)
from sordino_protocols.clipping import (
    FLAT,
    AdaptiveClipping,
    ClippingRule,
    NormalizedClipping,
    PerLayerClipping,
)
from sordino_protocols.local_training import (
    Augmentation,
    LocalAdam,
    LocalOptimizer,
    LocalSgd,
)
from sordino_protocols.models import parameter_count
from sordino_protocols.plan import TrainingPlan, UpdateKind


def make_entities(sizes: tuple[int, ...], lanes: tuple[int, ...] = ()) -> Units:
    alone = make_units(sum(sizes), lanes=lanes)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    whose = Entities(np.arange(sum(sizes)), starts)
    return Units(alone.features, alone.labels, alone.canary_lanes, whose)


PRECISIONS: tuple[PrecisionName, ...] = ("single", "double")

# --- every kind of plan -----------------------------------------------------------------------

ADAPTIVE = AdaptiveClipping(kind="adaptive", share=0.2)
IMAGES = Augmentation(image=(1, 2, 3), views=3, shift=1, flip=True)
PLANS: dict[str, TrainingPlan] = {
    "per layer": replace(PLAN, clipping=PerLayerClipping(kind="per_layer")),
    "normalized": replace(PLAN, clipping=NormalizedClipping(kind="normalized")),
    "adaptive": replace(PLAN, clipping=ADAPTIVE),
    "entities": replace(PLAN, unit="entity", records_per_unit=3),
    "views": replace(PLAN, augmentation=IMAGES),
    "squared": replace(PLAN, loss="squared"),
    "sampled": replace(PLAN, sampling_rate=0.3),
}


def units_for(plan: TrainingPlan, records: int) -> Units:
    return make_entities((1,) * records) if plan.unit == "entity" else make_units(records)


@pytest.mark.parametrize("name", PLANS)
def test_an_empty_data_set_releases_pure_noise_under_every_plan(name: str) -> None:
    plan = replace(PLANS[name], lanes=2000)
    noisy = releases(units_for(plan, 0), plan, 10)
    assert_scale(noisy, plan.noise_std)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("records", [1, 20, 21])
def test_noise_has_the_scale_of_every_plan_whatever_is_summed(name: str, records: int) -> None:
    plan = replace(PLANS[name], lanes=2000)
    noisy = releases(units_for(plan, records), plan, 10)
    assert_scale(noisy[:, -plan.lanes :], plan.noise_std)


@pytest.mark.parametrize("name", PLANS)
def test_one_record_alone_contributes_no_more_than_the_bound(name: str) -> None:
    plan = replace(PLANS[name], sampling_rate=1.0)
    units = units_for(plan, 1)
    released = run(units, plan, MLP, noise=NoNoise()).vector
    dimension = len(released) - plan.extra_coordinates
    bound = contribution_bound(plan, dimension)
    # A squared error of nothing at all is zero.
    assert plan.loss == "squared" or released.any()
    assert np.linalg.norm(released) <= plan.clipping_norm
    reach = dimension + plan.thresholds
    assert np.linalg.norm(released) <= bound + grid_step(plan, dimension) * reach**0.5


def test_a_plan_and_data_of_different_units_are_refused() -> None:
    with pytest.raises(ValueError, match="unit is 'entity'"):
        run(make_units(3), PLANS["entities"], noise=SecureNoise())
    with pytest.raises(ValueError, match="unit is 'record'"):
        run(make_entities((2, 1)), noise=SecureNoise())


def test_rows_of_an_entity_are_drawn_anew_in_every_step() -> None:
    plan = replace(
        PLANS["entities"], records_per_unit=1, clipping_norm=100.0, noise_multiplier=1e-6
    )
    units = make_entities((6,))
    draws = [run(units, plan, noise=SecureNoise()).vector[:7] for _ in range(30)]
    # Thirty draws of one row in six: all the same with probability 6^-29.
    assert len({tuple(np.round(each, 2)) for each in draws}) > 1


# --- the threshold ----------------------------------------------------------------------------


@pytest.mark.parametrize("logarithm", [-2.0, 0.0, 1.5, 1e9, -np.inf, np.nan])
def test_noise_and_canaries_follow_the_threshold(logarithm: float) -> None:
    plan = replace(PLAN, clipping=ADAPTIVE, lanes=2000)
    weights = np.zeros(7 + 1 + plan.lanes)
    weights[7] = logarithm
    current = at_threshold(plan, weights[7:8])
    expected = 0.0 if np.isnan(logarithm) else np.clip(logarithm, -np.log(1e4), np.log(1e4))
    assert current.clipping_norm == pytest.approx(plan.clipping_norm * np.exp(expected))
    assert current.event == plan.event
    units = make_units(0, lanes=(1,))
    sources: list[Noise] = [NoNoise(), *[SecureNoise()] * 5]
    exact, *noisy = (
        train_round(units, weights, LOGISTIC, plan, expected_batch_size=20.0, noise=noise).vector
        for noise in sources
    )
    assert exact[8 + 1] == contribution_bound(current, 7)
    assert np.count_nonzero(exact) == 1
    assert_scale((np.stack(noisy) - exact) / current.noise_std, 1.0)


@pytest.mark.parametrize(("quantile", "start"), [(0.2, 3.0), (0.5, -3.0), (0.9, 3.0)])
def test_the_threshold_goes_to_the_quantile(quantile: float, start: float) -> None:
    rule = AdaptiveClipping(kind="adaptive", quantile=quantile, share=0.2)
    plan = replace(PLAN, clipping=rule, clipping_norm=0.3, lanes=0, noise_multiplier=1e-3)
    units, largest = make_units(200), max(quantile, 1 - quantile)
    weights = np.append(np.random.default_rng(1).standard_normal(7), start)
    for number in range(60):
        norm = at_threshold(plan, weights[7:]).clipping_norm
        released = train_round(
            units, weights, LOGISTIC, plan, expected_batch_size=200.0, noise=SecureNoise()
        ).vector
        # Andrew et al. (2021), algorithm 1: up when too few are below.
        step = 0.5 if number < 40 else 0.1
        weights[7] -= step * largest * released[7] / 200 / (rule.share * norm)
    inputs: FloatArray = np.column_stack([units.features, np.ones(200)]).astype(np.float64)
    errors = 1 / (1 + np.exp(-(inputs @ weights[:7]))) - units.labels
    norms = np.abs(errors) * np.linalg.norm(inputs, axis=1)
    target = rule.gradient_share * at_threshold(plan, weights[7:]).clipping_norm
    assert np.mean(norms <= target) == pytest.approx(quantile, abs=0.05)


# --- local steps ------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["sum", "delta"])
@pytest.mark.parametrize("optimizer", [LocalSgd(momentum=0.5), LocalAdam(kind="adam")])
@pytest.mark.parametrize("clipping", [FLAT, ADAPTIVE])
def test_local_steps_are_those_taken_by_hand(
    update: UpdateKind, optimizer: LocalOptimizer, clipping: ClippingRule
) -> None:
    one = replace(PLAN, clipping_norm=5.0, clipping=clipping)
    many = replace(one, local_steps=4, update=update, local_optimizer=optimizer)
    units, noise = make_units(40, lanes=(1,)), SeededNoise(7)
    start = 0.3 * np.random.default_rng(2).standard_normal(7 + one.extra_coordinates)
    descent = LocalDescent(
        optimizer,
        learning_rate=one.local_learning_rate,
        noise_std=at_threshold(one, start[7:]).noise_std / 20.0,
    )
    weights, total = start.copy(), np.zeros_like(start)
    for _ in range(4):
        # The threshold is that of the round: the weight of its coordinate stays.
        taken = train_round(units, weights, LOGISTIC, one, expected_batch_size=20.0, noise=noise)
        total += taken.vector
        weights[:7] += descent.step(taken.vector[:7] / 20.0)
    if update == "delta":
        total[:7] = weights[:7] - start[:7]
    found = train_round(
        units, start, LOGISTIC, many, expected_batch_size=20.0, noise=SeededNoise(7)
    )
    assert np.array_equal(found.vector, total)


def test_a_delta_of_one_step_is_the_scaled_noisy_sum() -> None:
    plan = replace(PLAN, update="delta")
    noisy = run(make_units(30), noise=SeededNoise(3)).vector
    delta = run(make_units(30), plan, noise=SeededNoise(3)).vector
    assert np.allclose(delta[:7], -plan.local_learning_rate * noisy[:7] / 20.0, rtol=1e-12)
    assert np.array_equal(delta[7:], noisy[7:])


class Watching:
    """Secure noise that looks at what the processor does with the smallest numbers."""

    is_secure = True

    def __init__(self) -> None:
        self.products: list[float] = []

    def standard_normal(self, count: int) -> FloatArray:
        # Both are the smallest normal numbers; half of either is a denormal.
        self.products.append(float(torch.tensor([2.0**-126]).mul(0.5).item()))
        self.products.append(float((np.array([2.0**-1022]) * np.array([0.5]))[0]))
        return SecureNoise().standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        del noise_std
        return np.zeros(count, dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        return SecureNoise().bernoulli(count, probability=probability)


def test_denormals_are_flushed_inside_a_round_and_nowhere_else() -> None:
    noise = Watching()
    run(make_units(5), noise=noise)
    assert noise.products
    assert not any(noise.products)
    assert float(torch.tensor([2.0**-126]).mul(0.5).item()) > 0


def test_no_seed_repeats_a_round() -> None:
    released = []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002 (what a user's own code may do)
        released.append(run(make_units(20), replace(PLAN, lanes=2000), noise=SecureNoise()).vector)
    same = int(np.isclose(released[0], released[1], rtol=0, atol=1e-6).sum())
    assert_rate(same, len(released[0]), 2e-6, at_most=True)


def test_the_model_may_be_computed_in_any_way() -> None:
    single, double = (
        train_round(
            make_units(30),
            np.full(parameter_count(MLP, 6) + PLAN.lanes, 0.1),
            MLP,
            PLAN,
            expected_batch_size=20.0,
            noise=NoNoise(),
            performance=Performance(precision=precision),
        ).vector
        for precision in PRECISIONS
    )
    assert not np.array_equal(single, double)
    assert np.allclose(single, double, rtol=0, atol=0.02 * float(np.linalg.norm(double)))
