"""DP-SGD as one site runs it in one round (Abadi et al. 2016, algorithm 1): sample, clip, noise.

What must stay true, whatever the records are: each step's noise is drawn even when the batch is
empty; every scale is a constant of the plan; the exact sum never leaves this file. A witness at the
site is shown what nobody else may see: the sampled canaries, and how long each layer's noise is.

**The grid.** Noise in floating point leaks: the gaps between the doubles around sum + noise depend
on the sum, so some outputs prove which sum it was (Mironov 2012; Jin et al. 2022). Here the sum is
rounded to a grid with a power of two as its step, and so is the sum plus noise: the output says
which cell it fell into and nothing about low-order bits. Rounding may move two neighbouring sums
apart: their difference v becomes a multiple of the step that is less than |v| + step in every
coordinate, and zero where v is. One unit reaches few coordinates: a record or an entity those of
the model and the threshold, a canary those of its own lane. With n of them the norm of the rounded
difference is less than |v| + step * sqrt(n). Units are therefore clipped to `contribution_bound`,
which is below the clipping norm C by that and by C * 2^-20 for the rounding of a float64 sum; what
single precision needs is taken off that bound by `clipping`, as `arithmetic` says. What the
accountant is told, a sensitivity of C, is true of what is released. Since n does not count lanes,
neither grid nor bound does: what is released of the model is the same with lanes and without.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from sordino_client.training.arithmetic import Performance
from sordino_client.training.clipping import check_rows_per_unit, clipped_sum, network_for
from sordino_client.training.grouping import with_places
from sordino_client.training.local_optimizers import LocalDescent
from sordino_client.training.network import Network
from sordino_client.training.noise import Noise, noisy_on_grid
from sordino_client.training.processor import single_threaded
from sordino_client.training.sampling import Indices, poisson_sample, shuffled
from sordino_client.training.tally import Tally
from sordino_client.training.units import Units, draw, rows_per_unit
from sordino_client.witness import LayerNoise, StepSeen, Witness
from sordino_protocols.clipping import AdaptiveClipping
from sordino_protocols.models import FloatVector, ModelSpec
from sordino_protocols.plan import TrainingPlan

_STEPS_PER_NOISE_STD = 2.0**16
_GRID_SHARE = 2.0**-14
_SUMMATION_SHARE = 2.0**-20
_NOTHING = np.zeros(0)


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One round's release.

    Attributes:
        vector: noisy sum of clipped gradients over the round's steps: the model's coordinates,
            then the threshold's under adaptive clipping, then the lanes', group by group. Where the
            plan's update is "delta", the model's are instead what the steps changed of its weights.
        is_private: whether the noise was secure. Only then does the plan's event describe it.
    """

    vector: FloatVector
    is_private: bool


def train_round(
    units: Units,
    weights: FloatVector,
    model: ModelSpec | Network,
    plan: TrainingPlan,
    *,
    expected_batch_size: float,
    noise: Noise,
    performance: Performance | None = None,
    witness: Witness | None = None,
    tally: Tally | None = None,
) -> RoundResult:
    """Take the plan's steps of one round and release what they come to.

    The release satisfies what `plan.round_event` says under adding or removing one unit, whatever
    the weights are: they may come from an adversary.

    Args:
        units: records or entities, and inserted canaries.
        weights: flat model parameters, then the threshold's under adaptive clipping, then
            `plan.lane_coordinates` weights of lanes.
        model: a job's model, or an admitted network, whose own loss and performance count.
        plan: sampling, clipping, noise and steps.
        expected_batch_size: a public constant, sampling rate times the declared order of
            magnitude of units; never the size of a batch. Scales the steps between the sums.
        noise: `SecureNoise` in the product.
        performance: how fast to compute; touches no privacy.
        witness: is shown each step, for the site alone; changes nothing.
        tally: is told of the last step's batch, for the site alone; changes nothing.

    Returns:
        The release, as long as `weights`: sums are in units of a gradient.

    Raises:
        ValueError: `weights` does not fit the model and what is behind it, a public constant is
            not positive, or the plan's units are not those of `units`.
        InputError: the model cannot be trained, or not on units of so many rows.
    """
    if not (math.isfinite(expected_batch_size) and expected_batch_size > 0):
        raise ValueError(f"expected_batch_size is {expected_batch_size}; expected > 0")
    network = network_for(model, units.features.shape[1], plan.loss, performance=performance)
    dimension = network.dimension
    check_rows_per_unit(network, rows_per_unit(plan))
    _check_weights(weights, dimension, plan)
    plan = at_threshold(plan, weights[dimension : dimension + plan.thresholds])
    descent = LocalDescent(
        plan.local_optimizer,
        learning_rate=plan.local_learning_rate,
        noise_std=plan.noise_std / expected_batch_size,
    )
    local = weights.astype(np.float64, copy=False)
    released = _NOTHING
    with single_threaded():
        for step in range(plan.local_steps):
            is_last = step + 1 == plan.local_steps
            noted = tally if is_last else None
            noisy = _noisy_step(
                units, local, network, plan, noise=noise, witness=witness, tally=noted
            )
            if not is_last or plan.update == "delta":
                # Divide by a public constant: the size of a Poisson sample depends on the records.
                move = descent.step(noisy[:dimension] / expected_batch_size)
                local = np.concatenate([local[:dimension] + move, local[dimension:]])
            released = noisy if step == 0 else np.add(released, noisy, out=released)
    if plan.update == "delta":
        released[:dimension] = local[:dimension] - weights[:dimension]
    return RoundResult(released, is_private=noise.is_secure)


def at_threshold(plan: TrainingPlan, weight: FloatVector) -> TrainingPlan:
    """The plan with the clipping norm of one round; under all but adaptive clipping, the plan.

    Noise, grid and contributions scale with the norm, so the event is the same.

    Args:
        plan: the job's.
        weight: [thresholds], of the threshold's coordinate; what is no number counts as 0.
    """
    if not isinstance(plan.clipping, AdaptiveClipping):
        return plan
    logarithm = 0.0 if np.isnan(weight[0]) else float(weight[0])
    return replace(plan, clipping_norm=plan.clipping.norm(plan.clipping_norm, logarithm))


def grid_step(plan: TrainingPlan, dimension: int) -> float:
    """The step of the release's grid: a power of two, far below the noise and the clipping norm.

    At most 2^-16 of the noise's standard deviation, and so small that rounding all coordinates that
    one unit can reach costs at most 2^-14 of the clipping norm.

    Args:
        plan: of the round.
        dimension: parameters of the model.
    """
    finest = min(
        plan.noise_std / _STEPS_PER_NOISE_STD,
        plan.clipping_norm * _GRID_SHARE / math.sqrt(_reach(plan, dimension)),
    )
    return 2.0 ** math.floor(math.log2(finest))


def contribution_bound(plan: TrainingPlan, dimension: int) -> float:
    """What one unit's gradient is clipped to: a multiple of the grid's step, just below C.

    For any two sums that differ by a contribution of this norm, the rounded sums differ by at most
    `plan.clipping_norm`. An inserted canary that was sampled adds a vector of this norm, equal in
    all coordinates of its lane.

    Args:
        plan: of the round.
        dimension: parameters of the model.
    """
    step = grid_step(plan, dimension)
    margin = step * math.sqrt(_reach(plan, dimension)) + plan.clipping_norm * _SUMMATION_SHARE
    return math.floor((plan.clipping_norm - margin) / step) * step


def _reach(plan: TrainingPlan, dimension: int) -> int:
    """Coordinates of the release that one unit can change."""
    return max(dimension + plan.thresholds, plan.lane_groups)


def _noisy_step(
    units: Units,
    weights: FloatVector,
    network: Network,
    plan: TrainingPlan,
    *,
    noise: Noise,
    witness: Witness | None,
    tally: Tally | None,
) -> FloatVector:
    records, canaries = _sample(units, network, plan, noise=noise)
    drawn = draw(units, records, plan, noise=noise)
    exact = clipped_sum(
        units,
        np.concatenate([records, canaries]),
        weights,
        network,
        bound=contribution_bound(plan, network.dimension),
        rule=plan.clipping,
        drawn=drawn,
        lane_groups=plan.lane_groups,
        tally=tally,
    )
    step = grid_step(plan, network.dimension)
    noisy = noisy_on_grid(exact, noise=noise, noise_std=plan.noise_std, step=step)
    if witness is not None:
        layers = _noise_by_layer(noisy[: network.dimension], exact[: network.dimension], network)
        noted = tuple(LayerNoise(squares / plan.noise_std**2, count) for squares, count in layers)
        lanes = units.canary_lanes[canaries - units.with_records]
        witness.note(StepSeen(_coins(lanes, plan), _readings(noisy, plan), noted))
    return noisy


def _sample(
    units: Units, network: Network, plan: TrainingPlan, *, noise: Noise
) -> tuple[Indices, Indices]:
    """A Poisson sample: units with records, in random order where rounding asks it; canaries."""
    batch = poisson_sample(len(units), sampling_rate=plan.sampling_rate, noise=noise)
    is_canary = batch >= units.with_records
    records, canaries = batch[~is_canary], batch[is_canary]
    if with_places(network.arithmetic, rows_per_unit(plan)).needs_random_order:
        records = shuffled(records, noise=noise)
    return records, canaries


def _noise_by_layer(
    noisy: FloatVector, exact: FloatVector, network: Network
) -> Iterator[tuple[float, int]]:
    """Squared length of the noise in each layer, and the layer's number of coordinates."""
    # Torch's product stays on this thread; numpy's would start others.
    drawn = torch.from_numpy(noisy - exact)
    for layer in network.layers:
        parts = [span.of(drawn) for span in layer.spans.values()]
        yield sum(float(part @ part) for part in parts), sum(map(len, parts))


def _coins(lanes: Indices, plan: TrainingPlan) -> npt.NDArray[np.bool_]:
    """By lane, whether it is one of `lanes`."""
    sampled = np.zeros(plan.lanes, dtype=np.bool_)
    sampled[lanes] = True
    return sampled


def _readings(noisy: FloatVector, plan: TrainingPlan) -> npt.NDArray[np.float32]:
    """[groups, lanes], over the clipping norm."""
    lanes = noisy[len(noisy) - plan.lane_coordinates :].reshape(plan.lane_groups, plan.lanes)
    return (lanes / plan.clipping_norm).astype(np.float32)


def _check_weights(weights: FloatVector, dimension: int, plan: TrainingPlan) -> None:
    expected = dimension + plan.extra_coordinates
    if weights.shape != (expected,):
        raise ValueError(
            f"weights have shape {weights.shape}; model, {plan.thresholds} thresholds and "
            f"{plan.lanes} lanes of {plan.lane_groups} coordinates need {expected}"
        )
