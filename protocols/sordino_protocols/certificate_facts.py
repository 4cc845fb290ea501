"""The parts of a certificate's document, as its JSON has them; see `certificate`."""

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, JsonValue

from sordino_protocols.files import STRICT
from sordino_protocols.heads import SignedHead
from sordino_protocols.job import JobKind, Purpose
from sordino_protocols.plan import LossName, SynthesisMode
from sordino_protocols.privacy import PrivacyUnit
from sordino_protocols.scorecard import Figure


class KeyFacts(BaseModel):
    """Somebody's name and Ed25519 public key, base64 of 32 bytes."""

    model_config = STRICT

    name: str
    public_key: str


class HeadFacts(BaseModel):
    """The newest entry of a site's ledger, signed; see `heads.SignedHead`."""

    model_config = STRICT

    length: int
    hash: str
    signature: str


class JobFacts(BaseModel):
    """The job as its submitter signed it, and what it says.

    Attributes:
        body: the canonical bytes that the signature covers.
        digest: SHA-256 of the body, in hex.
        submitter: who signed.
        purpose: what the signature allows; it covers this and the nonce.
        nonce: 32 hex digits.
        signature: Ed25519, hex.
        name: of the job, as its body says; this and everything below follows from the body.
        kind: whether a model was trained, one that was brought was validated, records were
            synthesized, or counted.
        dataset: by its name at the sites.
        unit: whom the guarantee is about.
        epsilon: declared limit for one unit at one site.
        delta: of the same.
    """

    model_config = STRICT

    body: str
    digest: str
    submitter: str
    purpose: Purpose
    nonce: str
    signature: str
    name: str
    kind: JobKind
    dataset: str
    unit: PrivacyUnit
    epsilon: float
    delta: float


class BoundFacts(BaseModel):
    """What an epsilon means for one person, without mathematics.

    Attributes:
        false_positive_rate: share of outsiders whom an attacker wrongly accuses.
        true_positive_rate: largest share of members whom any attacker can then recognise.
        words: the same as a sentence.
    """

    model_config = STRICT

    false_positive_rate: float
    true_positive_rate: float
    words: str


class ReleaseFacts(BaseModel):
    """A mechanism that ran on a site's records.

    Attributes:
        event: canonical JSON of `privacy.Event`.
        times: how often it was charged.
    """

    model_config = STRICT

    event: dict[str, JsonValue]
    times: int


class ApprovalFacts(BaseModel):
    """A person at a site who said yes; the name is a declared fact."""

    model_config = STRICT

    approver: str
    decision: str
    at: str
    signature: str


class BudgetFacts(BaseModel):
    """The lifetime budget that the run drew on, when the run was settled.

    Attributes:
        limit: epsilon, for ever.
        delta: of that.
        spent: of it, by the Rényi filter, by all runs so far.
        left: what no run has spent or holds.
    """

    model_config = STRICT

    limit: float
    delta: float
    spent: float
    left: float


class SiteClaims(BaseModel):
    """What the run cost one privacy unit at one site; all of it follows from what the site signed.

    Attributes:
        is_settled: whether the site sent a receipt. If not, it is taken to have spent its plan, and
            what only a receipt says is absent.
        order_of_magnitude: declared number of privacy units, a public constant.
        epsilon_planned: held at admission, by PLD.
        epsilon_spent_pld: of everything charged, by PLD: the run's own tight cost.
        epsilon_spent_rdp: the same by the Rényi curve: what the lifetime budget counts.
        delta: of all three.
        releases: everything that was charged.
        bound: what the spent epsilon means.
        policy_sha256: of the policy in force at admission, hex.
        approvals: who at the site had to agree, and did.
        budget: the lifetime budget.
        network_cut_off: whether the kernel cut the vault off from every network.
        ledger_admitted: the ledger's head at admission.
        ledger_settled: the same at the end.
    """

    model_config = STRICT

    is_settled: bool
    order_of_magnitude: int
    epsilon_planned: float
    epsilon_spent_pld: float
    epsilon_spent_rdp: float
    delta: float
    releases: tuple[ReleaseFacts, ...]
    bound: BoundFacts
    policy_sha256: str | None
    approvals: tuple[ApprovalFacts, ...]
    budget: BudgetFacts | None
    network_cut_off: bool
    ledger_admitted: HeadFacts
    ledger_settled: HeadFacts | None


class SiteFacts(BaseModel):
    """A site's evidence and what follows from it.

    Attributes:
        public_key: of the site, base64; compare it with the one that you trust.
        admission: the sealed admission as the site signed it, base64.
        receipt: the sealed receipt, base64; None if the site never sent one.
        claims: what both say.
    """

    model_config = STRICT

    public_key: str
    admission: str
    receipt: str | None
    claims: SiteClaims


class CompositionEntry(BaseModel):
    """The cost for one person with a privacy unit at so many sites.

    Attributes:
        sites: at how many.
        dearest: the sites that make this the worst case.
        epsilon: of everything that they released, by PLD.
        delta: at which that holds: the job's own, however many sites there are.
        bound: what it means.
    """

    model_config = STRICT

    sites: int
    dearest: tuple[str, ...]
    epsilon: float
    delta: float
    bound: BoundFacts


class CompositionFacts(BaseModel):
    """How the sites' costs add up, and by which rule."""

    model_config = STRICT

    rule: str
    table: tuple[CompositionEntry, ...]


class IntervalFacts(BaseModel):
    """A value with an interval that holds the truth with the evaluation's confidence."""

    model_config = STRICT

    value: float
    lower: float
    upper: float


class EvaluationClaims(BaseModel):
    """How good the model is, from noisy tables that were charged like any release.

    Attributes:
        loss: what the model is for.
        figures: by name; errors are in the label's units.
        confidence: of each interval alone.
        noise_std: standard deviation of the noise on each count.
        sites: whose held-out units were asked.
    """

    model_config = STRICT

    loss: LossName
    figures: dict[Figure, IntervalFacts]
    confidence: float
    noise_std: float
    sites: tuple[str, ...]


class TableClaims(BaseModel):
    """What a run released that made no model: a table of counts, of marginals or of rows.

    Attributes:
        mode: of a synthesis; None of counting queries.
        generator: how a synthesis makes rows; None of counting queries.
        sites: whose releases are in it; the server's word, as `missing` and `files`.
        missing: sites of a sum that stayed silent.
        epsilon: what the server can learn of one unit at one site, by PLD, at the job's delta; in
            mode "sum" as long as the masks hold and no more sites than planned reveal their noise.
        epsilon_without_masks: the same if nobody else is trusted, which is what a ledger charges.
        files: SHA-256 of what came of it, hex, by the file's name.
    """

    model_config = STRICT

    mode: SynthesisMode | None
    generator: str | None
    sites: tuple[str, ...]
    missing: tuple[str, ...]
    epsilon: float
    epsilon_without_masks: float
    files: dict[str, str]


class MappingEntry(BaseModel):
    """A part of a guideline and what answers it.

    Attributes:
        clause: where in the guideline.
        asks: what is asked there, in our words.
        answered_by: fields of the certificate; empty where it answers nothing.
        stays: what the organisation has to do itself.
    """

    model_config = STRICT

    clause: str
    asks: str
    answered_by: tuple[str, ...]
    stays: str


class StandardFacts(BaseModel):
    """How the certificate maps to one guideline. It helps an assessment and is none."""

    model_config = STRICT

    title: str
    entries: tuple[MappingEntry, ...]


class FindingFacts(BaseModel):
    """Something that should not be, found by an audit."""

    model_config = STRICT

    check: str
    severity: str
    message: str


class AuditFacts(BaseModel):
    """The summary of an audit of the run.

    Attributes:
        document_hash: of the whole audit document, which names it.
        run_id: the run that was audited.
        verdict: see `sordino audit run`.
        claimed: epsilon that was attacked.
        delta: of that.
        lower_bound: epsilon that the attack has shown, assuming nothing of the noise.
        confidence: of the bound.
        detectable: smallest share of missing noise that the audit would have found.
        findings: what should not be.
    """

    model_config = STRICT

    document_hash: str
    run_id: str
    verdict: str
    claimed: float
    delta: float
    lower_bound: float
    confidence: float
    detectable: float
    findings: tuple[FindingFacts, ...]


class AttachedAudit(BaseModel):
    """An audit's summary with its auditor's signature, which binds it to one certificate."""

    model_config = STRICT

    auditor: KeyFacts
    summary: AuditFacts
    signature: str


def key_facts(name: str, key: Ed25519PublicKey) -> KeyFacts:
    """A name and a public key as a document has them."""
    return KeyFacts(name=name, public_key=base64.b64encode(key.public_bytes_raw()).decode("ascii"))


def head_facts(head: SignedHead) -> HeadFacts:
    """A head as a document has it."""
    return HeadFacts(length=head.length, hash=head.hash, signature=head.signature)
