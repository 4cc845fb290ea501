"""Exact probes: one training step on neighbouring data sets with all randomness replayed.

What a guarantee rests on is that one unit more moves a step's noisy sum by the clipping norm at
most while nothing else moves: no scale, no noise, no coin. With the same coins and the same noise
on both sides that is a comparison of two vectors, so these probes never raise a false alarm. One
that has nothing to look at in a case returns nothing: silence is not called a pass.
"""

import math
from collections.abc import Iterator

import numpy as np

from sordino_audit.probes.found import Found
from sordino_audit.probes.sources import Constant, Replayed
from sordino_audit.probes.trainer import (
    EXPECTED_BATCH,
    RECORDS,
    Case,
    Trainer,
    train,
    with_last,
    without_last,
)
from sordino_client.training.units import Units
from sordino_protocols.clipping import PerLayerClipping
from sordino_protocols.local_training import LocalSgd
from sordino_protocols.models import FloatVector

# Of a clipping norm: rounding of sums in double precision.
_ROUNDING = 1e-9
# Of the largest coordinate: a loss and its passes are in single precision at best.
_SINGLE_ROUNDING = 1e-5
# Of a layer's share: the grid's step on all coordinates, which the whole norm allows for.
_GRID_ROUNDING = 1e-3
# Of the noise: the release's grid is 2^-16 of it or finer.
_NOISE_ROUNDING = 1e-4
_SEED = 5
_HUGE = 1e30


def sensitivity(trainer: Trainer, case: Case) -> Found:
    """One unit more moves a step's sum by the clipping norm at most, whatever the unit.

    Tried with tiny, ordinary and huge features, with a last record that is no number or infinite,
    and with weights that an adversary could send. The noise is the same on both sides, so noise
    whose scale depends on the batch shows as well.
    """
    case = case.one_step
    largest = 0.0
    for units, weight_scale in _neighbourhoods(case):
        for threshold in case.thresholds():
            moved = _difference(trainer, case, units, threshold, weight_scale)
            largest = max(largest, _norm(moved) / case.norm_at(threshold))
    return Found(
        largest <= 1 + _ROUNDING,
        f"one unit more moved a step's sum by {largest:.6g} of the clipping norm at most",
    )


def layer_sensitivity(trainer: Trainer, case: Case) -> Found | None:
    """Clipped by layers, one unit more moves no layer by more than its share of the norm."""
    case = case.one_step
    layers = case.network.layers
    if not isinstance(case.plan.clipping, PerLayerClipping):
        return None
    share = case.plan.clipping_norm / math.sqrt(len(layers))
    largest = 0.0
    for units, weight_scale in _neighbourhoods(case):
        moved = _difference(trainer, case, units, 0.0, weight_scale)
        for layer in layers:
            parts = [moved[span.start : span.stop] for span in layer.spans.values()]
            largest = max(largest, _norm(np.concatenate(parts)) / share)
    return Found(
        largest <= 1 + _GRID_ROUNDING,
        f"one unit more moved a layer by {largest:.6g} of its share of the norm at most",
    )


def canary(trainer: Trainer, case: Case) -> Found | None:
    """A canary moves the coordinates of its own lane by the clipping norm, and nothing else."""
    case = case.one_step
    groups, lanes = case.plan.lane_groups, case.plan.lanes
    if not lanes:
        return None
    inserted, held_out = (
        train(trainer, case, case.units(RECORDS, lanes=canaries), Constant(1.0))
        for canaries in (1, 0)
    )
    moved = inserted - held_out
    own = np.arange(len(moved) - groups * lanes, len(moved), lanes)
    norm = float(np.linalg.norm(moved[own])) / case.plan.clipping_norm
    elsewhere = float(np.abs(np.delete(moved, own)).max(initial=0.0))
    is_passed = 1 - _GRID_ROUNDING <= norm <= 1 + _ROUNDING
    is_passed &= elsewhere <= _SINGLE_ROUNDING * case.plan.clipping_norm
    return Found(
        is_passed,
        f"a canary read {norm:.6g} of the clipping norm in its lane and moved other coordinates"
        f" by {elsewhere:.2g} at most",
    )


def absent_units(trainer: Trainer, case: Case) -> Found:
    """Units that were not sampled change no bit: no scale depends on how many units there are."""
    whole = case.units(2 * RECORDS)
    coins = np.zeros(len(whole) + case.plan.lanes, dtype=np.bool_)
    coins[: RECORDS // 2] = True
    released = [
        train(trainer, case, units, Replayed(_SEED, coins))
        for units in (case.units(RECORDS), case.units(RECORDS + 1), whole)
    ]
    changed = max(_largest_change(each, released[0]) for each in released[1:])
    return Found(
        changed == 0,
        f"with 1 and with {RECORDS} further units that were not sampled, the release changed by"
        f" {changed:.3g} of its largest coordinate",
    )


def empty_record(trainer: Trainer, case: Case) -> Found:
    """A unit without a finite gradient contributes nothing, and divides nothing."""
    changed = 0.0
    for value in (np.nan, np.inf):
        units = with_last(case.units(RECORDS), value)
        released = [
            train(trainer, case, each, Constant(0.0)) for each in (units, without_last(units))
        ]
        kept = np.ones(case.length, dtype=np.bool_)
        # The threshold may count a unit without a gradient: it is bounded like all others.
        kept[case.dimension : case.dimension + case.plan.thresholds] = False
        changed = max(changed, _largest_change(released[0][kept], released[1][kept]))
    return Found(
        changed <= _SINGLE_ROUNDING,
        f"a record that is no number changed a release by {changed:.3g} of its largest coordinate",
    )


def exact_noise(trainer: Trainer, case: Case) -> Found:
    """Every coordinate gets the planned noise: with units, without any, and on an empty batch.

    The source gives 1 in place of each draw, so that what is released in excess of the exact sum is
    the noise's standard deviation.
    """
    case = case.one_step.as_they_are
    ratios = [np.ones(1)]
    nobody = np.zeros(2 * RECORDS, dtype=np.bool_)
    for threshold in case.thresholds():
        std = case.plan.noise_multiplier * case.norm_at(threshold)
        for units, coins in (
            (case.units(RECORDS), None),
            (case.units(1), None),
            (case.units(RECORDS), nobody),
            (case.units(0), None),
        ):
            loud, quiet = (
                train(trainer, case, units, Constant(value, coins), threshold=threshold)
                for value in (1.0, 0.0)
            )
            ratios.append((loud - quiet) / std)
    least, most = float(np.min(np.concatenate(ratios))), float(np.max(np.concatenate(ratios)))
    return Found(
        bool(least >= 1 - _NOISE_ROUNDING and most <= 1 + _NOISE_ROUNDING),
        f"noise on a coordinate was {least:.6g} to {most:.6g} times what is accounted",
    )


def exact_steps(trainer: Trainer, case: Case) -> Found | None:
    """A round of several steps adds noise in each: sums by as much, a delta as the steps move."""
    plan, network = case.plan, case.network.dimension
    loud, quiet = (train(trainer, case, case.units(0), Constant(v)) for v in (1.0, 0.0))
    added = (loud - quiet) / plan.noise_std
    expected = np.full(len(added), float(plan.local_steps))
    if plan.update == "delta":
        if not isinstance(plan.local_optimizer, LocalSgd):
            # Adam divides by what it saw: only the coordinates behind the model are sums.
            added, expected = added[network:], expected[network:]
        else:
            left = np.arange(plan.local_steps, 0, -1)
            momentum = plan.local_optimizer.momentum
            factors = (1 - momentum**left) / (1 - momentum)
            step = plan.local_learning_rate / EXPECTED_BATCH
            expected[:network] = -step * float(factors.sum())
    if not len(added):
        return None
    off = float(np.max(np.abs(added / expected - 1)))
    return Found(
        off <= _NOISE_ROUNDING,
        f"the noise of {plan.local_steps} steps was off by {off:.2g} of what is accounted",
    )


def _neighbourhoods(case: Case) -> Iterator[tuple[Units, float]]:
    """Data sets whose last unit is to be left out, and what the weights are multiplied with."""
    for scale in (0.1, 3.0, 1e3):
        yield case.units(RECORDS, scale=scale), 1.0
    for value in (np.nan, np.inf, _HUGE, 0.0):
        yield with_last(case.units(RECORDS), value), 1.0
    yield case.units(1), 1.0
    for weight_scale in (0.0, 1e3, _HUGE):
        yield case.units(RECORDS), weight_scale


def _difference(
    trainer: Trainer, case: Case, units: Units, threshold: float, weight_scale: float
) -> FloatVector:
    """What the last unit changes, everybody taking part, the same number for all noise."""
    more, less = (
        train(
            trainer,
            case,
            each,
            Constant(1.0),
            threshold=threshold,
            weight_scale=weight_scale,
        )
        for each in (units, without_last(units))
    )
    return more - less


def _norm(vector: FloatVector) -> float:
    """Infinite where the vector is no number: what is none is bounded by nothing."""
    norm = float(np.linalg.norm(vector))
    return math.inf if math.isnan(norm) else norm


def _largest_change(released: FloatVector, other: FloatVector) -> float:
    """Of a coordinate, over the largest coordinate of the other; infinite if not comparable."""
    with np.errstate(invalid="ignore"):
        scale = max(float(np.abs(other).max(initial=0.0)), 1e-12)
        change = float(np.abs(released - other).max(initial=0.0)) / scale
    return math.inf if math.isnan(change) else change
