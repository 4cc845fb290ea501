"""The synthetic table that a job trains on: found and checked.

What must stay true: a job reads only runs of its own submitter, and nothing of a run that is in
quarantine; what it trains on are columns that the sites declare today, in their order.
"""

import contextlib

from sordino_protocols.errors import InputError, IntegrityError, NotFoundError, PeerError
from sordino_protocols.job import JobFile
from sordino_protocols.job_sections import SyntheticSection
from sordino_protocols.rounds import RunState
from sordino_server.quarantine import quarantine_of
from sordino_server.runs import SYNTHESIS, RunDirectory, Runs
from sordino_server.table_facts import SynthesisFacts


def find_source(runs: Runs, file: JobFile, *, submitter: str) -> RunDirectory:
    """The run that a job names as what it trains on.

    Args:
        runs: where to look.
        file: of a job with `[synthetic]`.
        submitter: who wants to train.

    Raises:
        InputError: there is no such run of the submitter's, it synthesized nothing or another data
            set, it is not done, or it is in quarantine.
    """
    named = require_synthetic(file).run
    try:
        run = runs.get(named)
        signed, job = run.manifest().job, run.job()
    except (NotFoundError, IntegrityError, PeerError):
        raise InputError(f"synthetic.run: there is no run {named!r} of yours") from None
    # Somebody else's is not there.
    if signed.submitter != submitter:
        raise InputError(f"synthetic.run: there is no run {named!r} of yours")
    if signed.purpose != "synthesize" or job.file.job.dataset != file.job.dataset:
        raise InputError(
            f"synthetic.run: {named} is no synthesis of the data set {file.job.dataset!r}"
        )
    if run.state() is not RunState.DONE:
        raise InputError(f"synthetic.run: {named} is not done: it is {run.state().value}")
    if quarantine_of(run) is not None:
        raise InputError(f"synthetic.run: {named} is in quarantine")
    return run


def find_syntheses(runs: Runs, *, dataset: str, submitter: str) -> list[RunDirectory]:
    """A submitter's syntheses of a data set that are done and in no quarantine, newest first."""
    found: list[RunDirectory] = []
    for run in runs.all():
        # A run whose files were touched is none, and hides no other.
        with contextlib.suppress(IntegrityError, PeerError):
            if _is_finished(run, submitter=submitter) and run.job().file.job.dataset == dataset:
                found.append(run)
    return found[::-1]


def _is_finished(run: RunDirectory, *, submitter: str) -> bool:
    signed = run.manifest().job
    return (
        (signed.purpose, signed.submitter) == ("synthesize", submitter)
        and run.state() is RunState.DONE
        and quarantine_of(run) is None
    )


def require_synthetic(file: JobFile) -> SyntheticSection:
    """The section of a job that trains on synthetic records.

    Raises:
        InputError: it is of another kind.
    """
    if file.synthetic is None:
        raise InputError(f"job {file.job.name!r} trains on no synthetic records")
    return file.synthetic


def check_source(source: RunDirectory, file: JobFile, *, feature_digest: str) -> None:
    """Return if a source's rows have the features that the sites declare.

    Args:
        source: from `find_source`.
        file: of the job.
        feature_digest: of the sites' columns and roles, as the job narrows them.

    Raises:
        InputError: they do not: the schema was changed since.
    """
    schema = source.read(SYNTHESIS, SynthesisFacts).declared
    if schema.narrowed(file.job.columns).feature_digest() != feature_digest:
        raise InputError(
            f"synthetic.run: the sites declare other columns today than when {source.run_id} was"
            " made; synthesize again"
        )
