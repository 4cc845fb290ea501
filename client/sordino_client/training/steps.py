"""DP-SGD as one site runs it in one round (Abadi et al. 2016, algorithm 1): sample, clip, noise.

What must stay true, whatever the records are: each step's noise is drawn even when the batch is
empty; every scale is a constant of the plan; the exact sum never leaves this file.

**The grid.** Noise in floating point leaks: the gaps between the doubles around sum + noise depend
on the sum, so some outputs prove which sum it was (Mironov 2012; Jin et al. 2022). Here the sum is
rounded to a grid with a power of two as its step, and so is the sum plus noise: the output says
which cell it fell into and nothing about low-order bits. Rounding may move two neighbouring sums
apart: their difference v becomes a multiple of the step that is less than |v| + step in every
coordinate, so its norm is less than |v| + step * sqrt(dimension). Units are therefore clipped to
`contribution_bound`, which is below the clipping norm C by that and by C * 2^-20 for the rounding
of the float64 sum: what the accountant is told, a sensitivity of C, is true of what is released.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from sordino_client.training.clipping import Units, clipped_sum
from sordino_client.training.noise import Noise
from sordino_client.training.sampling import poisson_sample
from sordino_protocols.models import FloatVector, ModelSpec, parameter_count
from sordino_protocols.plan import TrainingPlan

_STEPS_PER_NOISE_STD = 2.0**16
_GRID_SHARE = 2.0**-14
_SUMMATION_SHARE = 2.0**-20


@dataclass(frozen=True, slots=True)
class RoundResult:
    """One round's release.

    Attributes:
        vector: noisy sum of clipped gradients over the round's steps: the model's coordinates,
            then the lanes.
        is_private: whether the noise was secure. Only then does the plan's event describe it.
    """

    vector: FloatVector
    is_private: bool


def train_round(
    units: Units,
    weights: FloatVector,
    spec: ModelSpec,
    plan: TrainingPlan,
    *,
    expected_batch_size: float,
    noise: Noise,
) -> RoundResult:
    """Take the plan's steps of one round and release the sum of their noisy sums.

    The release satisfies what `plan.round_event` says under adding or removing one unit, whatever
    the weights are: they may come from an adversary.

    Args:
        units: records and inserted canaries.
        weights: flat model parameters, then `plan.lanes` weights of lanes.
        spec: the model.
        plan: sampling, clipping, noise and number of steps.
        expected_batch_size: a public constant, sampling rate times the declared order of
            magnitude; never the size of a batch. Scales the steps between a round's sums.
        noise: `SecureNoise` in the product.

    Returns:
        The release, as long as `weights`, in units of a gradient.

    Raises:
        ValueError: `weights` does not fit the model and the lanes, or a public constant is not
            positive.
    """
    if not (math.isfinite(expected_batch_size) and expected_batch_size > 0):
        raise ValueError(f"expected_batch_size is {expected_batch_size}; expected > 0")
    expected_size = parameter_count(spec, units.features.shape[1]) + plan.lanes
    if weights.shape != (expected_size,):
        raise ValueError(
            f"weights have shape {weights.shape}; model and {plan.lanes} lanes need {expected_size}"
        )
    local = np.array(weights, dtype=np.float64)
    released = np.zeros_like(local)
    with single_threaded():
        for _ in range(plan.local_steps):
            noisy = _noisy_step(units, local, spec, plan, noise=noise)
            released += noisy
            # Divide by a public constant: the size of a Poisson sample depends on the records.
            local -= plan.local_learning_rate * noisy / expected_batch_size
    return RoundResult(released, is_private=noise.is_secure)


def grid_step(plan: TrainingPlan, dimension: int) -> float:
    """The step of the release's grid: a power of two, far below the noise and the clipping norm.

    At most 2^-16 of the noise's standard deviation, and so small that rounding all `dimension`
    coordinates costs at most 2^-14 of the clipping norm.
    """
    finest = min(
        plan.noise_std / _STEPS_PER_NOISE_STD,
        plan.clipping_norm * _GRID_SHARE / math.sqrt(dimension),
    )
    return 2.0 ** math.floor(math.log2(finest))


def contribution_bound(plan: TrainingPlan, dimension: int) -> float:
    """What one unit's gradient is clipped to: a multiple of the grid's step, just below C.

    For any two sums that differ by a contribution of this norm, the rounded sums differ by at most
    `plan.clipping_norm`. An inserted canary that was sampled reads exactly this on its lane.
    """
    step = grid_step(plan, dimension)
    margin = step * math.sqrt(dimension) + plan.clipping_norm * _SUMMATION_SHARE
    return math.floor((plan.clipping_norm - margin) / step) * step


def _noisy_step(
    units: Units, weights: FloatVector, spec: ModelSpec, plan: TrainingPlan, *, noise: Noise
) -> FloatVector:
    batch = poisson_sample(len(units), sampling_rate=plan.sampling_rate, noise=noise)
    bound = contribution_bound(plan, len(weights))
    exact = clipped_sum(units, batch, weights, spec, bound=bound)
    step = grid_step(plan, len(weights))
    noisy = _to_grid(exact, step) + plan.noise_std * noise.standard_normal(len(weights))
    return _to_grid(noisy, step)


def _to_grid(vector: FloatVector, step: float) -> FloatVector:
    """The nearest multiple of `step`; exact, because `step` is a power of two."""
    return np.rint(vector / step) * step


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread, and denormals as zero: time depends less on the values of the records."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
