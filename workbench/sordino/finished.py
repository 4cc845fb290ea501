"""A run that is over, as the demo watched it."""

from dataclasses import dataclass

from sordino.demo_synthesis import SyntheticAttempt
from sordino.result import RoundEntry
from sordino_protocols.job import Job
from sordino_server.runs import RunDirectory


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A finished run.

    Attributes:
        run: its directory on the server.
        job: its job.
        rounds: as they were reported.
        setup_seconds: from the start of the demo to the first round.
        rounds_seconds: from the first round to the model on disk.
        synthetic: the same model from synthetic records, which came after.
    """

    run: RunDirectory
    job: Job
    rounds: list[RoundEntry]
    setup_seconds: float
    rounds_seconds: float
    synthetic: SyntheticAttempt
