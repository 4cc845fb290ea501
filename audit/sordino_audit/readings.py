"""What the server received in the lanes, and what is read off it."""

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
        readings: shape (rounds, lanes), each round in units of its clipping norm.
        inserted: shape (lanes,); true where a canary was inserted.
    """

    site: str
    readings: Floats
    inserted: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.readings.ndim != 2 or self.inserted.shape != self.readings.shape[1:]:  # noqa: PLR2004
            raise InputError(
                f"site {self.site}: readings must be (rounds, lanes) and inserted (lanes,), "
                f"not {self.readings.shape} and {self.inserted.shape}"
            )
        if not np.isfinite(self.readings).all():
            raise InputError(f"site {self.site}: every reading must be finite")


def pooled_scores(
    observations: Sequence[LaneReadings], plan: TrainingPlan
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores and coins of all lanes, site after site, each of shape (sites * lanes,)."""
    scores = np.concatenate([score(each.readings, plan) for each in observations])
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
    """Per site, readings of held-out lanes over their claimed standard deviation."""
    std = np.sqrt(plan.local_steps) * plan.noise_multiplier
    return [each.readings[:, ~each.inserted] / std for each in observations]
