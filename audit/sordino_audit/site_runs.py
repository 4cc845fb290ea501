"""A site's audits of its own runs.

They are computed from what only the site saw, so their documents lie in the site's state directory,
readable to its owner alone, and nothing sends them anywhere. Of them, verdict and exit code may be
told elsewhere.
"""

import datetime as dt
import time

from sordino_audit.audit_document import AuditDocument
from sordino_audit.e_value_store import EValueStore
from sordino_audit.filing import Audited, filed
from sordino_audit.occasion import Occasion
from sordino_audit.report import site_document
from sordino_audit.series import E_VALUES, Series
from sordino_audit.site_audit import audit_site_run
from sordino_client.admitted import AdmittedRuns
from sordino_client.config import SiteConfig
from sordino_client.continuity import RECEIPT
from sordino_client.outbox import Outbox
from sordino_protocols.errors import NotFoundError


def site_series(config: SiteConfig) -> Series:
    """The site's own reports."""
    return Series(config.site.state / "audits", is_private=True)


def audit_at_site(config: SiteConfig, run_id: str, *, confidence: float) -> Audited:
    """Audit a run at the site that took part in it, and file the document there.

    Raises:
        NotFoundError: the site never admitted this run, or has noted none of its steps.
        InputError: the run carried no lanes, or the confidence is outside [0.5, 1).
        IntegrityError: a file of the run, or the series of reports, does not hold together.
    """
    started = time.monotonic()
    memory = EValueStore(config.site.state / E_VALUES)
    audit = audit_site_run(config, run_id, confidence=confidence, weigh=memory.weigh(run_id))
    admitted = AdmittedRuns(config.site.state / "runs").get(run_id)
    if admitted is None:
        raise NotFoundError(f"site {config.site.name} never took part in run {run_id}")
    occasion = Occasion(
        issued_at=dt.datetime.now(dt.UTC),
        seconds=time.monotonic() - started,
        job_sha256=admitted.job_digest,
    )
    document, place = filed(site_document(audit, occasion=occasion), site_series(config))
    return Audited(document, place)


def new_site_runs(config: SiteConfig) -> list[str]:
    """Runs with canaries that are settled and noted here, and that the site did not audit yet."""
    audited = {_run_of(each.document) for each in site_series(config).reports()}
    outbox = Outbox(config.site.state / "outbox")
    admitted = sorted(AdmittedRuns(config.site.state / "runs").runs(), key=lambda run: run.run_id)
    return [
        run.run_id
        for run in admitted
        if run.run_id not in audited
        and run.job.plan.lanes > 0
        and RECEIPT in outbox.releases(run.run_id)
        and (config.witness_path / run.run_id).is_dir()
    ]


def _run_of(document: AuditDocument) -> str | None:
    return document.run_id if document.kind == "site" else None
