"""A lower bound from single steps, composed: what an auditor who sees every step can say.

At a site, each step's noisy sum is known, and whether a canary was in that step's batch. One step
seen with its coins is a Gaussian mechanism without subsampling: a reading is the canary's clipped
gradient, or nothing, plus noise. Counts over all steps and canaries bound the noise of a step, and
the claimed sampling rate and number of steps turn that into the epsilon of the run.
"""

import math

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds import gaussian
from sordino_audit.bounds.clopper_pearson import Counts, upper_limit
from sordino_audit.bounds.families import composed_epsilon
from sordino_audit.bounds.ranges import (
    require_confidence,
    require_delta,
    require_positive,
    require_sampling,
)

Floats = NDArray[np.float64]

_CANDIDATES = 2001
_REACH = 5.0


def epsilon_lower_bound(
    counts: Counts, *, sampling_rate: float, steps: int, delta: float, confidence: float
) -> float:
    """A bound that the true epsilon of all steps at `delta` is at least.

    Nasr et al. 2023 (sec. 5.2): Clopper-Pearson limits give the mu of one step, and a Gaussian
    mechanism with that mu is composed by PLD. Assumed: noise that is Gaussian, of any scale, and
    the same in every step; independent readings; sampling rate and number of steps as claimed.

    Args:
        counts: errors of guessing "in this batch" from one reading, over all readings of all
            steps, at a threshold fixed before they were seen.
        sampling_rate: claimed, in (0, 1].
        steps: claimed number of steps.
        delta: of the guarantee, in (0, 1).
        confidence: in (0, 1).

    Raises:
        ValueError: a number outside its range.
    """
    require_delta(delta)
    require_positive("delta", delta)
    require_sampling(sampling_rate, steps)
    mu = gaussian.mu_lower_bound(counts, confidence=confidence)
    return epsilon_from_step_mu(mu, sampling_rate=sampling_rate, steps=steps, delta=delta)


def epsilon_from_step_mu(mu: float, *, sampling_rate: float, steps: int, delta: float) -> float:
    """The epsilon at `delta` of steps that are each mu-GDP on a Poisson sample."""
    if mu <= 0:
        return 0.0
    if sampling_rate == 1:
        return gaussian.epsilon_from_mu(math.sqrt(steps) * mu, delta)
    return composed_epsilon(1 / mu, sampling_rate=sampling_rate, steps=steps, delta=delta)


def planned_threshold(
    *, noise_multiplier: float, inserted: float, held_out: float, confidence: float
) -> float:
    """The threshold whose bound is expected to be best, fixed before anything is read.

    Args:
        noise_multiplier: the claimed one.
        inserted: expected number of readings with the canary in the batch.
        held_out: expected number of readings without.
        confidence: that the bound will have.

    Returns:
        in units of the clipping norm.
    """
    require_positive("noise_multiplier", noise_multiplier)
    require_confidence(confidence)
    tail = (1 - confidence) / 2
    reach = _REACH * noise_multiplier
    thresholds = np.linspace(-reach, 1 + reach, _CANDIDATES)
    alarms = gaussian.upper_tail(thresholds / noise_multiplier)
    misses = gaussian.upper_tail((1 - thresholds) / noise_multiplier)
    alarmed = upper_limit(alarms * held_out, held_out, tail)
    missed = upper_limit(misses * inserted, inserted, tail)
    expected = gaussian.upper_quantile(alarmed) + gaussian.upper_quantile(missed)
    return float(thresholds[int(np.argmax(expected))])
