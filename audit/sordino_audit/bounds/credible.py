"""A Bayesian interval for epsilon: what to believe about it, not a bound that holds in frequency.

The error rates get Jeffreys priors; the interval is far shorter than the one of two confidence
limits at few canaries, and its coverage is close to nominal, but not guaranteed. So it is reported
as credible, and never decides a verdict.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.bounds.ranges import require_confidence, require_delta, require_epsilon

Floats = NDArray[np.float64]

_PRIOR = 0.5
_QUANTILES = 512
_LARGEST_EPSILON = 60.0


def epsilon_interval(
    counts: Counts, *, delta: float, credibility: float = 0.95
) -> tuple[float, float]:
    """The central credible interval of epsilon at `delta` (Zanella-Béguelin et al. 2023, sec. 4).

    Epsilon is that of the two error rates of guessing "inserted" above the threshold, in either
    direction, as in `clopper_pearson.epsilon_from_rates`; their posteriors are independent.

    Returns:
        lower and upper end; 60 stands for anything above.

    Raises:
        ValueError: delta outside [0, 1) or credibility outside (0, 1).
    """
    require_delta(delta)
    require_confidence(credibility)
    tail = (1 - credibility) / 2
    low, high = np.quantile(_posterior(counts, delta), [tail, 1 - tail])
    return float(low), float(high)


def posterior_probability(counts: Counts, *, epsilon: float, delta: float) -> float:
    """The posterior probability that the attack shows no more than `epsilon` at `delta`."""
    require_epsilon(epsilon)
    require_delta(delta)
    return float(np.mean(_posterior(counts, delta) <= epsilon))


def _posterior(counts: Counts, delta: float) -> Floats:
    """Epsilon at each of 512 x 512 equally likely pairs of error rates, shape (512 * 512,)."""
    alarms = _quantiles(counts.false_positives, counts.held_out)[:, np.newaxis]
    misses = _quantiles(counts.false_negatives, counts.inserted)[np.newaxis, :]
    # Both lines of Kairouz et al. 2015, theorem 2.1.
    with np.errstate(divide="ignore"):
        above = np.log(np.maximum(1 - misses - delta, 0.0)) - np.log(alarms)
        below = np.log(np.maximum(1 - alarms - delta, 0.0)) - np.log(misses)
    shown: Floats = np.clip(np.maximum(above, below), 0.0, _LARGEST_EPSILON)
    return shown.ravel()


def _quantiles(errors: int, trials: int) -> Floats:
    """The posterior of an error rate as equally likely values, shape (512,)."""
    levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    rates: Floats = special.betaincinv(_PRIOR + errors, _PRIOR + trials - errors, levels)
    return rates
