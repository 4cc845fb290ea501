"""What a person at a site decided about a run, signed.

A policy may let a job wait for people. What each of them says is a signature over the site, the
run, the job's digest, the policy in force, the decision and the time, so it is good for nothing
else: not for another run of the same job, not at another site, not after the policy changed. The
receipt of the run carries these signatures, and a certificate's reader checks them offline.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sordino_protocols.errors import InputError
from sordino_protocols.signing import (
    SIGNATURE_BYTES,
    Signer,
    TrustStore,
    canonical_json,
    check_name,
)

ApprovalDecision = Literal["approve", "reject"]
DECISIONS: Mapping[str, ApprovalDecision] = MappingProxyType(
    {"approve": "approve", "reject": "reject"}
)

_CONTEXT = b"sordino/approval/1\n"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(rf"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")
_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SHOWN_KEYS = {"approver", "decision", "at", "signature"}


@dataclass(frozen=True, slots=True)
class ApprovalSubject:
    """What is decided about: one run of one job at one site, under one policy.

    Attributes:
        site: where.
        run_id: which run.
        job_digest: SHA-256 of the job's canonical bytes, hex.
        policy_sha256: of the policy that asks, hex.
    """

    site: str
    run_id: str
    job_digest: str
    policy_sha256: str

    def __post_init__(self) -> None:
        check_name(self.site)
        if not _RUN_ID.fullmatch(self.run_id):
            raise InputError("run_id must be 1 to 64 of a-z, 0-9 and '-', not beginning with '-'")
        for name in ("job_digest", "policy_sha256"):
            if not _SHA256.fullmatch(getattr(self, name)):
                raise InputError(f"{name} must be 64 hex digits")


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's decision.

    Attributes:
        subject: what was decided about.
        approver: who decided, by the name of the key.
        decision: yes or no.
        at: when, in whole seconds, UTC, ISO 8601, such as "2026-05-04T08:30:00+00:00".
        signature: Ed25519, 128 hex digits.
    """

    subject: ApprovalSubject
    approver: str
    decision: ApprovalDecision
    at: str
    signature: str

    def __post_init__(self) -> None:
        check_name(self.approver)
        if self.decision not in DECISIONS:
            raise InputError("an approval's decision must be approve or reject")
        if not _SIGNATURE.fullmatch(self.signature):
            raise InputError(f"an approval's signature must be {2 * SIGNATURE_BYTES} hex digits")
        if spell_time(self.time) != self.at:
            raise InputError("an approval's time must be in whole seconds, UTC, ISO 8601")

    @property
    def time(self) -> dt.datetime:
        """When it was decided."""
        try:
            return dt.datetime.fromisoformat(self.at).astimezone(dt.UTC)
        except (ValueError, OverflowError):
            raise InputError("an approval's time must be ISO 8601") from None


def spell_time(moment: dt.datetime) -> str:
    """The one spelling of a time: whole seconds, UTC."""
    return moment.astimezone(dt.UTC).replace(microsecond=0).isoformat()


def sign_approval(
    subject: ApprovalSubject, decision: ApprovalDecision, signer: Signer, *, at: dt.datetime
) -> Approval:
    """Decide as the owner of a key."""
    when = spell_time(at)
    signature = signer.sign(_signed_bytes(subject, signer.name, decision, when))
    return Approval(subject, signer.name, decision, when, signature.hex())


def verify_approval(approval: Approval, trust: TrustStore) -> None:
    """Return if the approver is trusted and decided exactly this.

    Raises:
        AuthenticationError: nobody of that name is trusted, or the signature is not theirs.
    """
    message = _signed_bytes(approval.subject, approval.approver, approval.decision, approval.at)
    trust.verify(approval.approver, message, bytes.fromhex(approval.signature))


def show_approval(approval: Approval) -> dict[str, str]:
    """What a receipt says of an approval; the receipt itself says what it is about."""
    return {
        "approver": approval.approver,
        "decision": approval.decision,
        "at": approval.at,
        "signature": approval.signature,
    }


def read_approval(raw: Mapping[str, object], subject: ApprovalSubject) -> Approval:
    """Read what `show_approval` made; whether the signature holds is for `verify_approval`.

    Raises:
        InputError: the fields are not an approval's.
    """
    texts = {name: value for name, value in raw.items() if isinstance(value, str)}
    if set(raw) != _SHOWN_KEYS or set(texts) != _SHOWN_KEYS:
        raise InputError(f"an approval must have exactly the texts {sorted(_SHOWN_KEYS)}")
    decision = DECISIONS.get(texts["decision"])
    if decision is None:
        raise InputError("an approval's decision must be approve or reject")
    return Approval(subject, texts["approver"], decision, texts["at"], texts["signature"])


def _signed_bytes(
    subject: ApprovalSubject, approver: str, decision: ApprovalDecision, at: str
) -> bytes:
    facts = {
        "site": subject.site,
        "run_id": subject.run_id,
        "job_digest": subject.job_digest,
        "policy_sha256": subject.policy_sha256,
        "approver": approver,
        "decision": decision,
        "at": at,
    }
    return _CONTEXT + canonical_json(facts)
