"""Records of an autoregressive network: its distribution, its resolutions, what it costs."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sordino_protocols.errors import InputError
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.networks import build, load_flat
from sordino_protocols.privacy import Composed, PoissonGaussian
from sordino_protocols.synthesis.marginals import event_of, marginals_of
from sordino_protocols.synthesis.nade import (
    NadePlan,
    TrainedNade,
    cells_for,
    check_cells,
    sample_nade,
    unpacked,
)
from sordino_protocols.synthesis.positions import flattened
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

SHAPE = DomainShape(
    columns=(
        SingleShape(groups=(2, 3, 1)),
        SetShape(items=2, at_most=1),
        SingleShape(groups=(1, 1, 1)),
    ),
    label=2,
)
COARSE = (3, 2, 2, 3)
ROWS = 40_000
# Of a share of so many rows: a false failure has a probability below 1e-9.
TOLERANCE = 6.2 * 0.5 / np.sqrt(ROWS)

Numbers = NDArray[np.float64]


def random_weights(spec: NadeModelSpec) -> Numbers:
    return np.random.default_rng(5).normal(size=spec.layout.total * (2 * spec.hidden + 1))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_samples_are_of_the_distribution_that_the_module_says() -> None:
    spec = NadeModelSpec(kind="nade", hidden=4, cells=(2, 3, 2))
    shape = DomainShape(columns=tuple(SingleShape(groups=(1,) * cells) for cells in spec.cells))
    weights, module = random_weights(spec), build(spec, 1)
    load_flat(module, weights)
    everything = np.array(list(np.ndindex(*spec.cells)))
    wanted = module(torch.from_numpy(everything).double()).sum(dim=1).exp().detach().numpy()
    sampled = sample_nade(weights, spec, shape, ROWS, rng=rng())
    assert sampled.dtype == np.int32
    index = np.ravel_multi_index(tuple(sampled.T), spec.cells)
    found = np.bincount(index, minlength=len(everything)) / ROWS
    assert np.abs(found - wanted).max() < TOLERANCE
    # Other weights say something else, which this would see.
    other = sample_nade(-weights, spec, shape, ROWS, rng=rng())
    shares = np.bincount(np.ravel_multi_index(tuple(other.T), spec.cells), minlength=12) / ROWS
    assert np.abs(shares - wanted).max() > TOLERANCE


def test_what_is_coarse_becomes_fine_and_what_is_fine_stays() -> None:
    for cells in (COARSE, (6, 2, 2, 3)):
        spec = NadeModelSpec(kind="nade", hidden=4, cells=cells)
        sampled = sample_nade(random_weights(spec), spec, SHAPE, 3_000, rng=rng())
        assert sampled.shape == (3_000, 4)
        assert [set(column) for column in sampled.T.tolist()] == [
            set(range(6)),
            {0, 1},
            {0, 1},
            {0, 1, 2},
        ]


def test_fine_cells_within_a_coarse_one_are_as_likely() -> None:
    spec = NadeModelSpec(kind="nade", hidden=4, cells=COARSE)
    sampled = sample_nade(random_weights(spec), spec, SHAPE, ROWS, rng=rng())
    counts = np.bincount(sampled[:, 0], minlength=6) / ROWS
    assert abs(counts[0] - counts[1]) < 2 * TOLERANCE
    assert np.ptp(counts[2:5]) < 2 * TOLERANCE


def test_every_column_is_brought_to_its_noisy_marginal() -> None:
    spec = NadeModelSpec(kind="nade", hidden=4, cells=COARSE)
    one_ways = (
        np.array([50.0, 150, 100, 100, 0, 600]),
        np.array([300.0, 700]),
        np.array([900.0, 100]),
        np.array([100.0, -20, 400]),
    )
    trained = TrainedNade(spec, random_weights(spec), one_ways, flattened(SHAPE))
    sampled = trained.sample(ROWS, rng=rng())
    for counts, column in zip(one_ways, sampled.T, strict=True):
        wanted = counts.clip(min=0) / counts.clip(min=0).sum()
        found = np.bincount(column, minlength=len(counts)) / ROWS
        assert np.abs(found - wanted).max() < TOLERANCE + 1e-3
    plain = sample_nade(trained.weights, spec, SHAPE, ROWS, rng=rng())
    assert abs((plain[:, 3] == 2).mean() - 0.8) > 0.05


def test_how_columns_go_together_is_what_was_learnt() -> None:
    # Two columns that are always alike, and a marginal that the network has wrong.
    spec = NadeModelSpec(kind="nade", hidden=1, cells=(2, 2))
    weights = np.zeros(spec.layout.total * 3)
    parts = unpacked(weights, spec)
    parts.vectors[:, 0] = [-3, 3, 0, 0]
    parts.maps[:, 0] = [0, 0, -4, 4]
    shape = DomainShape(columns=(SingleShape(groups=(1, 1)),) * 2)
    known = (np.array([80.0, 20.0]), np.array([80.0, 20.0]))
    sampled = TrainedNade(spec, weights, known, shape).sample(ROWS, rng=rng())
    assert (sampled[:, 0] == sampled[:, 1]).mean() > 0.99
    assert abs((sampled[:, 0] == 0).mean() - 0.8) < TOLERANCE


@pytest.mark.parametrize("rows", [0, 1, 50_001])
def test_any_number_of_rows(rows: int) -> None:
    spec = NadeModelSpec(kind="nade", hidden=2, cells=COARSE)
    assert sample_nade(random_weights(spec), spec, SHAPE, rows, rng=rng()).shape == (rows, 4)


def test_weights_behind_the_models_own_are_ignored() -> None:
    spec = NadeModelSpec(kind="nade", hidden=2, cells=COARSE)
    weights = random_weights(spec)
    longer = np.concatenate([weights, np.ones(50)])
    first, second = (sample_nade(each, spec, SHAPE, 99, rng=rng()) for each in (weights, longer))
    assert np.array_equal(first, second)
    with pytest.raises(InputError, match="weights; the model has 50"):
        sample_nade(weights[:-1], spec, SHAPE, 1, rng=rng())


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ((3, 2, 2), "cells has 3 positions; the data set has 4"),
        ((3, 2, 2, 4), r"cells\[3\] is 4; the data set has 3 fine cells there"),
        ((2, 2, 2, 3), r"cells\[0\] is 2; the data set has 6 fine cells there, and 3 coarse"),
    ],
)
def test_refuses_a_network_of_another_table(cells: tuple[int, ...], says: str) -> None:
    spec = NadeModelSpec(kind="nade", hidden=2, cells=cells)
    with pytest.raises(InputError, match=says):
        check_cells(spec, SHAPE)
    with pytest.raises(InputError, match=says):
        sample_nade(np.zeros(10_000), spec, SHAPE, 5, rng=rng())
    with pytest.raises(InputError, match=says):
        cells_for(spec, np.zeros((1, 4), np.int32), SHAPE)


def test_records_enter_at_the_resolution_of_the_network() -> None:
    fine = np.array([[0, 1, 0, 2], [4, 0, 1, 0], [5, 0, 0, 1]], dtype=np.int32)
    coarse = NadeModelSpec(kind="nade", hidden=2, cells=COARSE)
    assert cells_for(coarse, fine, SHAPE)[:, 0].tolist() == [0, 1, 2]
    assert np.array_equal(cells_for(coarse, fine, SHAPE)[:, 1:], fine[:, 1:])
    whole = NadeModelSpec(kind="nade", hidden=2, cells=(6, 2, 2, 3))
    assert np.array_equal(cells_for(whole, fine, SHAPE), fine)


def test_costs_its_marginals_and_its_training() -> None:
    plan = NadePlan(SHAPE, 0.2, 0.05, 100, 2.5, "record")
    training = PoissonGaussian(0.05, 2.5, 100, "record")
    assert plan.event == Composed((event_of(plan.one_ways, "record"), training))
    # A fifth of mu squared, of which DP-SGD has (0.05 / 2.5)^2 * 100 = 0.04.
    precision = sum(each.contribution / each.noise_std**2 for each in plan.one_ways)
    assert precision == pytest.approx(0.01, rel=1e-3)
    assert precision <= 0.01
    assert [each.columns for each in plan.one_ways] == [(0,), (1,), (2,)]


def test_one_way_marginals_are_those_of_the_mixture() -> None:
    plan = NadePlan(SHAPE, 0.2, 0.05, 100, 2.5, "record")
    both = marginals_of(SHAPE, noise_multiplier=1.0, fine_share=0.01, label_weight=1.0)
    assert both[:3] == plan.one_ways
