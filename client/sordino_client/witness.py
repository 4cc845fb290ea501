"""What a site notes of its own training, step by step, for the audit that it makes of itself.

A site knows its coins while the run goes on, so it sees far more of its mechanism than a server:
which canaries were sampled in which step, what their lanes read, and how much noise each layer of
the model got. What must stay true: **nothing of this leaves the site**, and none of it is logged.
The noise of a release, beside the release, says something about the exact sum. A round is noted
before its release leaves; a round that is made again after a crash is noted again, so what is kept
is of the release that left.

A step takes 4 bytes a lane and group, a bit a lane and 8 bytes a layer: 4.1 kB for 500 lanes and
two layers. No run may keep more than `LARGEST_WITNESS_BYTES`; how many of its rounds those are,
its plan alone decides.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sordino_client.outbox import check_file_name, write_durably
from sordino_protocols.errors import IntegrityError
from sordino_protocols.plan import TrainingPlan

LARGEST_WITNESS_BYTES = 2**28
"""What the noted steps of one run may weigh, beside some 1.5 kB a round."""


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """The noise of one step in one layer of the model.

    Attributes:
        squares: sum of the squared noise over the planned noise's variance; chi-square distributed
            with `count` degrees of freedom if the noise is what was planned.
        count: coordinates of the layer.
    """

    squares: float
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class StepSeen:
    """One step of training, as only the site sees it.

    Attributes:
        sampled: bool [lanes], whether that lane's canary was in the step's batch.
        readings: float32 [groups, lanes], noisy sums over the clipping norm in force.
        noise: of each layer that has parameters, in the network's order.
    """

    sampled: npt.NDArray[np.bool_]
    readings: npt.NDArray[np.float32]
    noise: tuple[LayerNoise, ...]

    def __repr__(self) -> str:
        """Nothing of what was seen, whatever logs it."""
        return "StepSeen(...)"


@dataclass(frozen=True, slots=True, eq=False)
class RoundSeen:
    """One round, counted from 1, and its steps in order."""

    round: int
    steps: tuple[StepSeen, ...]

    def __repr__(self) -> str:
        """Nothing of what was seen, whatever logs it."""
        return f"RoundSeen(round={self.round})"


class Witness(Protocol):
    """Somebody at the site who is shown each step of a round."""

    def note(self, step: StepSeen) -> None:
        """See a step; called once a step, in order."""


class RoundNotes:
    """The steps of one round, in memory; a `Witness`."""

    def __init__(self) -> None:
        self._steps: list[StepSeen] = []

    @property
    def steps(self) -> tuple[StepSeen, ...]:
        """All that was noted so far."""
        return tuple(self._steps)

    def note(self, step: StepSeen) -> None:
        """Keep a step."""
        self._steps.append(step)


class WitnessStore:
    """The directory of what was noted: one file a round, for nobody but the site."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def keep(self, run_id: str, number: int, steps: Sequence[StepSeen]) -> None:
        """Keep the steps of a round; on disk when this returns.

        What an attempt that a crash cut short left of the same round is replaced: its release was
        never stored, so it never left.
        """
        path = _run_directory(self._directory, run_id) / f"round-{number:06d}.npz"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(path, _packed(steps))

    def forget(self, run_id: str) -> int:
        """Remove what was noted of a run that is over; the bytes it had."""
        freed = 0
        directory = _run_directory(self._directory, run_id)
        for path in sorted(directory.glob("round-*.npz")):
            freed += path.stat().st_size
            path.unlink()
        if directory.exists():
            directory.rmdir()
        return freed


def read_witness(directory: Path, run_id: str) -> list[RoundSeen]:
    """The rounds that a site noted of a run, in order; none for a run that it knows nothing of.

    Args:
        directory: `witness` in the site's state.
        run_id: the run.

    Raises:
        IntegrityError: a file is not what this module wrote; names it.
    """
    paths = sorted(_run_directory(directory, run_id).glob("round-*.npz"))
    return [RoundSeen(int(path.stem.removeprefix("round-")), _unpacked(path)) for path in paths]


def noted_rounds(plan: TrainingPlan) -> int:
    """How many rounds of a run are noted, from the first: all that `LARGEST_WITNESS_BYTES` hold."""
    of_lanes = 4 * plan.lane_coordinates + -(-plan.lanes // 8)
    of_round = plan.local_steps * (of_lanes + 8 * plan.lane_groups)
    return min(plan.rounds, LARGEST_WITNESS_BYTES // of_round)


def _run_directory(directory: Path, run_id: str) -> Path:
    return directory / check_file_name(run_id)


def _packed(steps: Sequence[StepSeen]) -> bytes:
    file = io.BytesIO()
    np.savez(
        file,
        lanes=np.int64(len(steps[0].sampled)),
        sampled=np.packbits(np.stack([step.sampled for step in steps]), axis=1),
        readings=np.stack([step.readings for step in steps]),
        squares=np.array([[layer.squares for layer in step.noise] for step in steps]),
        counts=np.array([layer.count for layer in steps[0].noise], dtype=np.int64),
    )
    return file.getvalue()


def _unpacked(path: Path) -> tuple[StepSeen, ...]:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as kept:
            sampled = np.unpackbits(kept["sampled"], axis=1, count=int(kept["lanes"]))
            readings, squares = kept["readings"], kept["squares"]
            counts = [int(count) for count in kept["counts"]]
        parts = zip(sampled.astype(np.bool_), readings, squares, strict=True)
        return tuple(
            StepSeen(coins, read, tuple(map(LayerNoise, map(float, of_layers), counts)))
            for coins, read, of_layers in parts
        )
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise IntegrityError(f"{path}: what was noted of this round cannot be read") from None
