"""How much of a job would fit into what is left of a budget.

Whether something fits is asked of a function, such as a ledger's, and only ever of whole plans. The
answers are found by bisection, which is right because fewer rounds and more noise never cost more.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from sordino_protocols.job import Job
from sordino_protocols.plan import RunPlan
from sordino_protocols.privacy import LARGEST_DISCRETE_STD, Event

Fits = Callable[[Event], bool]

_LARGEST_NOISE = LARGEST_DISCRETE_STD
# Between the noise that is named and the smallest that would do.
_WASTE = 1e-3


def rounds_that_fit(job: Job, fits: Fits) -> int:
    """How many of the job's rounds fit, with its evaluation and statistics; 0 for none.

    Args:
        job: as priced; a validation has no rounds.
        fits: whether an event does; must stay true when an event costs less.
    """
    plan = job.plan
    if plan.training is None:
        return 0
    low, high = 0, plan.training.rounds + 1
    while high - low > 1:
        middle = (low + high) // 2 if high <= plan.training.rounds else plan.training.rounds
        low, high = (middle, high) if fits(_with_rounds(plan, middle)) else (low, middle)
    return low


def noise_that_fits(job: Job, fits: Fits) -> float | None:
    """The smallest training noise, to a thousandth, with which the whole job fits.

    Never less than the job has. Of a validation it is the evaluation's noise.

    Args:
        job: as priced.
        fits: whether an event does; must stay true when an event costs less.

    Returns:
        A noise multiplier of four digits; None if no noise is enough, because another part of the
        plan costs too much or nothing is left.
    """
    plan = job.plan
    least = plan.evaluation.noise_multiplier
    if plan.training is not None:
        least = plan.training.noise_multiplier
    if fits(plan.event):
        return least
    if least >= _LARGEST_NOISE or not fits(_with_noise(plan, _LARGEST_NOISE)):
        return None
    low, high = least, _LARGEST_NOISE
    while high / low > 1 + _WASTE / 2:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(_with_noise(plan, middle)) else (middle, high)
    return _rounded_up(high)


def _with_rounds(plan: RunPlan, rounds: int) -> Event:
    return replace(plan, training=replace(plan.require_training(), rounds=rounds)).event


def _with_noise(plan: RunPlan, noise: float) -> Event:
    if plan.training is None:
        return replace(plan, evaluation=replace(plan.evaluation, noise_multiplier=noise)).event
    return replace(plan, training=replace(plan.training, noise_multiplier=noise)).event


def _rounded_up(noise: float) -> float:
    scale = 10.0 ** (3 - math.floor(math.log10(noise)))
    return math.ceil(noise * scale) / scale
