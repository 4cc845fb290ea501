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

# Between the noise that is named and the smallest that would do.
_WASTE = 1e-3


def rounds_that_fit(job: Job, fits: Fits) -> int:
    """How many of the job's rounds fit, with its evaluation and statistics; 0 for none.

    Args:
        job: as priced; a job that trains nothing at the sites has no rounds.
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

    Never less than the job has. Of a job that trains nothing at the sites it is the noise of its
    one release.

    Args:
        job: as priced.
        fits: whether an event does; must stay true when an event costs less.

    Returns:
        A noise multiplier of four digits; None if no noise is enough, because another part of the
        plan costs too much or nothing is left.
    """
    plan = job.plan
    least = _noise(plan)
    if fits(plan.event):
        return least
    largest = _largest_noise(plan)
    if least >= largest or not fits(_with_noise(plan, largest)):
        return None
    low, high = least, largest
    while high / low > 1 + _WASTE / 2:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(_with_noise(plan, middle)) else (middle, high)
    return _rounded_up(high)


def _with_rounds(plan: RunPlan, rounds: int) -> Event:
    return replace(plan, training=replace(plan.require_training(), rounds=rounds)).event


def _noise(plan: RunPlan) -> float:
    """Of the part that gives way: training, or the one release there is."""
    part = plan.training or plan.tabulation or plan.require_evaluation()
    return part.noise_multiplier


def _largest_noise(plan: RunPlan) -> float:
    """What no part's noise may pass; a synthesis' marginals have several times that of the plan."""
    if plan.synthesis is None or not plan.synthesis.released_marginals:
        return LARGEST_DISCRETE_STD
    stds = [each.noise_std for each in plan.synthesis.released_marginals]
    # Rounding up must not pass it either.
    return LARGEST_DISCRETE_STD / (1 + _WASTE) * plan.synthesis.noise_multiplier / max(stds)


def _with_noise(plan: RunPlan, noise: float) -> Event:
    if plan.training is not None:
        return replace(plan, training=replace(plan.training, noise_multiplier=noise)).event
    if plan.synthesis is not None:
        return replace(plan, synthesis=replace(plan.synthesis, noise_multiplier=noise)).event
    if plan.count is not None:
        return replace(plan, count=replace(plan.count, noise_multiplier=noise)).event
    evaluation = replace(plan.require_evaluation(), noise_multiplier=noise)
    return replace(plan, evaluation=evaluation).event


def _rounded_up(noise: float) -> float:
    scale = 10.0 ** (3 - math.floor(math.log10(noise)))
    return math.ceil(noise * scale) / scale
