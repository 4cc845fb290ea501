"""Judging a certificate offline: are the signatures good, and is every claim what they prove?

Two questions, two exit codes. Integrity (8): the bytes are not what the server, a site, the
submitter or an auditor signed. Claims (9): everything is signed, and yet a number is not what
follows from the signed events, or a site charged less than its events cost. Claims are never
believed: they are made anew from the evidence and compared, field by field.

Without keys from elsewhere the keys inside are used, and the verification says so: then it shows
only that the document agrees with itself.
"""

import datetime as dt
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sordino_protocols.certificate import (
    Certificate,
    audit_bytes,
    bytes_of,
    is_signed_by,
    public_key_of,
)
from sordino_protocols.certificate_accounts import check_accounts
from sordino_protocols.certificate_claims import (
    SiteEvidence,
    bound_facts,
    composition,
    job_facts,
    open_evidence,
    site_claims,
    surplus,
)
from sordino_protocols.certificate_facts import (
    AttachedAudit,
    BoundFacts,
    CompositionFacts,
    JobFacts,
    KeyFacts,
    SiteFacts,
)
from sordino_protocols.certificate_problems import (
    TOLERANCE,
    Ground,
    Problem,
    broken,
    differences,
    false,
)
from sordino_protocols.certificate_standards import LIMITS, STANDARDS
from sordino_protocols.certificate_tables import check_table
from sordino_protocols.errors import (
    AuthenticationError,
    ExitCode,
    InputError,
    IntegrityError,
    PeerError,
    SordinoError,
)
from sordino_protocols.job import Job, JobFile, SignedJob, read_job, verify_job, weights_digest
from sordino_protocols.model_file import read_model
from sordino_protocols.signing import TrustStore

_VIOLATION = "violation"


@dataclass(frozen=True, slots=True)
class TrustedKeys:
    """Keys that came another way than the certificate; None where there are none.

    Attributes:
        server: the servers whose certificates count.
        sites: the sites' keys.
        submitters: those whose jobs count.
        auditors: those whose audits count.
    """

    server: TrustStore | None = None
    sites: TrustStore | None = None
    submitters: TrustStore | None = None
    auditors: TrustStore | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome.

    Attributes:
        problems: what is wrong; none if the certificate holds.
        notes: what nobody vouches for, because its key came with the certificate.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> ExitCode:
        """0, 8 for broken integrity, 9 for a claim that does not hold; 8 if both."""
        grounds = {problem.ground for problem in self.problems}
        if Ground.INTEGRITY in grounds:
            return ExitCode.INTEGRITY
        return ExitCode.AUDIT_VIOLATION if grounds else ExitCode.OK


def verify_certificate(certificate: Certificate, trusted: TrustedKeys) -> Verification:
    """Check everything that can be checked without asking anybody; a second or two."""
    notes: list[str] = []
    problems = [*_check_server(certificate, trusted.server, notes)]
    job = None
    try:
        job = _read_job(certificate.job, trusted.submitters, notes)
    except AuthenticationError as error:
        reason = f"{error}; it is over the body, the purpose, the nonce"
        problems.append(broken("job.signature", reason))
    except SordinoError as error:
        problems.append(broken("job.body", str(error)))
    if job is not None:
        problems += _check_job_facts(certificate.job, job)
        problems += _check_sites(certificate, job, trusted.sites, notes)
        problems += _check_evaluation(certificate, job)
        problems += check_table(certificate, job)
    problems += _check_texts(certificate)
    for index, audit in enumerate(certificate.audits):
        problems += _check_audit(f"audits[{index}]", audit, certificate, trusted.auditors, notes)
    return Verification(tuple(problems), tuple(notes))


def check_model(certificate: Certificate, content: bytes) -> Iterator[Problem]:
    """Problems of the file of a model, or of a table, that is said to be the certificate's.

    A model that was validated is known by its numbers, which the sites compared with the job.
    """
    if certificate.job.kind == "validate":
        if _numbers_digest(content) != _brought_digest(certificate):
            yield broken("job.body", "the model's file is not the one that was validated")
    elif certificate.table is not None:
        if hashlib.sha256(content).hexdigest() not in certificate.table.files.values():
            yield broken("table.files", "the file is none of those that the run released")
    elif hashlib.sha256(content).hexdigest() != certificate.model_sha256:
        yield broken("model_sha256", "the model's file is another one")


def check_job_file(certificate: Certificate, file: JobFile) -> Iterator[Problem]:
    """Problems of a job file that is said to be the certificate's."""
    try:
        job = read_job(certificate.job.body.encode("ascii"))
    except (PeerError, ValueError):
        return
    if job.file != _filled_in(file, job.file):
        yield broken("job.body", "the job file says something else")


def _filled_in(file: JobFile, known: JobFile) -> JobFile:
    """The file with what the command that submits it fills in, where it does not say that."""
    filled: dict[str, object] = {}
    if file.validation is not None and file.validation.weights_sha256 is None:
        filled["validation"] = known.validation
    if file.synthesis is not None and known.synthesis is not None:
        facts = {name: getattr(known.synthesis, name) for name in ("schema_sha256", "shape")}
        absent = {name: fact for name, fact in facts.items() if not getattr(file.synthesis, name)}
        filled["synthesis"] = file.synthesis.model_copy(update=absent)
    return file.model_copy(update=filled)


def _numbers_digest(content: bytes) -> str | None:
    try:
        model = read_model(content)
    except InputError:
        return None
    scaling = np.zeros(0, np.float32) if model.scaling is None else model.scaling.vector()
    return weights_digest(model.weights.astype(np.float32), scaling)


def _brought_digest(certificate: Certificate) -> str:
    try:
        validation = read_job(certificate.job.body.encode("ascii")).file.validation
    except (PeerError, ValueError):
        validation = None
    return "" if validation is None else validation.weights_sha256 or ""


# ------------------------------------------------------------------ who signed


def _check_server(
    certificate: Certificate, trusted: TrustStore | None, notes: list[str]
) -> Iterator[Problem]:
    try:
        key = _trusted_key("server", certificate.server, trusted, notes)
    except IntegrityError as error:
        yield broken("server.public_key", str(error))
        return
    if not is_signed_by(key, certificate.signed_bytes(), certificate.signature):
        yield broken("signature", f"{certificate.server.name!r} did not sign this certificate")
    try:
        issued = dt.datetime.fromisoformat(certificate.issued_at)
    except ValueError:
        issued = None
    if issued is None or issued.utcoffset() != dt.timedelta(0):
        yield broken("issued_at", "is no time in UTC")


def _trusted_key(
    role: str, facts: KeyFacts, trusted: TrustStore | None, notes: list[str]
) -> Ed25519PublicKey:
    """The key that counts.

    Raises:
        IntegrityError: nobody of that name is trusted, or the certificate has another key.
    """
    key = public_key_of(facts.public_key)
    if trusted is None:
        fingerprint = hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
        notes.append(f"the key of {role} {facts.name} came with the certificate: {fingerprint}")
        return key
    known = trusted.keys.get(facts.name)
    if known is None:
        raise IntegrityError(f"nobody called {facts.name!r} is trusted as {role}")
    if known.public_bytes_raw() != key.public_bytes_raw():
        raise IntegrityError(f"is not the key that is trusted as {facts.name!r}")
    return known


def _read_job(facts: JobFacts, submitters: TrustStore | None, notes: list[str]) -> Job:
    if not facts.body.isascii():
        raise IntegrityError("the job is not in canonical form")
    signed = _signed_job(facts)
    if submitters is not None:
        return verify_job(signed, submitters)
    notes.append(f"the signature of submitter {facts.submitter} was not checked: no key was given")
    return read_job(signed.body)


def _signed_job(facts: JobFacts) -> SignedJob:
    try:
        signature = bytes.fromhex(facts.signature)
    except ValueError:
        signature = b""
    body = facts.body.encode("ascii")
    return SignedJob(body, facts.submitter, signature, facts.purpose, facts.nonce)


# ------------------------------------------------------------------ what it says


def _check_job_facts(facts: JobFacts, job: Job) -> Iterator[Problem]:
    yield from differences("job", facts, job_facts(_signed_job(facts), job))
    if facts.purpose != job.purpose:
        yield broken("job.purpose", "the signature does not allow this job to be run")


def _check_sites(
    certificate: Certificate, job: Job, trusted: TrustStore | None, notes: list[str]
) -> Iterator[Problem]:
    opened: dict[str, SiteEvidence] = {}
    for name, facts in certificate.sites.items():
        match _open(name, facts, job, trusted, notes):
            case Problem() as problem:
                yield problem
            case evidence if count := surplus(evidence, job):
                # Not priced: an event from outside could be made to take for ever.
                reason = f"{count} charged events are not in the job's plan"
                yield false(f"sites.{name}.claims.releases", reason)
            case evidence:
                opened[name] = evidence
                yield from _check_site(f"sites.{name}", name, evidence, certificate, job)
    if len({facts.public_key for facts in certificate.sites.values()}) < len(certificate.sites):
        yield broken("sites", "two sites have one key")
    if len(certificate.sites) < job.file.cohort.quorum:
        yield false("sites", f"fewer than the job's quorum of {job.file.cohort.quorum}")
    if opened.keys() == certificate.sites.keys():
        yield from _check_composition(certificate.composition, opened, job)


def _check_composition(
    claimed: CompositionFacts, sites: Mapping[str, SiteEvidence], job: Job
) -> Iterator[Problem]:
    proven = composition(sites, delta=job.file.require_privacy().delta)
    if len(claimed.table) == len(proven.table):
        pairs = zip(claimed.table, proven.table, strict=True)
        table = tuple(
            right.model_copy(update={"bound": _up_to_rounding(left.bound, right.bound)})
            for left, right in pairs
        )
        proven = proven.model_copy(update={"table": table})
    yield from differences("composition", claimed, proven, tolerance=TOLERANCE)


def _up_to_rounding(claimed: BoundFacts, proven: BoundFacts) -> BoundFacts:
    """The proven bound, with the claimed number if that is the same up to rounding."""
    rate = claimed.true_positive_rate
    is_close = math.isclose(rate, proven.true_positive_rate, rel_tol=TOLERANCE)
    return bound_facts(rate) if is_close else proven


def _open(
    name: str, facts: SiteFacts, job: Job, trusted: TrustStore | None, notes: list[str]
) -> SiteEvidence | Problem:
    field = f"sites.{name}.public_key"
    try:
        claimed = KeyFacts(name=name, public_key=facts.public_key)
        trust = TrustStore({name: _trusted_key("site", claimed, trusted, notes)})
        field = f"sites.{name}.admission"
        admission = bytes_of(facts.admission)
        open_evidence(name, admission, None, job=job, trust=trust)
        field = f"sites.{name}.receipt"
        receipt = None if facts.receipt is None else bytes_of(facts.receipt)
        return open_evidence(name, admission, receipt, job=job, trust=trust)
    except SordinoError as error:
        return broken(field, str(error))


def _check_site(
    field: str, name: str, evidence: SiteEvidence, certificate: Certificate, job: Job
) -> Iterator[Problem]:
    for kind, message in (("admission", evidence.admission), ("receipt", evidence.receipt)):
        if message is None:
            continue
        if message.run_id != certificate.run_id:
            yield broken(f"{field}.{kind}", f"is about another run_id: {message.run_id}")
        if message.job_digest != certificate.job.digest:
            yield broken(f"{field}.{kind}", "is about another job.digest")
    claimed = certificate.sites[name].claims
    proven = site_claims(evidence, job)
    proven = proven.model_copy(update={"bound": _up_to_rounding(claimed.bound, proven.bound)})
    # A receipt's numbers are copied; without one they were computed, and may differ by rounding.
    tolerance = 0.0 if evidence.receipt is not None else TOLERANCE
    yield from differences(f"{field}.claims", claimed, proven, tolerance=tolerance)
    yield from check_accounts(field, name, evidence, job)


def _check_evaluation(certificate: Certificate, job: Job) -> Iterator[Problem]:
    """What of the server's word can be held against the job."""
    evaluation, plan = certificate.evaluation, job.plan.evaluation
    if (evaluation is None) != (plan is None):
        yield false("evaluation", "goes with a model, and only with one")
    if evaluation is None or plan is None:
        return
    if evaluation.loss != plan.loss:
        yield false("evaluation.loss", "is not the job's")
    if not set(evaluation.sites) <= set(certificate.sites):
        yield false("evaluation.sites", "names a site that was not admitted")
    noise = plan.noise_multiplier * math.sqrt(len(evaluation.sites))
    if not math.isclose(evaluation.noise_std, noise, rel_tol=TOLERANCE):
        yield false("evaluation.noise_std", f"is not what the job plans for them: {noise:.6g}")
    if not 0 < evaluation.confidence < 1:
        yield false("evaluation.confidence", "is no probability")
    for name, figure in evaluation.figures.items():
        if not figure.lower <= figure.value <= figure.upper:
            yield false(f"evaluation.figures.{name}", "lies outside its own interval")
    if certificate.model_sha256 is None and job.file.job.kind == "train":
        yield false("model_sha256", "a run that trained has a model")


def _check_texts(certificate: Certificate) -> Iterator[Problem]:
    """The words that nobody may change."""
    if certificate.limits != LIMITS:
        yield false("limits", "are not the limits of this format")
    if certificate.standards != STANDARDS:
        yield false("standards", "are not the mapping of this format")


def _check_audit(
    field: str,
    audit: AttachedAudit,
    certificate: Certificate,
    trusted: TrustStore | None,
    notes: list[str],
) -> Iterator[Problem]:
    try:
        key = _trusted_key("auditor", audit.auditor, trusted, notes)
    except IntegrityError as error:
        yield broken(f"{field}.auditor", str(error))
        return
    summary = audit.summary
    signed = audit_bytes(summary, certificate_digest=certificate.digest())
    if not is_signed_by(key, signed, audit.signature):
        yield broken(
            f"{field}.signature",
            f"{audit.auditor.name!r} did not sign this summary for this certificate",
        )
    if summary.run_id != certificate.run_id:
        yield broken(f"{field}.summary.run_id", "is another run")
    if summary.claimed < certificate.job.epsilon or summary.delta != certificate.job.delta:
        yield false(f"{field}.summary.claimed", "the audit attacked another guarantee")
    if summary.verdict == _VIOLATION or summary.lower_bound > certificate.job.epsilon:
        yield false(f"{field}.summary.verdict", "the audit found that the promise was broken")
