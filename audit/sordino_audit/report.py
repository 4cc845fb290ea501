"""An audit as a document: versioned JSON with a canonical hash, and the words for a person.

The hash covers everything in the document, the hash of the previous audit included, so that a
series of audits cannot be thinned out without a trace.
"""

import hashlib
import json
import math

from sordino_audit.audit_document import (
    AuditDocument,
    BoundEntry,
    CountsEntry,
    DetectableEntry,
    FindingEntry,
    MechanismEntry,
    ScoresEntry,
    TestEntry,
)
from sordino_audit.bounds.clopper_pearson import Counts
from sordino_audit.lanes import LaneAudit
from sordino_audit.preregistration import POWER
from sordino_protocols.errors import IntegrityError

SCHEMA_VERSION = 2

_SCORE_DIGITS = 4


def document(audit: LaneAudit, *, run_id: str, previous: str | None = None) -> AuditDocument:
    """The document of an audit.

    Args:
        audit: the result.
        run_id: the run that was audited.
        previous: hash of the previous audit in this series, if there is one.
    """
    noise = audit.noise
    result = AuditDocument(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        sites=list(audit.sites),
        rounds=audit.plan.rounds,
        mechanism=MechanismEntry(
            unit=audit.plan.unit,
            update=audit.plan.update,
            clipping=audit.plan.clipping.kind,
        ),
        verdict=audit.verdict.value,
        exit_code=int(audit.exit_code),
        claimed=audit.claim.epsilon,
        delta=audit.claim.delta,
        ceiling=audit.ceiling,
        lower_bound=audit.lower_bound,
        confidence=audit.confidence,
        bounds=[
            BoundEntry(name=each.name, assumption=each.assumption, epsilon_low=each.epsilon_low)
            for each in audit.bounds
        ],
        tests=[
            TestEntry(name=each.name, assumption=each.assumption, p_value=each.p_value)
            for each in audit.tests
        ],
        findings=[
            FindingEntry(check=each.check, severity=each.severity.value, message=each.message)
            for each in audit.findings
        ],
        sigma_ratio=[_finite(each) for each in (noise.low, noise.estimate, noise.high)],
        detectable=audit.detectable.deficit,
        detectable_by=audit.detectable.check,
        detectable_checks=DetectableEntry(
            power=POWER,
            membership=audit.detectable.by_membership,
            conformance=audit.detectable.by_conformance,
        ),
        counts=_counts(audit.counts),
        scores=ScoresEntry(
            inserted=[round(each, _SCORE_DIGITS) for each in audit.scores_inserted],
            held_out=[round(each, _SCORE_DIGITS) for each in audit.scores_held_out],
        ),
        claimed_curve=[[a, b] for a, b in audit.claimed_curve],
        previous=previous,
        hash="",
    )
    result["hash"] = canonical_hash(result)
    return result


def to_json(audit: AuditDocument) -> str:
    """The document as it is stored: sorted keys, indented, no NaN."""
    return json.dumps(audit, indent=2, sort_keys=True, allow_nan=False) + "\n"


def canonical_hash(audit: AuditDocument) -> str:
    """SHA-256 of the document without its hash, keys sorted, no white space; 64 hex digits."""
    content = {key: value for key, value in audit.items() if key != "hash"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def verify(audit: AuditDocument) -> None:
    """Check that a document is the one that was issued.

    Raises:
        IntegrityError: the content does not fit the hash.
    """
    if audit["hash"] != canonical_hash(audit):
        raise IntegrityError(f"the audit of run {audit['run_id']} was altered after it was issued")


def plain_verdict(audit: AuditDocument) -> str:
    """The outcome in one sentence for a reader without mathematics."""
    match audit["verdict"]:
        case "violation":
            return "The promise was broken: " + _worst(audit) + "."
        case "suspect":
            return "Something is odd and must be repeated with more lanes: " + _worst(audit) + "."
        case "inconclusive":
            return (
                "The attack found nothing, but was too weak to find even a gross fault: "
                "its silence means nothing."
            )
        case _:
            return (
                "The attack found no more than was promised. It would have noticed, with "
                f"probability {POWER:.0%}, if {audit['detectable']:.1%} or more of the noise had "
                "been missing."
            )


def blind_spots(audit: AuditDocument) -> list[str]:
    """What this audit could not have seen, a sentence each."""
    sites, membership = len(audit["sites"]), audit["detectable_checks"]["membership"]
    found = (
        f"Without any assumption on the noise, only a loss of {membership:.0%} of it or more "
        "would have been noticed."
        if membership < 1
        else "Without any assumption on the noise, no loss of noise would have been noticed "
        "at the threshold that was fixed beforehand."
    )
    return [
        (
            f"It saw what the server saw: {audit['rounds']} noisy updates from each of {sites} "
            f"{'site' if sites == 1 else 'sites'}. Of the claimed epsilon of "
            f"{audit['claimed']:.2f}, this view can show at most {audit['ceiling']:.2f}."
        ),
        found,
        "A site that treats canary lanes unlike the model's own coordinates would not be noticed.",
        *_unseen(audit["mechanism"]),
        (
            "It attacked the model updates, not the noisy evaluation or noisy statistics of "
            "features, whose cost is accounted for but was not attacked."
        ),
        "It says nothing of people with access to a site's own machines, nor of timing.",
    ]


def _unseen(mechanism: MechanismEntry) -> list[str]:
    """What lanes do not show of this plan."""
    sentences = []
    if mechanism["unit"] == "entity":
        sentences.append(
            "A canary is an entity with nothing but its lane: whether a site groups records into "
            "entities as it declares, and draws no more of each than it may, was not checked."
        )
    if mechanism["update"] == "delta":
        sentences.append(
            "Lanes are released as noisy sums. That the change of the model was made from the same "
            "noisy sums, and from nothing else, was not checked."
        )
    match mechanism["clipping"]:
        case "adaptive":
            sentences.append(
                "Noise was measured against the published clipping norm of each round. No canary "
                "touches the coordinate that moves this norm: whether sites count honestly there "
                "was not checked."
            )
        case "per_layer" | "normalized":
            sentences.append(
                "A canary's gradient lies in its lane alone: how the parts of a gradient in "
                "several layers are clipped was not checked."
            )
    return sentences


def _worst(audit: AuditDocument) -> str:
    worst = [each["message"] for each in audit["findings"] if each["severity"] == audit["verdict"]]
    return "; ".join(worst)


def _counts(counts: Counts) -> CountsEntry:
    return CountsEntry(
        false_positives=counts.false_positives,
        held_out=counts.held_out,
        false_negatives=counts.false_negatives,
        inserted=counts.inserted,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
