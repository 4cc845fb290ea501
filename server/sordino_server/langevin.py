"""DP-SGLD: Langevin steps whose noise is the privacy noise (Wang, Fienberg & Smola 2015).

The weights w are to wander over exp(-U / temperature) with U(w) the sum of the units' losses plus
`prior_precision / 2 |w|^2`. With N units and the step length `eta = rate / N` a step is
`w - eta * grad U + Normal(0, 2 * eta * temperature)` (Welling & Teh 2011, eq. 4); `rate` multiplies
the mean gradient, as for the other optimisers. The noise in the mean gradient is part of that
normal; the server adds what is missing.

**What is guaranteed.** Privacy: each round's noisy sums are what the plan says they are, composed
over the rounds, and nothing else is claimed. Not used, because not proven for losses that are not
strongly convex: that a posterior sample is private of itself, that the last iterate is more private
than the sequence (Chourasia et al. 2021), that hidden iterates help. The noise that the server adds
is public and no privacy rests on it. Sampling: the chain is that of the *clipped* gradients, which
is the posterior's where no gradient is clipped; a step of finite length adds a bias of relative
order eta times the curvature; N is the public order of magnitude, so the temperature is as exact as
that.
"""

import math
from collections.abc import Sequence

import numpy as np

from sordino_protocols.clipping import AdaptiveClipping, NormalizedClipping
from sordino_protocols.errors import InputError
from sordino_protocols.models import FloatVector
from sordino_protocols.optimizer import SgldOptimizer
from sordino_protocols.plan import TrainingPlan
from sordino_server.aggregation import gradient_noise_variance

# What is printed is rounded to four digits, and must still fit.
_ROUNDED_DOWN = 1 - 1e-3
_ROUNDING = 1e-9


def langevin_step(
    model: FloatVector,
    gradient: FloatVector,
    *,
    rate: float,
    units: int,
    noise_variance: float,
    optimizer: SgldOptimizer,
    rng: np.random.Generator,
) -> FloatVector:
    """One step of Langevin dynamics.

    Args:
        model: parameters before the step.
        gradient: noisy mean gradient of the loss.
        rate: learning rate of this round.
        units: N, a public constant.
        noise_variance: of the privacy noise on one coordinate of `gradient`.
        optimizer: temperature and prior.
        rng: public, for the noise that is missing.

    Returns:
        The parameters after the step.

    Raises:
        ValueError: the privacy noise is hotter than the temperature; `check_temperature` finds that
            before a run starts.
    """
    eta = rate / units
    wanted = 2 * eta * optimizer.temperature
    missing = wanted - rate**2 * noise_variance
    if missing < -_ROUNDING * wanted:
        raise ValueError(f"a learning rate of {rate:.4g} makes the privacy noise too hot")
    drift = rate * gradient + eta * optimizer.prior_precision * model
    return model - drift + math.sqrt(max(missing, 0.0)) * rng.standard_normal(len(model))


def check_temperature(
    optimizer: SgldOptimizer, plan: TrainingPlan, *, units: Sequence[int], quorum: int
) -> None:
    """Refuse a run whose privacy noise alone is hotter than the wanted temperature.

    Noise weighs most when the fewest and smallest sites answer: if those are cool enough, then
    every cohort of the run is, in every round.

    Args:
        optimizer: the job's.
        plan: what the sites will run.
        units: declared orders of magnitude of the sites that were admitted.
        quorum: how many of them must answer a round.

    Raises:
        InputError: names the largest learning rate that fits; or the clipping is of a kind that
            leaves no gradient as it is, or whose norm nobody knows before the run.
    """
    if isinstance(plan.clipping, AdaptiveClipping | NormalizedClipping):
        raise InputError(
            f"optimizer.kind = 'sgld' does not go with training.clipping.kind = "
            f"'{plan.clipping.kind}'; use 'flat' or 'per_layer'"
        )
    smallest = sorted(units)[:quorum]
    variance = gradient_noise_variance(
        plan, sites=len(smallest), units=sum(smallest), clipping_norm=plan.clipping_norm
    )
    # No schedule's factor is above 1.
    largest = 2 * optimizer.temperature / (sum(smallest) * variance)
    if optimizer.learning_rate > largest:
        raise InputError(
            f"optimizer.learning_rate = {optimizer.learning_rate:g}: the privacy noise alone would "
            f"be hotter than temperature {optimizer.temperature:g}; at most "
            f"{_ROUNDED_DOWN * largest:.4g} fits these sites and this quorum"
        )
