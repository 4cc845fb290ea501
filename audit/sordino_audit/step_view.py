"""What a site saw of its own training, as arrays: every step, with coins that it knows.

The server sees a round's sum and does not know which canaries were sampled. The site saw each step
and knows, so it measures noise, clipping and sampling apart from each other. None of this may leave
the site.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.readings import LaneReadings
from sordino_client.witness import RoundSeen, StepSeen
from sordino_protocols.errors import IntegrityError
from sordino_protocols.plan import TrainingPlan

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StepReadings:
    """All steps of a run that a site noted.

    Attributes:
        lanes: the readings, as if every step had been a round.
        sampled: whether that lane's canary was in the batch, shape (steps, lanes).
        squares: squared noise of each layer over its claimed variance, shape (steps, layers).
        coordinates: of each layer, shape (layers,).
    """

    lanes: LaneReadings
    sampled: Bools
    squares: Floats
    coordinates: NDArray[np.int64]

    def __repr__(self) -> str:
        """Nothing of what was seen, whatever logs it."""
        return "StepReadings(...)"

    @property
    def sampled_inserted(self) -> Bools:
        """Of the lanes that have a canary alone, shape (steps, inserted)."""
        return self.sampled[:, self.lanes.inserted]

    @property
    def canaries(self) -> Floats:
        """Readings of all sampled canaries, step by step, shape (hits, groups)."""
        hits: Floats = self.lanes.readings.transpose(0, 2, 1)[self.sampled]
        return hits

    def pairs(self) -> tuple[Floats, Floats]:
        """Combined readings of sampled canaries, and of held-out lanes of the same step.

        In each step the first sampled canary is paired with the first held-out lane, and so on,
        as far as both reach; each of shape (pairs,).
        """
        combined, held_out = self.lanes.combined, ~self.lanes.inserted
        ranks = np.cumsum(self.sampled, axis=1)[self.sampled]
        steps = np.nonzero(self.sampled)[0]
        is_paired = ranks <= held_out.sum()
        partners = np.flatnonzero(held_out)[ranks[is_paired] - 1]
        return combined[self.sampled][is_paired], combined[steps[is_paired], partners]

    def counts(self, threshold: float) -> Counts:
        """Errors of guessing from one step's combined reading whether a canary was in its batch."""
        combined = self.lanes.combined
        present, absent = combined[self.sampled], combined[:, ~self.lanes.inserted]
        return Counts(
            false_positives=int(np.sum(absent >= threshold)),
            held_out=absent.size,
            false_negatives=int(np.sum(present < threshold)),
            inserted=present.size,
        )


def step_readings(
    rounds: Sequence[RoundSeen], inserted: Bools, plan: TrainingPlan, *, site: str
) -> StepReadings:
    """The steps of all noted rounds, in order.

    Raises:
        IntegrityError: what was noted does not have the plan's shape, or a canary was sampled in a
            lane that has none.
    """
    steps = [step for each in rounds for step in each.steps]
    shape = (plan.lane_groups, plan.lanes)
    if not steps or any(len(each.steps) != plan.local_steps for each in rounds):
        raise IntegrityError(f"expected notes of {plan.local_steps} steps in every round")
    if any(each.readings.shape != shape or each.sampled.shape != shape[1:] for each in steps):
        raise IntegrityError(f"expected readings of shape {shape} in every step")
    sampled = np.stack([each.sampled for each in steps])
    if np.any(sampled[:, ~inserted]):
        raise IntegrityError("a canary was sampled in a lane that has none")
    return StepReadings(
        lanes=LaneReadings(
            site, np.stack([each.readings for each in steps]).astype(np.float64), inserted
        ),
        sampled=sampled,
        squares=np.array([_squares(each) for each in steps]),
        coordinates=np.array([layer.count for layer in steps[0].noise], dtype=np.int64),
    )


def plan_of_steps(plan: TrainingPlan, steps: int) -> TrainingPlan:
    """The same mechanism with every step seen apart: a round for each."""
    return replace(plan, rounds=steps, local_steps=1)


def _squares(step: StepSeen) -> list[float]:
    return [layer.squares for layer in step.noise]
