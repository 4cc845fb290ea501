"""Probes of what is random in the product: secret noise and secret coins, as they come.

Each is made of exact tests that share `chance.FALSE_ALARM` as their level.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.probes.chance import (
    FALSE_ALARM,
    measured_scale,
    rate_p_value,
    ratio_p_value,
    scale_p_value,
    smallest,
)
from sordino_audit.probes.found import Found
from sordino_audit.probes.sources import CoinsOnly
from sordino_audit.probes.trainer import RECORDS, Case, Trainer, train
from sordino_client.training.noise import SecureNoise
from sordino_client.training.steps import grid_step
from sordino_protocols.local_training import LOCAL_SGD

Floats = NDArray[np.float64]
Sampled = NDArray[np.bool_]

ROUNDS = 12
"""Rounds whose noise is weighed."""
_CANARIES, _STEPS, _RATE = 100, 40, 0.3
_FAR = 3.0
# Noise over the clipping norm beside which the records are nothing.
_LOUD = 1e4


def noise_scale(trainer: Trainer, case: Case) -> Found:
    """With no unit at all each array of parameters still gets the planned noise."""
    case = case.one_step
    draws = _releases(trainer, case, units=0) / case.plan.noise_std
    spans = [span for layer in case.network.layers for span in layer.spans.values()]
    parts = [draws[:, span.start : span.stop] for span in spans]
    parts += [draws[:, case.dimension :], draws]
    p_value = smallest([scale_p_value(part) for part in parts if part.size])
    return Found(
        p_value > FALSE_ALARM,
        f"noise was {measured_scale(draws):.4f} times what is accounted ({len(spans)} arrays of"
        f" parameters, corrected p-value {p_value:.2g})",
    )


def noise_with_units(trainer: Trainer, case: Case) -> Found:
    """With units the noise is the planned one, too: no batch makes it smaller."""
    case = case.one_step.as_they_are
    case = replace(case, plan=replace(case.plan, sampling_rate=1.0))
    draws = _releases(trainer, case, units=RECORDS)
    # The exact sum is the same in all of them.
    spread = (draws[::2] - draws[1::2]) / (math.sqrt(2) * case.plan.noise_std)
    p_value = scale_p_value(spread)
    return Found(
        p_value > FALSE_ALARM,
        f"noise around the sum was {measured_scale(spread):.4f} times what is accounted"
        f" (p-value {p_value:.2g})",
    )


def freshness(trainer: Trainer, case: Case) -> Found:
    """No two rounds share noise, nor do a round's steps."""
    one = case.one_step
    draws = _releases(trainer, one, units=0) / one.plan.noise_std
    rounds = (draws[::2] - draws[1::2]) / math.sqrt(2)
    several = replace(one, plan=replace(one.plan, local_steps=2))
    steps = _releases(trainer, several, units=0) / (math.sqrt(2) * one.plan.noise_std)
    p_value = smallest([scale_p_value(rounds), scale_p_value(steps)])
    return Found(
        p_value > FALSE_ALARM,
        f"the difference of two rounds' noise was {measured_scale(rounds):.4f} times that of"
        f" independent noise, the sum of two steps' {measured_scale(steps):.4f} times"
        f" (corrected p-value {p_value:.2g})",
    )


def unit_count(trainer: Trainer, case: Case) -> Found:
    """One unit more, or twice as many, changes no scale of what is released of the model.

    Watched with noise that drowns the records: the ratio of two noise variances of any scale has an
    F distribution. Unlike `replay.absent_units` it asks nothing of where the trainer's randomness
    comes from.
    """
    plan = replace(
        case.plan, update="delta", local_steps=1, local_optimizer=LOCAL_SGD, noise_multiplier=_LOUD
    )
    case = replace(case, plan=plan)
    first, *others = (
        _releases(trainer, case, units=units)[:, : case.dimension]
        for units in (RECORDS, RECORDS + 1, 2 * RECORDS)
    )
    p_value = smallest([ratio_p_value(first, each) for each in others])
    scales = [measured_scale(each) / measured_scale(first) for each in others]
    return Found(
        p_value > FALSE_ALARM,
        f"with 1 and with {RECORDS} units more, the scale of a release was {scales[0]:.3f} and"
        f" {scales[1]:.3f} times as large (corrected p-value {p_value:.2g})",
    )


def grid(trainer: Trainer, case: Case) -> Found:
    """Every released number lies on the plan's grid: no low-order bit tells which sum it was."""
    case = case.one_step
    step = grid_step(case.plan, case.dimension)
    cells = train(trainer, case, case.units(RECORDS), SecureNoise()) / step
    share = float(np.mean(cells == np.rint(cells)))
    return Found(
        share == 1,
        f"{100 * share:.4g} % of the released numbers were multiples of the grid's step,"
        f" {step:.3g}",
    )


def sampling(trainer: Trainer, case: Case) -> Found:
    """Each unit enters on a coin of its own, of the probability that is accounted.

    Watched through canaries without noise. A wrong rate, batches of one size, batches that vary too
    much, and coins that two units or two steps share all show.
    """
    hits = _sampled(trainer, case)
    sizes = hits.sum(axis=1)
    p_value = smallest(
        [
            rate_p_value(int(hits.sum()), hits.size, _RATE),
            *_size_p_values(sizes),
            _pair_p_value(hits[:, ::2], hits[:, 1::2]),
            _pair_p_value(hits[::2], hits[1::2]),
        ]
    )
    spread = float(np.var(sizes)) / (_CANARIES * _RATE * (1 - _RATE))
    return Found(
        p_value > FALSE_ALARM,
        f"{100 * float(hits.mean()):.2f} % of the canaries were sampled where {100 * _RATE:g} % is"
        f" accounted, and the sizes of batches varied {spread:.2f} times as much as with"
        f" independent coins (corrected p-value {p_value:.2g})",
    )


def _sampled(trainer: Trainer, case: Case) -> Sampled:
    """Which canaries were in each step's batch, [steps, canaries]."""
    plan = replace(case.one_step.plan, sampling_rate=_RATE, lanes=_CANARIES)
    case = replace(case, plan=plan)
    units = case.units(0, lanes=_CANARIES)
    rounds = [train(trainer, case, units, CoinsOnly()) for _ in range(_STEPS)]
    # The first group's coordinates of all lanes.
    first = case.length - plan.lane_coordinates
    bar = plan.clipping_norm / math.sqrt(plan.lane_groups) / 2
    return np.stack([each[first : first + _CANARIES] > bar for each in rounds])


def _size_p_values(sizes: NDArray[np.int64]) -> tuple[float, float]:
    """That as many batches have the likeliest size, and that as many are far from it."""
    numbers = np.arange(_CANARIES + 1)
    chances = stats.binom.pmf(numbers, _CANARIES, _RATE)
    mean, middle = _CANARIES * _RATE, int(np.argmax(chances))
    reach = _FAR * math.sqrt(mean * (1 - _RATE))
    is_far = np.abs(numbers - mean) > reach
    return (
        rate_p_value(int(np.sum(sizes == middle)), len(sizes), float(chances[middle])),
        rate_p_value(int(np.sum(is_far[sizes])), len(sizes), float(chances[is_far].sum())),
    )


def _pair_p_value(first: Sampled, second: Sampled) -> float:
    """That two coins are true together as often as independent ones."""
    together = first & second
    return rate_p_value(int(together.sum()), together.size, _RATE**2)


def _releases(trainer: Trainer, case: Case, *, units: int) -> Floats:
    """What so many rounds release, [rounds, coordinates]."""
    made_up = case.units(units)
    return np.stack([train(trainer, case, made_up, SecureNoise()) for _ in range(ROUNDS)])
