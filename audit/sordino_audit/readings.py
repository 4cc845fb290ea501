"""What the server received in the lanes, and what is read off it.

A lane has one coordinate in each parameter group. A canary that was sampled adds 1 / sqrt(groups)
to each of them, and 1 to their sum over sqrt(groups): that combination has the noise of one
coordinate, and no other tells more of the whole mechanism.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.view import score
from sordino_protocols.errors import InputError
from sordino_protocols.plan import TrainingPlan

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LaneReadings:
    """What the server received in one site's lanes, with the site's revealed coins.

    Attributes:
        site: the site's name.
        readings: shape (rounds, groups, lanes), each round in units of its clipping norm.
        inserted: shape (lanes,); true where a canary was inserted.
    """

    site: str
    readings: Floats
    inserted: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.readings.ndim != 3 or self.inserted.shape != self.readings.shape[2:]:  # noqa: PLR2004
            raise InputError(
                f"site {self.site}: readings must be (rounds, groups, lanes), inserted (lanes,), "
                f"not {self.readings.shape} and {self.inserted.shape}"
            )
        if not np.isfinite(self.readings).all():
            raise InputError(f"site {self.site}: every reading must be finite")

    @property
    def combined(self) -> Floats:
        """One number a lane, shape (rounds, lanes): 1 a hit, the noise of one coordinate."""
        total: Floats = self.readings.sum(axis=1) / math.sqrt(self.readings.shape[1])
        return total


def pooled_scores(
    observations: Sequence[LaneReadings], plan: TrainingPlan
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and coins of all lanes, site after site, each of shape (sites * lanes,)."""
    scores = np.concatenate([score(each.combined, plan) for each in observations])
    return scores, np.concatenate([each.inserted for each in observations])


def count_errors(scores: Floats, inserted: NDArray[np.bool_], threshold: float) -> Counts:
    """Errors of guessing "inserted" where the score reaches the threshold."""
    return Counts(
        false_positives=int(np.sum(scores[~inserted] >= threshold)),
        held_out=int(np.sum(~inserted)),
        false_negatives=int(np.sum(scores[inserted] < threshold)),
        inserted=int(np.sum(inserted)),
    )


def held_out_noise(observations: Sequence[LaneReadings], plan: TrainingPlan) -> list[Floats]:
    """Per site, (rounds, groups, held-out lanes), over their claimed standard deviation."""
    std = math.sqrt(plan.local_steps) * plan.noise_multiplier
    return [each.readings[:, :, ~each.inserted] / std for each in observations]
