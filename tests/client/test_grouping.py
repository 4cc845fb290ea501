"""Units of several rows: the oracle adds the rows' naive gradients, then clips the sum."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_kinds import KINDS, FloatArray, naive_gradients
from numpy.typing import NDArray

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import (
    DOUBLE,
    SINGLE,
    SINGLE_DENSE,
    Arithmetic,
    Performance,
    PrecisionName,
)
from sordino_client.training.clipping import Units, check_rows_per_unit, clipped_sum, network_for
from sordino_client.training.contributions import GramSequence, Instantiated, Scales, Span
from sordino_client.training.grouping import group_rows, regrouped
from sordino_client.training.losses import CrossEntropy
from sordino_client.training.network import Network
from sordino_client.training.sampling import ABSENT
from sordino_client.training.units import Draw
from sordino_protocols.errors import InputError

NOBODY = np.zeros(0, np.int64)
NO_CLIP = 1e9
# Rows of five entities: one with a single row, one with more than are drawn.
SIZES = (3, 1, 2, 6, 3)
DRAWN = np.array([[1, 0, 2], [3, ABSENT, ABSENT], [5, 4, ABSENT], [11, 6, 8], [ABSENT, 13, ABSENT]])


def entities(sizes: tuple[int, ...] = SIZES) -> Entities:
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Entities(np.arange(starts[-1]), starts.astype(np.int64))


def make_units(name: str, seed: int = 0) -> Units:
    kind = KINDS[name]
    rows = sum(SIZES)
    return Units(kind.records(rows, seed), kind.labels(rows, seed), NOBODY, entities())


def make_network(name: str, precision: PrecisionName = "double") -> Network:
    kind = KINDS[name]
    performance = Performance(precision=precision)
    return network_for(kind.spec, kind.features, "cross_entropy", performance=performance)


def make_weights(network: Network, seed: int = 0) -> FloatArray:
    return 0.5 * np.random.default_rng(seed).standard_normal(network.dimension)


def naive_units(
    name: str, units: Units, drawn: NDArray[np.int64], weights: FloatArray
) -> FloatArray:
    """[units, parameters]: the sum over each unit's rows."""
    rows = naive_gradients(KINDS[name].spec, units.features, units.labels, weights, CrossEntropy())
    return np.stack([rows[unit[unit != ABSENT]].sum(axis=0) for unit in drawn])


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", KINDS)
def test_a_units_gradient_is_the_sum_of_its_rows(name: str, precision: PrecisionName) -> None:
    network, units = make_network(name, precision), make_units(name)
    weights = make_weights(network)
    exact = naive_units(name, units, DRAWN, weights)
    tolerance = 1e-5 if precision == "single" else 1e-7
    summed = clipped_sum(units, np.arange(5), weights, network, bound=NO_CLIP, drawn=Draw(DRAWN))
    assert np.allclose(summed, exact.sum(axis=0), rtol=0, atol=tolerance * np.abs(exact).sum())


@pytest.mark.parametrize("name", KINDS)
def test_the_sum_is_clipped_and_not_each_row(name: str) -> None:
    network, units = make_network(name), make_units(name)
    weights = make_weights(network)
    exact = naive_units(name, units, DRAWN, weights)
    for unit, gradient in enumerate(exact):
        bound = float(np.linalg.norm(gradient)) / 3
        batch, drawn = np.array([unit]), Draw(DRAWN[unit : unit + 1])
        clipped = clipped_sum(units, batch, weights, network, bound=bound, drawn=drawn)
        assert bound * 0.97 <= np.linalg.norm(clipped) <= bound * (1 + 1e-12)
        assert np.allclose(clipped, gradient / 3, rtol=0, atol=0.03 * bound)


# The outputs of "nade" are no logits, which at zero weights would be alike.
@pytest.mark.parametrize("name", [name for name in KINDS if name != "nade"])
def test_rows_that_annul_each_other_leave_nothing_to_clip(name: str) -> None:
    # One label each of two classes at zero weights: for the norm of rows these are long gradients.
    kind = KINDS[name]
    network = make_network(name)
    features = kind.records(1).repeat(3, axis=0)
    units = Units(features, np.arange(3, dtype=np.float32), NOBODY, entities((3,)))
    weights = np.zeros(network.dimension)
    drawn = Draw(np.array([[0, 1, 2]]))
    summed = clipped_sum(units, np.array([0]), weights, network, bound=0.1, drawn=drawn)
    assert np.linalg.norm(summed) <= 1e-6


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=20).map(tuple),
    at_most=st.integers(1, 9),
    precision=st.sampled_from(["single", "double"]),
    seed=st.integers(0, 2**16),
)
def test_any_number_of_rows_and_units_gives_the_naive_sum(
    sizes: tuple[int, ...], at_most: int, precision: PrecisionName, seed: int
) -> None:
    kind, network = KINDS["mlp"], make_network("mlp", precision)
    rows = sum(sizes)
    units = Units(kind.records(rows, seed), kind.labels(rows, seed), NOBODY, entities(sizes))
    rng = np.random.default_rng(seed)
    drawn = np.full((len(sizes), at_most), ABSENT)
    for unit, (start, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        kept = rng.permutation(size)[:at_most] + start
        drawn[unit, : len(kept)] = kept
    weights = make_weights(network, seed)
    exact = naive_units("mlp", units, drawn, weights)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    expected = (exact * np.minimum(1, 0.5 / np.maximum(norms, 1e-30))).sum(axis=0)
    order = rng.permutation(len(sizes))
    summed = clipped_sum(units, order, weights, network, bound=0.5, drawn=Draw(drawn[order]))
    # What is taken off the bound for rounding, and what norms are rounded up by.
    assert np.allclose(summed, expected, rtol=0, atol=0.5 * 0.012 * len(sizes))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_row_takes_its_unit_out_and_no_other(bad: float) -> None:
    network, units = make_network("conv2d", "single"), make_units("conv2d")
    weights = make_weights(network)
    units.features[4] = bad
    whole = clipped_sum(units, np.arange(5), weights, network, bound=0.5, drawn=Draw(DRAWN))
    others = np.array([0, 1, 3, 4])
    rest = clipped_sum(units, others, weights, network, bound=0.5, drawn=Draw(DRAWN[others]))
    assert np.linalg.norm(whole - rest) <= 1e-5
    # A row that is not drawn does nothing, whatever is in it.
    drawn = DRAWN.copy()
    drawn[2] = [5, ABSENT, ABSENT]
    left_out = clipped_sum(
        units, np.array([2]), weights, network, bound=0.5, drawn=Draw(drawn[2:3])
    )
    assert np.isfinite(left_out).all()
    assert left_out.any()


@settings(max_examples=200, deadline=None)
@given(rows=st.integers(1, 5000), arithmetic=st.sampled_from([SINGLE, SINGLE_DENSE, DOUBLE]))
def test_passes_of_groups_have_the_shapes_that_are_checked(
    rows: int, arithmetic: Arithmetic
) -> None:
    grouping = group_rows(rows, arithmetic)
    assert rows <= grouping.rows_per_unit < 2 * max(rows, 2) + arithmetic.row_multiple
    for units in (1, 3, grouping.chunk_units, grouping.chunk_units + grouping.spare_units):
        assert arithmetic.padded_rows(units * grouping.rows_per_unit) % grouping.rows_per_unit == 0
    longest = (grouping.chunk_units + grouping.spare_units) * grouping.rows_per_unit
    assert longest <= max(arithmetic.chunk_rows + arithmetic.spare_rows, grouping.rows_per_unit)


def test_records_are_grouped_as_they_were() -> None:
    grouping = group_rows(1, SINGLE)
    assert (grouping.rows_per_unit, grouping.chunk_units, grouping.spare_units) == (1, 64, 32)


@settings(max_examples=40, deadline=None)
@given(
    units=st.integers(1, 4),
    rows=st.integers(2, 5),
    places=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_both_forms_of_a_sequence_group_alike(
    units: int, rows: int, places: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(units * rows, places, 3, generator=generator)
    gradients = torch.randn(units * rows, places, 2, generator=generator)
    span = Span(0, 6)
    gram = regrouped([GramSequence(inputs, gradients, span)], rows)
    formed = regrouped([Instantiated(torch.bmm(gradients.mT, inputs), span)], rows)
    scales = Scales(torch.rand(units, generator=generator, dtype=torch.float64), None)
    totals = [torch.zeros(6, dtype=torch.float64) for _ in range(2)]
    for total, (part,) in zip(totals, (gram, formed), strict=True):
        part.add_to(total, scales, SINGLE)
    assert torch.allclose(totals[0], totals[1], rtol=1e-4, atol=1e-4)
    exact = torch.bmm(gradients.mT, inputs).reshape(units, rows, -1).sum(dim=1).square().sum(dim=1)
    for (part,) in (gram, formed):
        norms = part.squared_norms(SINGLE)
        assert (norms >= exact * (1 - 1e-5)).all()


def test_units_that_are_entities_need_rows_and_records_take_none() -> None:
    network, units = make_network("mlp"), make_units("mlp")
    weights = make_weights(network)
    with pytest.raises(ValueError, match="rows are drawn"):
        clipped_sum(units, np.arange(5), weights, network, bound=1.0)
    records = Units(units.features, units.labels, NOBODY)
    with pytest.raises(ValueError, match="rows are drawn"):
        clipped_sum(records, np.arange(5), weights, network, bound=1.0, drawn=Draw(DRAWN))


def test_units_of_too_many_rows_are_refused_before_they_are_there() -> None:
    words = make_network("lstm", "single")
    check_rows_per_unit(words, 512)
    with pytest.raises(InputError, match="looks 5120 indices up in one table"):
        check_rows_per_unit(words, 1000)
    # A layer that is used so often has its gradients formed.
    check_rows_per_unit(make_network("linear on a sequence", "single"), 64_000)
    places = torch.zeros(2 * 5000, 3, 1)
    parts = regrouped([GramSequence(places, places, Span(0, 1))], 5000)
    assert [type(part) for part in parts] == [Instantiated]
