"""Auditing runs where the server keeps them, one or all that have no audit yet.

An audit of a run leaves `audit.json` beside it, the same document in the series of reports where
one is kept, and the run quarantined where the promise was broken.
"""

import datetime as dt
import time
from collections.abc import Sequence
from pathlib import Path

from sordino_audit.audit_config import AuditConfig
from sordino_audit.audit_document import AuditDocument
from sordino_audit.e_value_store import EValueStore
from sordino_audit.e_values import Weigh, weigh_alone
from sordino_audit.filing import Audited, filed
from sordino_audit.findings import Finding, Verdict
from sordino_audit.finished_run import audit_run, sites_left_out
from sordino_audit.heads import remember_heads
from sordino_audit.occasion import Occasion
from sordino_audit.report import run_document
from sordino_audit.sealing import to_json
from sordino_audit.series import E_VALUES
from sordino_protocols.certificate import read_certificate
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.rounds import RunState
from sordino_server.quarantine import quarantine_run
from sordino_server.runs import CERTIFICATE, RunDirectory, Runs
from sordino_server.state_location import RUNS, open_database

AUDIT = "audit.json"
HEADS = "audit-heads.json"


def audited(
    run: RunDirectory,
    *,
    confidence: float,
    known: Sequence[Finding] = (),
    weigh: Weigh = weigh_alone,
) -> AuditDocument:
    """The document of an audit of a finished run; nothing is written.

    Args:
        run: a run that is done.
        confidence: of every bound on epsilon.
        known: findings of other checks, which count in the verdict.
        weigh: makes e-values of the evidence; by itself the run counts alone.

    Raises:
        NotFoundError: the run is not finished.
        InputError: the run carried no lanes, or no site can be audited.
    """
    started = time.monotonic()
    audit = audit_run(run, confidence=confidence, known=known, weigh=weigh)
    occasion = Occasion(
        issued_at=dt.datetime.now(dt.UTC),
        seconds=time.monotonic() - started,
        job_sha256=run.manifest().job.digest,
    )
    return run_document(
        audit,
        run_id=run.run_id,
        occasion=occasion,
        left_out=sites_left_out(run, audit.sites),
    )


def run_at(path: Path) -> RunDirectory:
    """The run in a directory.

    Raises:
        NotFoundError: there is no such directory, or it is no run's.
    """
    if not path.is_dir():
        raise NotFoundError(f"{path}: no such directory of a run")
    place = path.absolute()
    try:
        return Runs(place.parent).get(place.name)
    except NotFoundError:
        raise NotFoundError(f"{path}: not a run's directory; a run has a manifest.json") from None


def open_runs(config: AuditConfig, directory: Path | None = None) -> Runs:
    """The server's runs: of a directory, or where `audit.toml` says that they are.

    Raises:
        InputError: it does not say; or the file with the database's URL is wrong.
        NotFoundError: there is no such directory or file.
        UnreachableError: the database does not answer.
    """
    place = directory or config.runs
    if place is None and config.state_url_file is not None:
        return Runs(open_database(config.state_url_file).within(RUNS))
    if place is None:
        raise InputError(
            "name the directory of runs, or set audit.runs or audit.state_url_file in audit.toml"
        )
    if not place.is_dir():
        raise NotFoundError(f"{place}: no such directory of runs")
    return Runs(place.absolute())


def audit_one(run: RunDirectory, config: AuditConfig) -> Audited:
    """Audit a finished run, and file the document.

    The document lies beside the run and in the series; a violation quarantines the model.

    Raises:
        NotFoundError: the run is not finished.
        InputError: the run carried no lanes, or no site can be audited.
        IntegrityError: a site's ledger contradicts itself, and the run cannot be audited; or the
            series of reports does not hold together.
    """
    ledgers, notes = _remember(run, config.heads or _beside(run, HEADS, key="audit.heads"))
    try:
        document = audited(
            run, confidence=config.confidence, known=ledgers, weigh=_memory(run, config)
        )
    except InputError:
        if ledgers:
            raise IntegrityError(ledgers[0].message) from None
        raise
    document, place = filed(document, config.series)
    run.save_content(AUDIT, to_json(document).encode())
    if document.verdict is Verdict.VIOLATION:
        quarantine_run(run, reason=document.sentence, audit_hash=document.hash)
    return Audited(document, place, tuple(ledgers), tuple(notes))


def new_runs(runs: Runs) -> list[RunDirectory]:
    """Finished training runs that carried lanes and have no audit yet, oldest first."""
    return [run for run in runs.all() if _is_new(run)]


def _memory(run: RunDirectory, config: AuditConfig) -> Weigh:
    """E-values are kept with the reports, or beside the runs where no reports are kept."""
    if config.series is not None:
        config.series.make()
        path = config.series.directory / E_VALUES
    else:
        path = _beside(run, f"audit-{E_VALUES}", key="audit.reports")
    return EValueStore(path).weigh(run.run_id)


def _beside(run: RunDirectory, name: str, *, key: str) -> Path:
    """A file of the auditor's own beside the runs.

    Raises:
        InputError: the runs lie in a database, which is not the auditor's to write to.
    """
    try:
        return run.path.parent / name
    except InputError:
        raise InputError(
            f"the server's runs lie in a database: set {key} in audit.toml, a place of your own"
        ) from None


def _is_new(run: RunDirectory) -> bool:
    if run.has(AUDIT) or run.state() is not RunState.DONE:
        return False
    if run.manifest().job.purpose == "price":  # asked what the job costs, and released nothing
        return False
    training = run.job().plan.training
    return training is not None and training.lanes > 0


def _remember(run: RunDirectory, path: Path) -> tuple[list[Finding], list[str]]:
    """Compare a run's signed ledger heads with those of all runs audited before."""
    if not run.has(CERTIFICATE):
        return [], ["the run has no certificate, so no ledger heads are remembered"]
    shown = read_certificate(run.content(CERTIFICATE))
    return remember_heads(path, shown, created=run.manifest().created), []
