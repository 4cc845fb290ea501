"""Whether a canary weighs what the plan lets it weigh, in every parameter group.

A sampled canary adds 1 / sqrt(groups) of the clipping norm to each of its coordinates. How often
the inserted canaries are sampled is binomial under the plan, and the noise of a sum is Gaussian, so
the sum over all of a group's inserted lanes has a known distribution, and the p-values are exact.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr

from sordino_audit.conformance import smallest
from sordino_audit.readings import LaneReadings
from sordino_protocols.plan import TrainingPlan

Floats = NDArray[np.float64]

_ROUNDING_SHARE = 2.0**-10
"""A canary may weigh this much less than the clipping norm: clipping leaves room for rounding."""
_TAIL = 10.0
_RARE = 60


def signal_p_values(
    observations: Sequence[LaneReadings], plan: TrainingPlan
) -> tuple[float, float]:
    """P-values that canaries weigh more, and that they weigh less than the plan says.

    Each is the smallest over the parameter groups, corrected for their number.
    """
    groups = plan.lane_groups
    inserted = sum(int(np.sum(each.inserted)) for each in observations)
    trials = inserted * plan.rounds * plan.local_steps
    if trials == 0:
        return 1.0, 1.0
    sums = sum(each.readings[:, :, each.inserted].sum(axis=(0, 2)) for each in observations)
    std = float(np.sqrt(trials * groups)) * plan.noise_multiplier
    hits, weights = _hits(trials, plan.sampling_rate)
    weighed = np.sqrt(groups) * np.asarray(sums, dtype=np.float64)
    return (
        smallest([float(weights @ ndtr((hits - each) / std)) for each in weighed]),
        smallest(
            [float(weights @ ndtr((each - hits * (1 - _ROUNDING_SHARE)) / std)) for each in weighed]
        ),
    )


def _hits(trials: int, rate: float) -> tuple[Floats, Floats]:
    """How often canaries are sampled, and how likely each count is; tails below 1e-20 left out."""
    mean = trials * rate
    margin = _TAIL * float(np.sqrt(mean * (1 - rate))) + _RARE
    counts = np.arange(max(0, int(mean - margin)), min(trials, int(mean + margin)) + 1)
    return counts.astype(np.float64), np.asarray(stats.binom.pmf(counts, trials, rate))
