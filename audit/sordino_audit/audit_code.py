"""Audits of code, filed as documents: self-tests, replays, audits of inference and synthesis."""

import datetime as dt
import time
from dataclasses import dataclass
from pathlib import Path

from sordino_audit.audit_config import AuditConfig
from sordino_audit.filing import Audited, filed
from sordino_audit.inference.federations import audit_column, audit_share
from sordino_audit.occasion import Occasion
from sordino_audit.probes.self_test import self_test
from sordino_audit.replay.backends import Backend
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.replay import replay
from sordino_audit.report_code import inference_document, replay_document, self_test_document
from sordino_audit.report_synthesis import synthesis_document
from sordino_audit.sealing import to_json
from sordino_audit.site_runs import site_series
from sordino_audit.site_self_test import self_test_site
from sordino_audit.synthesis.assessment import Subject, audit_synthesis
from sordino_audit.synthesis.result import SynthesisDesign
from sordino_client.config import load_config
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_server.storage import write_whole

AUDIT = "audit.json"
_HERE = "installation"


@dataclass(frozen=True, slots=True)
class Execution:
    """Where and how federations are run.

    Attributes:
        directory: of the replay's files.
        backend: this machine or a Ray cluster.
        workers: processes at a time.
    """

    directory: Path
    backend: Backend
    workers: int


def tested_installation(site: Path | None, config: AuditConfig) -> Audited:
    """Test the code that is installed here, and file the outcome.

    Args:
        site: a site's configuration: its settings are tested, its vault looks at the outcome, and
            the document goes to its own reports. None: as a site without settings would run.
        config: of audits; without a site, its reports are where the document goes.

    Raises:
        NotFoundError: no such configuration.
        InputError: it is wrong, or the site's device is not there.
        IntegrityError: the series of reports does not hold together.
    """
    started = time.monotonic()
    if site is None:
        subject, found, series = _HERE, self_test(Performance()), config.series
    else:
        settings = load_config(site)
        subject, found = settings.site.name, self_test_site(settings)
        series = site_series(settings)
    occasion = Occasion(issued_at=dt.datetime.now(dt.UTC), seconds=time.monotonic() - started)
    document, place = filed(self_test_document(found, subject=subject, occasion=occasion), series)
    return Audited(document, place)


def replayed(plan: ReplayPlan, execution: Execution, config: AuditConfig) -> Audited:
    """Run the federations of a plan that are yet to be run, attack them, and file the outcome.

    The document is written to the replay's directory, and to the series where records were not
    members'.

    Args:
        plan: what is run.
        execution: where and how.
        config: of audits.

    Raises:
        InputError, IntegrityError, UnreachableError: see `replay.replay`.
    """
    started = time.monotonic()
    audit = replay(
        plan,
        directory=execution.directory,
        backend=execution.backend,
        workers=execution.workers,
    )
    occasion = Occasion(
        issued_at=dt.datetime.now(dt.UTC),
        seconds=time.monotonic() - started,
        job_sha256=plan.job.digest(),
        seeds=(audit.seed,),
    )
    made = replay_document(audit, subject=plan.job.file.job.name, occasion=occasion)
    document, place = filed(made, config.series if plan.stays_below is None else None)
    write_whole(execution.directory / AUDIT, to_json(document).encode())
    return Audited(document, place)


def inferred(plan: ReplayPlan, column: str, word: str | None, config: AuditConfig) -> Audited:
    """Measure what a job's model gives away of a column, and file the outcome.

    Args:
        plan: job and records.
        column: a category among the job's features.
        word: one of its words: whether it is common at a site; None: the word of each record.
        config: of audits.

    Raises:
        InputError: see `inference.federations.audit_column` and `audit_share`.
        IntegrityError: the series of reports does not hold together.
    """
    started = time.monotonic()
    noise = SecureNoise()
    found = (
        audit_column(plan, column, noise=noise)
        if word is None
        else audit_share(plan, column, word, noise=noise)
    )
    occasion = Occasion(
        issued_at=dt.datetime.now(dt.UTC),
        seconds=time.monotonic() - started,
        job_sha256=plan.job.digest(),
        seeds=(plan.design.seed,),
    )
    document, place = filed(
        inference_document(found, occasion=occasion),
        config.series if plan.stays_below is None else None,
    )
    return Audited(document, place)


def synthesized(subject: Subject, design: SynthesisDesign, config: AuditConfig) -> Audited:
    """Attack the code that makes a job's synthetic records, and file the outcome.

    Args:
        subject: the job, its plan and its schema; records are made up from it.
        design: how much is done.
        config: of audits.

    Raises:
        InputError: see `synthesis.assessment.audit_synthesis`.
        IntegrityError: the series of reports does not hold together.
    """
    started = time.monotonic()
    found = audit_synthesis(subject, design)
    occasion = Occasion(
        issued_at=dt.datetime.now(dt.UTC),
        seconds=time.monotonic() - started,
        job_sha256=subject.job_sha256,
        seeds=(design.seed,),
    )
    document, place = filed(synthesis_document(found, occasion=occasion), config.series)
    return Audited(document, place)
