"""The server's optimisers: from what a cohort released to the next weights, as pure functions.

They work on noisy sums and public constants alone, so they cost no privacy. What must stay true:
the next state is a function of the state, the releases and the job, so that a run that was
interrupted between two rounds ends with the same model as one that was not; a lane's weight stays
zero.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np

from sordino_protocols.adam import AdamState, adam_step
from sordino_protocols.clipping import LARGEST_ADAPTATION, AdaptiveClipping
from sordino_protocols.models import FloatVector
from sordino_protocols.optimizer import (
    AdamOptimizer,
    ServerOptimizer,
    SgdOptimizer,
    SgldOptimizer,
)
from sordino_protocols.plan import TrainingPlan
from sordino_server.aggregation import (
    CohortRelease,
    clipping_norm_at,
    gradient_noise_variance,
    mean_gradient,
)
from sordino_server.langevin import langevin_step


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the server carries from round to round; all of it is public.

    Attributes:
        weights: flat model parameters, the threshold's under adaptive clipping, then a zero for
            each of the lanes' coordinates: what the next round starts from.
        first_moment: the momentum's running step, or Adam's first moment; of the model alone.
        second_moment: Adam's second moment, else zeros; of the model alone.
        average: of the model's parameters over the rounds that count for it.
        average_count: how many rounds that average is over.
        rounds_done: rounds taken.
    """

    weights: FloatVector
    first_moment: FloatVector
    second_moment: FloatVector
    average: FloatVector
    average_count: int
    rounds_done: int


def initial_state(model_weights: FloatVector, plan: TrainingPlan) -> ServerState:
    """The state before the first round, from the model's own initial parameters."""
    zeros = np.zeros_like(model_weights)
    weights = np.concatenate([model_weights, np.zeros(plan.extra_coordinates)])
    return ServerState(weights, zeros, zeros, zeros, 0, 0)


def advance(
    state: ServerState,
    release: CohortRelease,
    *,
    plan: TrainingPlan,
    optimizer: ServerOptimizer,
    seed: bytes,
) -> ServerState:
    """Take one step of the server's optimiser.

    Args:
        state: before the round.
        release: of the sites that answered.
        plan: what they ran.
        optimizer: the job's.
        seed: public bytes that differ from job to job, such as the job's digest; only the noise
            that a server adds for DP-SGLD depends on them.

    Returns:
        The state after the round.

    Raises:
        ValueError: a length or a constant does not fit, the optimiser does not go with the plan, or
            the run has no further round.
    """
    if release.total.shape != state.weights.shape:
        raise ValueError(f"sum has shape {release.total.shape}; weights {state.weights.shape}")
    if state.rounds_done >= plan.rounds:
        raise ValueError(f"all {plan.rounds} rounds are done")
    if plan.update == "delta" and not isinstance(optimizer, SgdOptimizer):
        raise ValueError("a delta is no gradient: only SgdOptimizer can follow it")
    stepped = _step(state, release, plan=plan, optimizer=optimizer, seed=seed)
    stepped = replace(stepped, rounds_done=state.rounds_done + 1)
    if state.rounds_done >= optimizer.average_from * plan.rounds:
        return _with_average(stepped, plan=plan, decay=optimizer.average_decay)
    return stepped


def released_weights(state: ServerState, plan: TrainingPlan) -> FloatVector:
    """The model a run ends with: the average where there is one, and no threshold or lane."""
    return (state.average if state.average_count else _model_of(state, plan)).copy()


def _step(
    state: ServerState,
    release: CohortRelease,
    *,
    plan: TrainingPlan,
    optimizer: ServerOptimizer,
    seed: bytes,
) -> ServerState:
    """The state with new weights and moments."""
    gradient = mean_gradient(release, plan)
    factor = optimizer.schedule.factor(state.rounds_done, steps=plan.rounds)
    rate = optimizer.learning_rate * factor
    noise_variance = gradient_noise_variance(
        plan,
        sites=release.sites,
        units=release.units,
        clipping_norm=clipping_norm_at(state.weights, plan),
    )
    model = _model_of(state, plan)
    first, second = state.first_moment, state.second_moment
    match optimizer:
        case SgdOptimizer():
            first = optimizer.momentum * first + gradient
            model = _decayed(model, rate * optimizer.weight_decay) - rate * first
        case AdamOptimizer():
            direction, moments = adam_step(
                AdamState(first, second, state.rounds_done),
                gradient,
                noise_variance=noise_variance,
                beta1=optimizer.beta1,
                beta2=optimizer.beta2,
                stability=optimizer.stability,
            )
            first, second = moments.first, moments.second
            model = _decayed(model, rate * optimizer.weight_decay) - rate * direction
        case SgldOptimizer():
            model = langevin_step(
                model,
                gradient,
                rate=rate,
                units=release.units,
                noise_variance=noise_variance,
                optimizer=optimizer,
                rng=_public_generator(seed, state.rounds_done),
            )
        case _:
            assert_never(optimizer)
    lanes = np.zeros(plan.lane_coordinates)
    weights = np.concatenate([model, _next_threshold(state, release, plan), lanes])
    return replace(state, weights=weights, first_moment=first, second_moment=second)


def _model_of(state: ServerState, plan: TrainingPlan) -> FloatVector:
    return state.weights[: len(state.weights) - plan.extra_coordinates]


def _decayed(model: FloatVector, share: float) -> FloatVector:
    """Weight decay beside the gradient's step, not through it (Loshchilov & Hutter 2019)."""
    return model * (1 - min(share, 1.0))


def _next_threshold(state: ServerState, release: CohortRelease, plan: TrainingPlan) -> FloatVector:
    """The threshold's logarithm follows the quantile (Andrew et al. 2021, section 2.1).

    With b the share of units below the threshold, their update is `log C -= rate * (b - quantile)`;
    the mean bit is that difference over the larger of the quantile and what it leaves.

    Returns:
        One weight under adaptive clipping, else none.
    """
    rule, index = plan.clipping, len(state.weights) - plan.extra_coordinates
    if not isinstance(rule, AdaptiveClipping):
        return np.zeros(0)
    largest_bit = rule.share * clipping_norm_at(state.weights, plan)
    expected_units = plan.sampling_rate * release.units * plan.local_steps
    mean_bit = float(release.total[index]) / (largest_bit * expected_units)
    # A mean of bits is in [-1, 1]; noise, or one site, is kept from throwing the threshold away.
    difference = min(max(mean_bit, -1.0), 1.0) * max(rule.quantile, 1 - rule.quantile)
    bound = math.log(LARGEST_ADAPTATION)
    moved = float(state.weights[index]) - rule.learning_rate * difference
    # As float32, which is what sites are sent: all of them must see the same clipping norm.
    return np.array([np.float32(min(max(moved, -bound), bound))], dtype=np.float64)


def _with_average(state: ServerState, *, plan: TrainingPlan, decay: float | None) -> ServerState:
    """Count the state's weights into the average.

    An exponential average that starts at zero and is divided by `1 - decay^n` (Kingma & Ba 2015,
    section 3) is the one that gives its n-th value the share below.
    """
    count = state.average_count + 1
    share = 1 / count if decay is None else (1 - decay) / (1 - decay**count)
    average = state.average + share * (_model_of(state, plan) - state.average)
    return replace(state, average=average, average_count=count)


def _public_generator(seed: bytes, number: int) -> np.random.Generator:
    """Noise that no privacy rests on: a restart that takes the step again repeats it."""
    digest = hashlib.sha256(b"sordino/langevin/1\n" + seed + number.to_bytes(8, "big")).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
