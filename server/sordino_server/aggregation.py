"""From the sites' noisy sums to the next weights: pure functions on arrays.

Every input is already private, so nothing here costs privacy; what must stay true is that one
site's bytes cannot poison the model unseen. An update is refused when it is not finite or longer
than clipping and noise can make it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import PeerError
from sordino_protocols.models import FloatVector
from sordino_protocols.optimizer import ServerOptimizer
from sordino_protocols.plan import TrainingPlan

# A declared order of magnitude may be off by half an order, and still be one.
_HALF_AN_ORDER = math.sqrt(10)
# ln of 1e9: an honest update passes the bound except with probability 1e-9.
_TAIL = 9 * math.log(10)


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server carries from round to round; all of it is public.

    Attributes:
        weights: flat model parameters, then one zero a lane: what the next round starts from.
        velocity: the running step of the momentum, as long as `weights`.
        average: mean of the weights of the rounds that count for it, as long as `weights`.
        average_count: how many rounds that mean is over.
        rounds_done: rounds taken.
    """

    weights: FloatVector
    velocity: FloatVector
    average: FloatVector
    average_count: int
    rounds_done: int


def initial_state(model_weights: FloatVector, *, lanes: int) -> ServerState:
    """The state before the first round, from the model's own initial parameters."""
    weights = np.concatenate([model_weights, np.zeros(lanes)])
    return ServerState(weights, np.zeros_like(weights), np.zeros_like(weights), 0, 0)


def check_update(
    vector: FloatVector, plan: TrainingPlan, *, dimension: int, expected_batch_size: float
) -> None:
    """Refuse an update that no honest site would send.

    Args:
        vector: one site's release of one round.
        plan: what the site had to run.
        dimension: model parameters and lanes together.
        expected_batch_size: the site's sampling rate times its declared order of magnitude.

    Raises:
        PeerError: wrong shape or dtype, a value that is not finite, or a norm above
            `largest_plausible_norm`.
    """
    if vector.shape != (dimension,) or vector.dtype != np.float64:
        raise PeerError(f"update is {vector.dtype}{vector.shape}; expected float64({dimension},)")
    if not np.isfinite(vector).all():
        raise PeerError("update holds a value that is not finite")
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(vector))
    largest = largest_plausible_norm(plan, dimension, expected_batch_size=expected_batch_size)
    if not norm <= largest:
        raise PeerError(f"update has norm {norm:.6g}; clip and noise give at most {largest:.6g}")


def largest_plausible_norm(
    plan: TrainingPlan, dimension: int, *, expected_batch_size: float
) -> float:
    """A norm that one honest round of one site exceeds with probability below 1e-9.

    It adds up the clipped contributions of the largest plausible Poisson batch (Chernoff), of one
    canary in each lane, and the norm of the noise (Laurent & Massart 2000, lemma 1). A site may
    hold half an order of magnitude more units than it declared.

    Args:
        plan: what the site had to run.
        dimension: model parameters and lanes together.
        expected_batch_size: the site's sampling rate times its declared order of magnitude.
    """
    tail = _TAIL + math.log(2 * plan.local_steps)
    mean = _HALF_AN_ORDER * expected_batch_size
    largest_batch = mean + math.sqrt(2 * mean * tail) + tail
    clipped = plan.local_steps * plan.clipping_norm * (largest_batch + math.sqrt(plan.lanes))
    noise = plan.noise_std * math.sqrt(plan.local_steps)
    return clipped + noise * (math.sqrt(dimension) + math.sqrt(2 * tail))


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


def advance(
    state: ServerState,
    noisy_sum: FloatVector,
    *,
    plan: TrainingPlan,
    expected_units: float,
    optimizer: ServerOptimizer,
) -> ServerState:
    """Take one step of the server's optimiser.

    Args:
        state: before the round.
        noisy_sum: the cohort's summed updates, as long as `state.weights`.
        plan: rounds and lanes. A lane's gradient does not depend on its weight, which stays zero.
        expected_units: a public constant: sampling rate times the declared order of magnitude,
            summed over the sites that answered.
        optimizer: learning rate, momentum and averaging.

    Returns:
        The state after the round.

    Raises:
        ValueError: a length or the constant does not fit, or the run has no further round.
    """
    if noisy_sum.shape != state.weights.shape:
        raise ValueError(f"sum has shape {noisy_sum.shape}; weights {state.weights.shape}")
    if not (math.isfinite(expected_units) and expected_units > 0):
        raise ValueError(f"expected_units is {expected_units}; expected > 0")
    if state.rounds_done >= plan.rounds:
        raise ValueError(f"all {plan.rounds} rounds are done")
    gradient = noisy_sum / expected_units
    gradient[len(gradient) - plan.lanes :] = 0
    velocity = optimizer.momentum * state.velocity + gradient
    weights = state.weights - optimizer.learning_rate * velocity
    average, count = state.average, state.average_count
    if state.rounds_done >= optimizer.average_from * plan.rounds:
        count += 1
        average = average + (weights - average) / count
    return ServerState(weights, velocity, average, count, state.rounds_done + 1)


def released_weights(state: ServerState, *, lanes: int) -> FloatVector:
    """The model a run ends with: the average where there is one, lanes taken off."""
    weights = state.average if state.average_count else state.weights
    return weights[: len(weights) - lanes].copy()
