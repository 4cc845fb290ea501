"""The autoregressive generator of a site: what it learns, what it costs, what it does not see."""

import numpy as np
import pytest
from numpy.typing import NDArray
from seeded_noise import NoNoise, SeededNoise

from sordino_client.synthesis.generators.fitted import Fitted
from sordino_client.synthesis.generators.nade import fit_nade
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import Noise
from sordino_protocols.synthesis.nade import TrainedNade
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape
from sordino_protocols.synthesis.specs import NadeSpec

SHAPE = DomainShape(
    columns=(
        SingleShape(groups=(2, 2, 2)),
        SetShape(items=3, at_most=2),
        SingleShape(groups=(1, 1)),
    ),
    label=2,
)
SPEC = NadeSpec(
    kind="nade", hidden=8, sampling_rate=0.25, steps=60, clipping_norm=4.0, learning_rate=0.1
)
RECORDS = 4_000

Cells = NDArray[np.int32]


def make_cells(count: int = RECORDS) -> Cells:
    """The label follows the first column; of the items, the second excludes the third."""
    rng = np.random.default_rng(1)
    first = rng.choice(6, size=count, p=[0.3, 0.1, 0.1, 0.1, 0.1, 0.3])
    label = (first >= 4) ^ (rng.random(count) < 0.05)
    items = np.stack([rng.random(count) < 0.2, rng.random(count) < 0.5], axis=1)
    third = ~items[:, 1]
    return np.column_stack([first, items, third, label]).astype(np.int32)


def fit(cells: Cells, *, noise: Noise, multiplier: float = 1.0, spec: NadeSpec = SPEC) -> Fitted:
    return fit_nade(
        cells,
        spec,
        shape=SHAPE,
        noise_multiplier=multiplier,
        unit="record",
        noise=noise,
        performance=Performance(),
        rng=np.random.default_rng(2),
    )


def test_learns_columns_and_how_they_go_together() -> None:
    cells = make_cells()
    fitted = fit(cells, noise=SeededNoise(3))
    found = fitted.sampler.sample(RECORDS, rng=np.random.default_rng(4))
    assert found.shape == (RECORDS, SHAPE.position_count)
    assert abs(fitted.units - RECORDS) < 200
    for real, made in zip(cells.T, found.T, strict=True):
        shares = [np.bincount(each, minlength=6) / RECORDS for each in (real, made)]
        assert np.abs(shares[0] - shares[1]).sum() / 2 < 0.06
    agree = (found[:, 4] == (found[:, 0] >= 4)).mean()
    assert agree > 0.85
    assert (found[:, 2] != found[:, 3]).mean() > 0.85
    # What is learnt comes from training: before the first step all columns are independent.
    untrained = fit(cells, noise=SeededNoise(3), spec=SPEC.model_copy(update={"steps": 1}))
    alone = untrained.sampler.sample(RECORDS, rng=np.random.default_rng(4))
    assert (alone[:, 4] == (alone[:, 0] >= 4)).mean() < 0.7


def test_pays_for_every_draw_of_noise() -> None:
    counted = CountingNoise()
    fit(make_cells(200), noise=counted)
    plan = SPEC.plan(SHAPE, 1.0, "record")
    assert counted.batches == plan.steps
    # Every count of every marginal once, with the sigma of the plan.
    assert sorted(counted.discrete) == sorted(
        each.noise_std for each in plan.one_ways for _ in range(each.cells)
    )


class CountingNoise(NoNoise):
    """No noise, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.discrete: list[float] = []

    def bernoulli(self, count: int, *, probability: float) -> NDArray[np.bool_]:
        self.batches += 1
        return super().bernoulli(count, probability=probability)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> NDArray[np.int64]:
        self.discrete += [noise_std] * count
        return super().discrete_gaussian(count, noise_std=noise_std)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_hardly_any_records_are_no_error_and_change_no_shape(count: int) -> None:
    spec = SPEC.model_copy(update={"steps": 3})
    fitted = fit(make_cells(count), noise=SeededNoise(5), multiplier=5.0, spec=spec)
    found = fitted.sampler.sample(50, rng=np.random.default_rng(6))
    assert found.shape == (50, SHAPE.position_count)
    assert (found >= 0).all()
    assert (found < [6, 2, 2, 2, 2]).all()


def test_a_constant_column_changes_no_shape() -> None:
    cells, spec = make_cells(300), SPEC.model_copy(update={"steps": 3})
    plain = fit(cells, noise=SeededNoise(7), spec=spec).sampler
    cells[:, 0] = 0
    constant = fit(cells, noise=SeededNoise(7), spec=spec).sampler
    assert isinstance(plain, TrainedNade)
    assert isinstance(constant, TrainedNade)
    assert list(map(len, plain.one_ways)) == list(map(len, constant.one_ways))
    assert plain.weights.shape == constant.weights.shape
