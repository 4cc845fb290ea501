"""The engine sees each unit's gradient of an autoregressive model of cells."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import Performance, PrecisionName
from sordino_client.training.clipping import clipped_sum, network_for, outputs
from sordino_client.training.contributions import (
    Contribution,
    EmbeddingRows,
    PositionOuter,
    Scales,
)
from sordino_client.training.network import Network
from sordino_client.training.units import Draw, Units
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.networks import build, load_flat

# Widths of one position alone, of several positions, and of no choice at all.
CELLS = (3, 2, 5, 3, 1, 16, 2)
SPEC = NadeModelSpec(kind="nade", hidden=6, cells=CELLS)
RECORDS = 40
NOBODY = np.zeros(0, np.int64)

Records = NDArray[np.float32]
Numbers = NDArray[np.float64]


def records(count: int = RECORDS, *, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, cells, count) for cells in CELLS], axis=1).astype(np.float32)


def units(features: Records) -> Units:
    return Units(features, np.zeros(len(features), np.float32), NOBODY)


def network(precision: PrecisionName) -> Network:
    return network_for(SPEC, 1, "likelihood", performance=Performance(precision=precision))


def weights_of(tried: Network) -> Numbers:
    return np.random.default_rng(3).normal(size=tried.dimension) / 3


def naive_gradients(features: Records, weights: Numbers) -> Numbers:
    """[records, parameters] by plain back-propagation, one record at a time."""
    module = build(SPEC, 1)
    load_flat(module, weights)
    rows = []
    for record in torch.from_numpy(features).double():
        loss = -module(record[None]).sum()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        rows.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    return torch.stack(rows).numpy()


def traced(tried: Network, features: Records, weights: Numbers) -> list[Contribution]:
    with tried.holding(weights):
        return tried.trace(torch.from_numpy(features), torch.zeros(len(features)))


def sums(tried: Network, parts: list[Contribution], record: int, rows: int) -> Numbers:
    """One record's gradient as the contributions have it."""
    factors = torch.zeros(rows, dtype=torch.float64)
    factors[record] = 1
    total = torch.zeros(tried.dimension, dtype=torch.float64)
    for part in parts:
        part.add_to(total, Scales(factors, None), tried.arithmetic)
    return total.numpy()


@pytest.mark.parametrize("precision", ["single", "double"])
def test_contributions_are_the_gradients_of_single_records(precision: PrecisionName) -> None:
    tried, features = network(precision), records()
    weights = weights_of(tried)
    exact, parts = naive_gradients(features, weights), traced(tried, features, weights)
    rows = tried.arithmetic.padded_rows(RECORDS)
    for record in range(RECORDS):
        assert np.allclose(sums(tried, parts, record, rows), exact[record], rtol=0, atol=1e-5)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_norms_are_upper_bounds_and_hardly_above(precision: PrecisionName) -> None:
    tried, features = network(precision), records()
    weights = weights_of(tried)
    exact = np.square(naive_gradients(features, weights)).sum(axis=1)
    parts = traced(tried, features, weights)
    found = np.sum([part.squared_norms(tried.arithmetic).numpy() for part in parts], axis=0)
    assert (found[:RECORDS] >= exact * (1 - 1e-12)).all()
    assert (found[:RECORDS] <= exact * (1 + 1e-4)).all()


def test_every_layer_has_a_rule_of_its_own() -> None:
    tried = network("single")
    assert tried.slow_layers == ()
    parts = traced(tried, records(), weights_of(tried))
    tables = [part for part in parts if isinstance(part, EmbeddingRows)]
    maps = [part for part in parts if isinstance(part, PositionOuter)]
    assert len(tables) + len(maps) == len(parts)
    assert [part.is_distinct for part in tables] == [True]
    # One for each width, however many positions have it.
    assert len(maps) == len(set(CELLS))


def test_a_record_looks_no_row_of_the_table_up_twice() -> None:
    tried = network("single")
    parts = traced(tried, records(), weights_of(tried))
    (table,) = (part for part in parts if isinstance(part, EmbeddingRows))
    assert all(len(set(row)) == len(row) for row in table.indices.tolist())
    # Which is what the short rule for its norms rests on: rows that meet would need the long one.
    twice = replace(table, indices=torch.zeros_like(table.indices))
    short = twice.squared_norms(tried.arithmetic)
    whole = replace(twice, is_distinct=False).squared_norms(tried.arithmetic)
    assert not torch.allclose(short, whole, rtol=0.1)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_a_records_share_of_the_sum_is_clipped(precision: PrecisionName) -> None:
    tried, features = network(precision), records()
    weights, bound = weights_of(tried), 0.5
    everybody = clipped_sum(units(features), np.arange(RECORDS), weights, tried, bound=bound)
    for left_out in range(5):
        others = np.delete(np.arange(RECORDS), left_out)
        less = clipped_sum(units(features), others, weights, tried, bound=bound)
        assert np.linalg.norm(everybody - less) <= bound * (1 + 1e-6)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_the_rows_of_an_entity_add_up_before_the_norm(precision: PrecisionName) -> None:
    tried, features = network(precision), records(6)
    weights = weights_of(tried)
    entities = Entities(np.arange(6), np.array([0, 2, 6]))
    owned = Units(features, np.zeros(6, np.float32), NOBODY, entities=entities)
    drawn = Draw(np.array([[0, 1, -1, -1], [2, 3, 4, 5]]))
    exact = naive_gradients(features, weights)
    by_entity = np.stack([exact[:2].sum(axis=0), exact[2:].sum(axis=0)])
    bound = float(np.linalg.norm(by_entity, axis=1).min()) / 2
    found = clipped_sum(owned, np.arange(2), weights, tried, bound=bound, drawn=drawn)
    expected = sum(bound * each / np.linalg.norm(each) for each in by_entity)
    assert np.linalg.norm(found - expected) <= 0.05 * bound


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -5.0, 7.5])
def test_a_cell_that_is_none_counts_as_the_nearest(bad: float) -> None:
    tried, features = network("double"), records(2)
    weights = weights_of(tried)
    features[0, 2] = bad
    nearest = features.copy()
    nearest[0, 2] = 0 if not bad > 0 else CELLS[2] - 1
    found = outputs(weights, tried, features)
    assert torch.isfinite(found).all()
    assert torch.equal(found, outputs(weights, tried, nearest))
    summed = clipped_sum(units(features), np.arange(2), weights, tried, bound=1.0)
    assert np.isfinite(summed).all()


def test_a_weight_that_is_no_number_makes_units_vanish() -> None:
    tried, features = network("single"), records(5)
    weights = weights_of(tried)
    weights[:] = np.nan
    summed = clipped_sum(units(features), np.arange(5), weights, tried, bound=1.0)
    assert not summed.any()


def test_the_model_reads_cells_whatever_the_features_are() -> None:
    narrow, wide = (network_for(SPEC, count, "likelihood") for count in (1, 500))
    assert narrow.dimension == wide.dimension == sum(CELLS) * (2 * SPEC.hidden + 1)
    assert narrow.example.shape == wide.example.shape == (1, len(CELLS))
