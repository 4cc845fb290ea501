"""The certificate that a run leaves: made from what the sites signed, signed by the server.

Nothing is claimed here: the claims are computed from the sealed admissions and receipts by the same
function with which whoever reads the certificate computes them again.
"""

import base64
import contextlib
import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from sordino_protocols.certificate import FORMAT, Certificate
from sordino_protocols.certificate_claims import (
    SiteEvidence,
    composition,
    job_facts,
    open_evidence,
    site_claims,
    surplus,
    table_costs,
)
from sordino_protocols.certificate_facts import (
    EvaluationClaims,
    IntervalFacts,
    SiteFacts,
    TableClaims,
    key_facts,
)
from sordino_protocols.certificate_standards import LIMITS, STANDARDS
from sordino_protocols.errors import IntegrityError
from sordino_protocols.job import Job, SignedJob, read_job
from sordino_protocols.signing import Signer, TrustStore
from sordino_server.runs import (
    CERTIFICATE,
    COUNTS,
    EVALUATION,
    MODEL,
    RESULTS,
    SYNTHESIS,
    RunDirectory,
)
from sordino_server.statement import EvaluationFacts
from sordino_server.table_facts import Counts, SynthesisFacts


@dataclass(frozen=True, slots=True)
class Proceedings:
    """What a finished run has to show.

    Attributes:
        run_id: the run.
        job: as its submitter signed it.
        admissions: by site, sealed, exactly as they came.
        receipts: the same; a site that sent none is missing.
        evaluation: what was learnt of the model; None where there is none.
        model: content of the released model's file; None where the run released none.
        table: what was released instead of a model; None where there is a model.
    """

    run_id: str
    job: SignedJob
    admissions: Mapping[str, bytes]
    receipts: Mapping[str, bytes]
    evaluation: EvaluationFacts | None
    model: bytes | None
    table: TableClaims | None = None


def issue(run: RunDirectory, signer: Signer, sites: TrustStore) -> Certificate:
    """Write a settled run's `certificate.json`; again, if it is called again.

    Args:
        run: with sealed admissions and receipts, and its results.
        signer: the server.
        sites: the sites' keys.

    Raises:
        NotFoundError: the run has not got that far.
        AuthenticationError: a site did not sign what lies in the run's directory.
        PeerError: a sealed message there cannot be read.
        IntegrityError: it is another message than it should be.
    """
    proceedings = Proceedings(
        run_id=run.run_id,
        job=run.manifest().job,
        admissions=run.sealed("admissions"),
        receipts=run.sealed("receipts"),
        evaluation=run.read_if_there(EVALUATION, EvaluationFacts),
        model=run.content(MODEL) if run.has(MODEL) else None,
        table=_table(run),
    )
    certificate = certify(proceedings, signer, sites, now=dt.datetime.now(dt.UTC))
    run.save_content(CERTIFICATE, certificate.canonical())
    return certificate


def certify(
    proceedings: Proceedings, signer: Signer, sites: TrustStore, *, now: dt.datetime
) -> Certificate:
    """The signed certificate of a run; raises as `issue` does."""
    job = read_job(proceedings.job.body)
    evidence = {name: _evidence(name, proceedings, job, sites) for name in proceedings.admissions}
    facts = {
        name: SiteFacts(
            public_key=key_facts(name, sites.keys[name]).public_key,
            admission=_base64(proceedings.admissions[name]),
            receipt=None if each.receipt is None else _base64(proceedings.receipts[name]),
            claims=site_claims(each, job),
        )
        for name, each in evidence.items()
    }
    model = proceedings.model
    unsigned = Certificate(
        format=FORMAT,
        run_id=proceedings.run_id,
        issued_at=now.isoformat(timespec="milliseconds"),
        server=key_facts(signer.name, signer.key.public_key()),
        job=job_facts(proceedings.job, job),
        sites=facts,
        composition=composition(evidence, delta=job.file.require_privacy().delta),
        model_sha256=None if model is None else hashlib.sha256(model).hexdigest(),
        evaluation=_evaluation(proceedings.evaluation) if proceedings.evaluation else None,
        limits=LIMITS,
        standards=STANDARDS,
        signature="",
        audits=(),
        table=proceedings.table,
    )
    return unsigned.signed_by(signer)


def _evidence(name: str, proceedings: Proceedings, job: Job, sites: TrustStore) -> SiteEvidence:
    """What a site signed; a receipt that cannot be is none, so the plan's whole cost is assumed."""
    admission = proceedings.admissions[name]
    receipt = proceedings.receipts.get(name)
    with contextlib.suppress(IntegrityError):
        evidence = open_evidence(name, admission, receipt, job=job, trust=sites)
        if not surplus(evidence, job):
            return evidence
    return open_evidence(name, admission, None, job=job, trust=sites)


def _evaluation(facts: EvaluationFacts) -> EvaluationClaims:
    return EvaluationClaims(
        loss=facts.loss,
        figures={
            name: IntervalFacts(value=each.value, lower=each.lower, upper=each.upper)
            for name, each in facts.metrics.items()
        },
        confidence=facts.confidence,
        noise_std=facts.noise_std,
        sites=facts.sites,
    )


def _table(run: RunDirectory) -> TableClaims | None:
    """What a run released that has no model."""
    synthesis = run.read_if_there(SYNTHESIS, SynthesisFacts)
    counts = run.read_if_there(COUNTS, Counts)
    if synthesis is not None:
        sites = synthesis.sites
    elif counts is not None:
        sites = counts.sites
    else:
        return None
    epsilon, without_masks = table_costs(run.job())
    return TableClaims(
        mode=synthesis.mode if synthesis else None,
        generator=synthesis.generator.kind if synthesis else None,
        sites=sites,
        missing=synthesis.missing if synthesis else (),
        epsilon=epsilon,
        epsilon_without_masks=without_masks,
        files={
            name: hashlib.sha256(run.content(name)).hexdigest() for name in RESULTS if run.has(name)
        },
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
