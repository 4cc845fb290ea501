"""Probes of the server: what it divides by is public and constant, whoever answers what."""

from collections.abc import Callable, Sequence

import numpy as np

from sordino_audit.probes.found import Found
from sordino_protocols.models import FloatVector
from sordino_protocols.plan import TrainingPlan
from sordino_server.aggregation import aggregate, mean_gradient

Aggregator = Callable[[Sequence[FloatVector], Sequence[int], TrainingPlan], FloatVector]
"""From the sites' updates and their declared orders of magnitude to a mean gradient."""

_ROUNDING = 1e-9
_UNITS = (100, 1000, 100)


def server_mean(
    updates: Sequence[FloatVector], units: Sequence[int], plan: TrainingPlan
) -> FloatVector:
    """The product's own: the noisy mean gradient of a round."""
    return mean_gradient(aggregate(updates, units, plan), plan)


def normaliser(plan: TrainingPlan, aggregator: Aggregator = server_mean) -> Found:
    """The mean gradient is the sum of what arrived over a constant of plan and declarations.

    It must be linear in the updates, and independent of the order in which they come. A divisor
    that was counted, a site that weighs itself, or a norm that rescales is none of that.

    Args:
        plan: of the run.
        aggregator: what is probed.
    """
    rng = np.random.default_rng(4)
    length = 30 + plan.extra_coordinates
    first, second = ([rng.normal(size=length) for _ in _UNITS] for _ in range(2))
    third = [1e3 * update for update in first]
    means = [aggregator(each, _UNITS, plan) for each in (first, second, third)]
    both = aggregator([a + b for a, b in zip(first, second, strict=True)], _UNITS, plan)
    turned = aggregator(first[::-1], _UNITS[::-1], plan)
    weights = np.ones(len(_UNITS)) / (plan.sampling_rate * sum(_UNITS))
    if plan.update == "delta":
        weights = -np.array(_UNITS) / sum(_UNITS)
    expected = sum(weight * update[:30] for weight, update in zip(weights, first, strict=True))
    off = max(
        float(np.abs(difference).max())
        for difference in (
            both - means[0] - means[1],
            means[2] / 1e3 - means[0],
            turned - means[0],
            means[0] - expected,
        )
    ) / float(np.abs(expected).max())
    return Found(
        off <= _ROUNDING,
        f"the mean of a round was off by {off:.2g} from the sum over its public constant",
    )
