"""Sums of clipped per-unit gradients by book-keeping: no unit's gradient is formed without need.

One forward keeps the input of each layer, one backward gives the gradient at each layer's output.
From the two arrays come both the norm of each unit's gradient and, as one weighted product a layer,
the clipped sum (Goodfellow 2015; Bu et al. 2023). What must stay true: **only what was normed is
ever summed**. A unit whose norm is not finite contributes exactly zero.

`arithmetic` proves why rounding does not break the bound, in either precision; `rules` says how a
gradient is brought to it, and `grouping` how a unit brings several rows.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sordino_client.data.storage import FeatureArray
from sordino_client.training.admission import made_up_records
from sordino_client.training.arithmetic import Arithmetic, Performance
from sordino_client.training.contributions import Contribution, Scales
from sordino_client.training.grouping import Grouping, check_places, group_rows, with_places
from sordino_client.training.losses import loss_of
from sordino_client.training.network import Network
from sordino_client.training.rules import Clip, amplification, clip, threshold_sum
from sordino_client.training.sampling import Indices
from sordino_client.training.tally import Tally
from sordino_client.training.units import ALL_AS_THEY_ARE, Draw, Rows, Units, gather, scaled
from sordino_protocols.clipping import FLAT, AdaptiveClipping, ClippingRule, PerLayerClipping
from sordino_protocols.models import FloatVector, ModelSpec, architecture_of
from sordino_protocols.networks import build
from sordino_protocols.plan import LossName
from sordino_protocols.scaling import Scaling

__all__ = [
    "CANARY_EXCESS",
    "Units",
    "check_rows_per_unit",
    "clipped_sum",
    "network_for",
    "outputs",
    "predict",
]

# Each coordinate of a canary's gradient over the bound: a canary is always clipped, by every rule.
CANARY_EXCESS = 1024.0


def network_for(
    model: ModelSpec | Network,
    feature_count: int,
    loss: LossName = "binary",
    *,
    performance: Performance | None = None,
) -> Network:
    """The network of a job's model, the same object for equal arguments; a network is its own.

    Args:
        model: a job's model, or an admitted network.
        feature_count: encoded features of a record.
        loss: whose gradients are wanted.
        performance: how fast to compute; touches no privacy.

    Raises:
        InputError: no features, or a model that cannot be trained.
    """
    if isinstance(model, Network):
        return model
    return _admitted(model, feature_count, loss, performance or Performance())


@functools.lru_cache(maxsize=64)
def check_rows_per_unit(network: Network, rows: int) -> None:
    """Refuse units of so many rows before anything is paid, by a made-up record.

    Raises:
        InputError: a table would be looked up more often than its rounding is bounded for.
    """
    if rows > 1:
        with network.holding(np.zeros(network.dimension)):
            traced = network.trace(*made_up_records(network, 1))
        check_places(traced, group_rows(rows, network.arithmetic).rows_per_unit)


def clipped_sum(
    units: Units,
    batch: Indices,
    weights: FloatVector,
    model: ModelSpec | Network,
    *,
    bound: float,
    rule: ClippingRule = FLAT,
    drawn: Draw = ALL_AS_THEY_ARE,
    lane_groups: int = 1,
    tally: Tally | None = None,
) -> FloatVector:
    """The sum over `batch` of each unit's gradient, clipped to the L2 norm `bound`.

    A record's gradient is that of its loss, an entity's the sum of those of its rows that were
    drawn. A canary's is `CANARY_EXCESS * bound` on each coordinate of its lane, one a group, and
    is clipped like a record's with as many layers as there are groups: layer by layer under that
    rule, flatly under every other. So it adds `bound / sqrt(lane_groups)` to each of them, and
    nothing to the model or the threshold. Model, threshold and lanes are clipped together. A unit
    whose gradient has no finite norm contributes exactly zero.

    Args:
        units: records or entities, and canaries.
        batch: indices of the units to sum over; an index counts as often as it occurs. In single
            precision the order of those with records must be uniformly random
            (`sampling.shuffled`).
        weights: flat model parameters, then the threshold's under adaptive clipping, then the
            lanes', group by group.
        model: a job's model, or an admitted network.
        bound: the largest L2 norm of a contribution, and of the difference that one unit more
            makes to the sum, up to float64 rounding of a factor 1 + 2^-20.
        rule: how a gradient is brought to the bound.
        drawn: rows and views of the units in `batch` that are no canaries, in their order.
        lane_groups: coordinates of one lane.
        tally: is told of the batch, for the site alone; changes nothing.

    Returns:
        A vector as long as `weights`.

    Raises:
        ValueError: `weights` is shorter than the model, what is behind it is no whole number of
            lanes, a canary's lane is not in it, or no rows were drawn of entities.
    """
    if (units.entities is None) != (drawn.rows is None):
        raise ValueError("rows are drawn where units are entities, and only there")
    network = network_for(model, units.features.shape[1])
    extra = 1 if isinstance(rule, AdaptiveClipping) else 0
    _check_lanes(units, weights, network.dimension + extra, lane_groups)
    chosen = batch[batch < units.with_records]
    canaries = batch[batch >= units.with_records] - units.with_records
    total = np.zeros(len(weights))
    with network.holding(weights[: network.dimension]), torch.no_grad():
        _add_records(units, chosen, drawn, network, total, bound=bound, rule=rule, tally=tally)
    if len(units.canary_lanes):
        lanes = total[network.dimension + extra :].reshape(lane_groups, -1)
        _add_canaries(lanes, units.canary_lanes[canaries], bound=bound, rule=rule)
    return total


def predict(
    weights: FloatVector,
    model: ModelSpec | Network,
    features: FeatureArray,
    *,
    scaling: Scaling | None = None,
    performance: Performance | None = None,
) -> FloatVector:
    """The model's probability of the positive label, [records] in [0, 1].

    Args:
        weights: flat model parameters; what is behind them is ignored.
        model: a job's model, or an admitted network, with one logit.
        features: [records, ...], encoded.
        scaling: as in training.
        performance: how fast to compute.

    Raises:
        ValueError: `weights` is shorter than the model.
    """
    logits = outputs(weights, model, features, scaling=scaling, performance=performance)
    return np.asarray(torch.sigmoid(logits[:, 0]).numpy())


def outputs(
    weights: FloatVector,
    model: ModelSpec | Network,
    features: FeatureArray,
    *,
    scaling: Scaling | None = None,
    performance: Performance | None = None,
) -> Tensor:
    """The model's outputs [records, k], float64, computed in the network's own precision.

    Raises:
        ValueError: `weights` is shorter than the model.
    """
    # Outputs do not depend on the loss, but a network has one that takes its outputs.
    loss: LossName = "binary"
    if not isinstance(model, Network) and model.outputs > 1:
        loss = "cross_entropy"
    network = network_for(model, features.shape[1], loss, performance=performance)
    _check_length(weights, network.dimension)
    rows = network.arithmetic.chunk_rows
    with network.holding(weights[: network.dimension]):
        parts = [
            # Copies in torch's own memory: aligned alike in every pass (see `arithmetic`), and what
            # is mapped from a file is for reading only.
            network.outputs(
                _fitting(torch.from_numpy(scaled(part.copy(), scaling)).clone(), network)
            ).double()
            for part in (features[at : at + rows] for at in range(0, max(len(features), 1), rows))
        ]
    return torch.cat(parts)


@functools.lru_cache(maxsize=16)
def _admitted(
    spec: ModelSpec, feature_count: int, loss: LossName, performance: Performance
) -> Network:
    example = torch.zeros(1, architecture_of(spec, feature_count).feature_count)
    return Network(build(spec, feature_count), loss_of(loss), example, performance=performance)


def _check_length(weights: FloatVector, dimension: int) -> None:
    if weights.ndim != 1 or len(weights) < dimension:
        raise ValueError(f"weights have shape {weights.shape}; the model alone needs {dimension}")


def _check_lanes(units: Units, weights: FloatVector, before: int, groups: int) -> None:
    _check_length(weights, before)
    lanes, left = divmod(len(weights) - before, groups)
    if left:
        raise ValueError(f"{len(weights) - before} coordinates are no lanes of {groups} each")
    used = units.canary_lanes
    if len(used) and (used.min() < 0 or used.max() >= lanes):
        raise ValueError(f"a canary's lane is outside the {lanes} lanes behind the model")


def _add_canaries(total: FloatVector, lanes: Indices, *, bound: float, rule: ClippingRule) -> None:
    """Add the clipped gradients of a canary on each of `lanes` to `total`, [groups, all lanes]."""
    slope = CANARY_EXCESS * bound
    # One unit's norms, [groups, 1]: all canaries have them.
    squared_norms = torch.full((len(total), 1), slope**2, dtype=torch.float64)
    # A canary stands for a record with a large gradient: it says nothing about the threshold.
    layered = rule if isinstance(rule, PerLayerClipping) else FLAT
    readings = slope * clip(squared_norms, layered, bound=bound).factors.numpy()
    for group, reading in zip(total, readings[:, 0], strict=True):
        np.add.at(group, lanes, reading)


def _add_records(
    units: Units,
    chosen: Indices,
    drawn: Draw,
    network: Network,
    total: FloatVector,
    *,
    bound: float,
    rule: ClippingRule,
    tally: Tally | None,
) -> None:
    """Write the sum of the records' or entities' clipped gradients into the front of `total`."""
    arithmetic = with_places(network.arithmetic, drawn.rows_per_unit)
    grouping = group_rows(drawn.rows_per_unit, arithmetic)
    target = bound * (1 - arithmetic.share)
    summed = torch.from_numpy(total[: network.dimension])
    finite = below = 0
    for start, stop in _chunks(len(chosen), grouping):
        rows = _rows(units, chosen[start:stop], drawn.part(start, stop), network, grouping)
        traced = _trace(rows, network, grouping)
        clipped = clip(_squared_norms(traced, arithmetic), rule, bound=target)
        # The padding that makes up the shape is nobody's.
        clipped.factors[:, stop - start :] = 0
        if tally is not None:
            _note(tally, rows, clipped, network, grouping, units=stop - start)
        _add(traced, clipped, summed, arithmetic)
        if isinstance(rule, AdaptiveClipping):
            finite += stop - start - int(clipped.excluded[: stop - start].sum())
            below += int(clipped.below[: stop - start].sum())
    if (amplified := amplification(rule, target)) != 1:
        summed *= amplified
    if isinstance(rule, AdaptiveClipping):
        bits = threshold_sum(rule, below=below, above=finite - below, bound=bound)
        total[network.dimension] = bits


def _rows(units: Units, chosen: Indices, drawn: Draw, network: Network, grouping: Grouping) -> Rows:
    row_count = network.arithmetic.padded_rows(len(chosen) * grouping.rows_per_unit)
    return gather(units, chosen, drawn, rows_per_unit=grouping.rows_per_unit, row_count=row_count)


def _trace(rows: Rows, network: Network, grouping: Grouping) -> list[list[Contribution]]:
    return network.trace_layers(
        _fitting(rows.features, network),
        rows.labels,
        shares=rows.shares,
        rows_per_unit=grouping.rows_per_unit,
    )


def _note(
    tally: Tally, rows: Rows, clipped: Clip, network: Network, grouping: Grouping, *, units: int
) -> None:
    """Count what was clipped; of the first rows only, what their loss is: one pass more."""
    if tally.loss is None and units:
        outputs = network.outputs(_fitting(rows.features, network)).double()
        losses = network.loss.per_record(outputs, rows.labels)
        losses = losses if rows.shares is None else losses * rows.shares
        # A unit's rows lie together, and the padding behind them all.
        tally.loss = float(losses[: units * grouping.rows_per_unit].sum()) / units
    tally.units += units
    tally.clipped += units - int(clipped.below[:units].sum())


def _fitting(features: Tensor, network: Network) -> Tensor:
    """As the network takes them: a job's model takes indices of a table as numbers, all exact."""
    return features.float() if network.example.is_floating_point() else features


def _chunks(units: int, grouping: Grouping) -> Iterator[tuple[int, int]]:
    """Of `chunk_units`; the last one has up to a block more rather than a short successor."""
    start = 0
    while start < units:
        remaining = units - start
        is_last = remaining <= grouping.chunk_units + grouping.spare_units
        stop = units if is_last else start + grouping.chunk_units
        yield start, stop
        start = stop


def _squared_norms(traced: Sequence[Sequence[Contribution]], arithmetic: Arithmetic) -> Tensor:
    """Each unit's squared gradient norm in every layer, float64 [layers, units]."""
    layers = [[each.squared_norms(arithmetic) for each in layer] for layer in traced]
    units = next(norms for layer in layers for norms in layer)
    return torch.stack(
        [sum(layer[1:], layer[0]) if layer else torch.zeros_like(units) for layer in layers]
    )


def _add(
    traced: Sequence[Sequence[Contribution]], clipped: Clip, total: Tensor, arithmetic: Arithmetic
) -> None:
    excluded = clipped.excluded if bool(clipped.excluded.any()) else None
    for layer, factors in zip(traced, clipped.factors, strict=True):
        for contribution in layer:
            contribution.add_to(total, Scales(factors, excluded), arithmetic)
