"""From the sites' releases to what a cohort released together: pure functions on arrays.

Every input is already private, so nothing here costs privacy; what must stay true is that one
site's bytes cannot poison the model unseen. An update is refused when it is not finite or longer
than clipping and noise can make it; what a site can do with one that is not, the job's rule bounds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import numpy.typing as npt

from sordino_protocols.aggregation_rules import (
    MEAN,
    AggregationRule,
    KrumAggregation,
    MeanAggregation,
    MedianAggregation,
    TrimmedMeanAggregation,
)
from sordino_protocols.clipping import AdaptiveClipping
from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.local_training import LocalAdam, LocalSgd
from sordino_protocols.models import FloatVector
from sordino_protocols.plan import TrainingPlan
from sordino_server.robust_statistics import krum, median, trimmed_mean

# A declared order of magnitude may be off by half an order, and still be one.
_HALF_AN_ORDER = math.sqrt(10)
# ln of 1e9: an honest update passes the bounds except with probability 1e-9.
_TAIL = 9 * math.log(10)


@dataclass(frozen=True, slots=True)
class CohortRelease:
    """What the sites that answered a round released together.

    Attributes:
        total: summed over the sites, as long as the weights. Under `update` "delta" the model's
            part of each site is first multiplied with its units.
        units: declared order of magnitude, summed over the sites.
        sites: how many they are.
    """

    total: FloatVector
    units: int
    sites: int


def clipping_norm_at(weights: FloatVector, plan: TrainingPlan) -> float:
    """The clipping norm C of a round that starts from these weights: the same at every site.

    Args:
        weights: of the model, the threshold and the lanes, in any floating-point type.
        plan: what the sites run.
    """
    if not isinstance(plan.clipping, AdaptiveClipping):
        return plan.clipping_norm
    threshold = float(weights[len(weights) - plan.extra_coordinates])
    return plan.clipping.norm(plan.clipping_norm, threshold)


def check_update(
    vector: FloatVector,
    plan: TrainingPlan,
    *,
    dimension: int,
    expected_batch_size: float,
    clipping_norm: float,
) -> None:
    """Refuse an update that no honest site would send.

    An honest one passes except with probability 1e-9, whatever the records are.

    Args:
        vector: one site's release of one round.
        plan: what the site had to run.
        dimension: length of the weights: model, threshold and lanes.
        expected_batch_size: the site's sampling rate times its declared order of magnitude.
        clipping_norm: of this round, from `clipping_norm_at`.

    Raises:
        PeerError: wrong shape or dtype, a value that is not finite, or a norm above
            `largest_plausible_norm` or `largest_plausible_delta`.
    """
    if vector.shape != (dimension,) or vector.dtype != np.float64:
        raise PeerError(f"update is {vector.dtype}{vector.shape}; expected float64({dimension},)")
    if not np.isfinite(vector).all():
        raise PeerError("update holds a value that is not finite")
    sums = vector
    if plan.update == "delta":
        model = dimension - plan.extra_coordinates
        sums = vector[model:]
        largest = largest_plausible_delta(
            plan, model, expected_batch_size=expected_batch_size, clipping_norm=clipping_norm
        )
        _require_at_most(largest, vector[:model], "the change of the model")
    largest = largest_plausible_norm(
        plan, len(sums), expected_batch_size=expected_batch_size, clipping_norm=clipping_norm
    )
    _require_at_most(largest, sums, "update")


def largest_plausible_norm(
    plan: TrainingPlan, dimension: int, *, expected_batch_size: float, clipping_norm: float
) -> float:
    """A norm that `dimension` coordinates of one honest round's noisy sums do not exceed.

    It adds up the clipped contributions of the largest plausible Poisson batch (Chernoff), of one
    canary in each lane, and the norm of the noise (Laurent & Massart 2000, lemma 1). A site may
    hold half an order of magnitude more units than it declared. Together with
    `largest_plausible_delta` it is wrong with probability below 1e-9.

    Args:
        plan: what the site had to run.
        dimension: number of coordinates.
        expected_batch_size: the site's sampling rate times its declared order of magnitude.
        clipping_norm: of this round.
    """
    batch = _largest_batch(plan, expected_batch_size) + math.sqrt(plan.lanes)
    noise = math.sqrt(plan.local_steps) * _noise_norm(plan, dimension)
    return clipping_norm * (plan.local_steps * batch + noise)


def largest_plausible_delta(
    plan: TrainingPlan, dimension: int, *, expected_batch_size: float, clipping_norm: float
) -> float:
    """A norm that the model's part of one honest delta does not exceed.

    With momentum m, the sum of step j of t goes into the t - j + 1 last steps: its factor is
    (1 - m^(t - j + 1)) / (1 - m). A step of Adam is a weighted mean of the gradients over a root
    that is at least `stability`; the bound is as loose as that root can be small, because an
    honest second moment that is all noise leaves no more than `stability`.

    Args:
        plan: what the site had to run.
        dimension: number of the model's parameters.
        expected_batch_size: the site's sampling rate times its declared order of magnitude.
        clipping_norm: of this round.
    """
    batch, noise = _largest_batch(plan, expected_batch_size), _noise_norm(plan, dimension)
    scale = plan.local_learning_rate * clipping_norm / expected_batch_size
    match plan.local_optimizer:
        case LocalSgd(momentum=momentum):
            left = np.arange(plan.local_steps, 0, -1)
            factors = (1 - momentum**left) / (1 - momentum)
            return scale * (float(factors.sum()) * batch + float(np.linalg.norm(factors)) * noise)
        case LocalAdam(stability=stability):
            return scale * plan.local_steps * (batch + noise) / stability
        case _:
            assert_never(plan.local_optimizer)


def aggregate(
    updates: Sequence[FloatVector],
    units: Sequence[int],
    plan: TrainingPlan,
    *,
    rule: AggregationRule = MEAN,
) -> CohortRelease:
    """What a round's sites released together, the same in whatever order they answered.

    Under another rule than the mean every site counts alike: what a site says of its own size must
    not give it a larger vote. The total is that of a cohort whose sites all released the location
    that the rule finds.

    Args:
        updates: one a site.
        units: their declared orders of magnitude, in the same order.
        plan: decides whether updates are sums or deltas.
        rule: the job's.

    Raises:
        ValueError: no update, or lengths that do not fit.
        InputError: fewer updates than the rule needs.
    """
    if len(units) != len(updates):
        raise ValueError(f"{len(updates)} updates of {len(units)} sites")
    if not isinstance(rule, MeanAggregation):
        location = _robust_location(updates, units, plan, rule)
        return CohortRelease(location * sum(units), sum(units), len(updates))
    if plan.update == "delta":
        updates = [
            _weighted(update, number, plan) for update, number in zip(updates, units, strict=True)
        ]
    return CohortRelease(sum_updates(updates), sum(units), len(updates))


def sum_updates(updates: Sequence[FloatVector]) -> FloatVector:
    """The sum of the cohort's updates, float64, the same in whatever order they came in.

    Raises:
        ValueError: no update, or updates of different lengths.
    """
    if not updates:
        raise ValueError("no update to sum: a round without a quorum has no result")
    if len({update.shape for update in updates}) > 1:
        raise ValueError("updates of different lengths")
    # Sorted by value: floating-point addition is not associative, and answers come in any order.
    stacked: npt.NDArray[np.float64] = np.sort(np.stack(updates), axis=0)
    return np.asarray(stacked.sum(axis=0), dtype=np.float64)


def mean_gradient(release: CohortRelease, plan: TrainingPlan) -> FloatVector:
    """The model's noisy mean gradient, summed over a round's steps; of deltas, minus their mean.

    Sites count by their public orders of magnitude, never by the size of a batch.

    Raises:
        ValueError: the public constant is not positive.
    """
    dimension = len(release.total) - plan.extra_coordinates
    if release.units < 1:
        raise ValueError(f"the sites' units are {release.units}; expected at least 1")
    if plan.update == "delta":
        return -release.total[:dimension] / release.units
    return release.total[:dimension] / (plan.sampling_rate * release.units)


def gradient_noise_variance(
    plan: TrainingPlan, *, sites: int, units: int, clipping_norm: float
) -> float:
    """The variance of the noise on one coordinate of `mean_gradient`, of sums and not of deltas.

    Args:
        plan: what the sites ran.
        sites: how many answered, each with noise of its own.
        units: their summed declared orders of magnitude.
        clipping_norm: of the round.
    """
    std = plan.noise_multiplier * clipping_norm / (plan.sampling_rate * units)
    return sites * plan.local_steps * std**2


def _robust_location(
    updates: Sequence[FloatVector],
    units: Sequence[int],
    plan: TrainingPlan,
    rule: TrimmedMeanAggregation | MedianAggregation | KrumAggregation,
) -> FloatVector:
    """The rule's location of what each site released per unit that it declares."""
    if len(updates) < rule.least_sites:
        raise InputError(
            f"cohort.aggregation = '{rule.kind}' needs the updates of {rule.least_sites} sites;"
            f" there are {len(updates)}"
        )
    pairs = zip(updates, units, strict=True)
    vectors = np.stack([_per_unit(update, number, plan) for update, number in pairs])
    match rule:
        case TrimmedMeanAggregation(bad_sites=bad_sites):
            return trimmed_mean(vectors, bad_sites=bad_sites)
        case MedianAggregation():
            return median(vectors)
        case KrumAggregation(bad_sites=bad_sites, keep=keep):
            dimension = vectors.shape[1] - plan.extra_coordinates
            return krum(vectors, bad_sites=bad_sites, keep=keep, dimension=dimension)
        case _:
            assert_never(rule)


def _per_unit(update: FloatVector, units: int, plan: TrainingPlan) -> FloatVector:
    """Of a delta the model's part is that already."""
    scaled = update / units
    if plan.update == "delta":
        model = len(update) - plan.extra_coordinates
        scaled[:model] = update[:model]
    return scaled


def _weighted(update: FloatVector, units: int, plan: TrainingPlan) -> FloatVector:
    weighted = update.copy()
    weighted[: len(update) - plan.extra_coordinates] *= units
    return weighted


def _require_at_most(largest: float, part: FloatVector, name: str) -> None:
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(part))
    if not norm <= largest:
        raise PeerError(f"{name} has norm {norm:.6g}; clip and noise give at most {largest:.6g}")


def _tail(plan: TrainingPlan) -> float:
    """Of each of at most `2 * local_steps + 2` bounds on a batch or on noise that a check uses."""
    return _TAIL + math.log(2 * plan.local_steps + 2)


def _largest_batch(plan: TrainingPlan, expected_batch_size: float) -> float:
    tail, mean = _tail(plan), _HALF_AN_ORDER * expected_batch_size
    return mean + math.sqrt(2 * mean * tail) + tail


def _noise_norm(plan: TrainingPlan, dimension: int) -> float:
    """Of one step's noise, in units of the clipping norm."""
    return plan.noise_multiplier * (math.sqrt(dimension) + math.sqrt(2 * _tail(plan)))
