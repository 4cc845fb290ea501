"""The demo's second way to the same model: one message of noisy counts, and no rounds.

The sites release noisy marginals once, the server fits a generator to them and trains the job's
model on its rows; what the sites then evaluate is that model. Both ways cost the same epsilon in
all: here the synthesis gets what the evaluation leaves.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sordino.connection import Connection, Json
from sordino.demo_data import DemoData
from sordino.synthesis_jobs import Wish, wished_job
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.calibration import gaussian_noise
from sordino_protocols.errors import InputError, SordinoError
from sordino_protocols.job import Job, JobFile
from sordino_protocols.job_sections import SyntheticSection
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import Gaussian
from sordino_server.runs import RunDirectory, Runs

Progress = Callable[[str], None]

_WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class SyntheticRuns:
    """A synthesis, and what was trained on it.

    Attributes:
        release: the run that synthesized.
        training: the run that trained on its rows, and evaluated.
        job: of the training.
        seconds: both, from submission to the end.
    """

    release: RunDirectory
    training: RunDirectory
    job: Job
    seconds: float


@dataclass(frozen=True, slots=True)
class SyntheticAttempt:
    """The runs, or a sentence on why there are none."""

    runs: SyntheticRuns | None
    left_out: str = ""


def synthesize_and_train(
    connection: Connection, data: DemoData, runs: Runs, *, progress: Progress
) -> SyntheticAttempt:
    """Run both jobs after the demo's own; what goes wrong is told and ends nothing.

    Args:
        connection: of the data scientist.
        data: the sites' declarations, and the demo's own job.
        runs: the server's.
        progress: told what is being done.
    """
    started = time.monotonic()
    try:
        synthesis, training = planned(data.job)
        wish = Wish(
            dataset=data.job.job.dataset,
            epsilon=synthesis,
            delta=data.job.guarantee.delta,
            quorum=len(data.sites),
        )
        names = [site.name for site in data.sites]
        progress("synthesizing records: one message from every site …")
        released = _run(connection, resolve(wished_job(wish, names, data.schema)))
        job = resolve(synthetic_job(data.job, released, epsilon=training))
        progress("training on synthetic records, without rounds …")
        trained = _run(connection, job)
    except SordinoError as error:
        return SyntheticAttempt(None, f"Synthetic records: {error}.")
    seconds = time.monotonic() - started
    return SyntheticAttempt(SyntheticRuns(runs.get(released), runs.get(trained), job, seconds))


def planned(file: JobFile) -> tuple[float, float]:
    """What the synthesis and the evaluation get of a job's epsilon.

    Together they cost what the job costs: squared mu adds up (Dong, Roth & Su 2022), and the
    evaluation takes the same share of it as in the job.

    Raises:
        InputError: the job has no model of single records' labels.
    """
    if file.model is None or file.loss == "likelihood":
        raise InputError("the job learns no label, so there is nothing to train on them")
    guarantee, share = file.guarantee, file.evaluation.share
    whole = gaussian_noise(guarantee)
    synthesis, evaluation = (
        epsilon_by_pld(Gaussian(whole / math.sqrt(part)), guarantee.delta)
        for part in (1 - share, share)
    )
    # Rounded down: the two together never cost more.
    return math.floor(synthesis * 1e3) / 1e3, math.floor(evaluation * 1e3) / 1e3


def synthetic_job(file: JobFile, run_id: str, *, epsilon: float) -> JobFile:
    """The job that trains the same model on a synthesis, and evaluates it at the sites.

    Args:
        file: the job that trains in rounds.
        run_id: of the synthesis.
        epsilon: of the evaluation.
    """
    return JobFile(
        job=file.job.model_copy(update={"name": f"{file.job.name}-synthetic"}),
        privacy=file.require_privacy().model_copy(update={"epsilon": epsilon}),
        model=file.model,
        synthetic=SyntheticSection(run=run_id, loss=file.loss),
        evaluation=file.evaluation,
        cohort=file.cohort,
    )


def _run(connection: Connection, job: Job) -> str:
    run_id = connection.submit(job)
    for _ in connection.watch(run_id, timeout_seconds=_WAIT_SECONDS):
        pass
    shown: Json = connection.show(run_id)
    if shown["state"] != "done":
        reason = shown.get("reason", "no reason given")
        raise SordinoError(f"run {run_id} is {shown['state']}: {reason}")
    return run_id
