"""Runs that wait for people: what was asked, who decided what, kept across restarts.

Where a policy says `ask`, a run is admitted only after as many approvers as its rule wants said yes
to exactly this run of this job under exactly the policy in force. Nothing is held and nothing is
spent while a run waits. What must stay true, after a crash at any point:

- a yes counts only while its signature holds against a key in the approvers directory as it is now,
  its owner is one whom the rule asks, and the time for deciding has not passed;
- one person counts once, however often they said it;
- a no is final for the run, whoever's key goes or comes afterwards;
- a run id and a signature of a job, once asked with, are never asked with for anything else.
"""

import datetime as dt
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sordino_client.outbox import check_file_name, write_durably
from sordino_client.refusals import RefusedError
from sordino_protocols.approval import (
    Approval,
    ApprovalSubject,
    read_approval,
    show_approval,
    spell_time,
    verify_approval,
)
from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    IntegrityError,
    NotFoundError,
)
from sordino_protocols.job import PURPOSES, Job, SignedJob, read_job
from sordino_protocols.messages import Refusal
from sordino_protocols.signing import TrustStore, canonical_json

State = Literal["waiting", "approved", "rejected", "expired"]

# Clocks of two hosts may differ by this much.
_SKEW = dt.timedelta(minutes=5)
_LONGEST_REASON = 500
_REQUEST = "request.json"


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """What the rule of a policy that asks wants.

    Attributes:
        policy_sha256: of the policy, hex.
        rule: file, line and key of the rule.
        needed: how many people must say yes.
        approvers: who may decide; empty: whoever is in the approvers directory.
        expires_after: how long after the first asking a decision counts.
    """

    policy_sha256: str
    rule: str
    needed: int
    approvers: tuple[str, ...]
    expires_after: dt.timedelta


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A run that people are asked about.

    Attributes:
        subject: site, run, job and policy: what a signature is about.
        signed: the job as its submitter signed it.
        terms: whose yes is wanted.
        asked_at: when the run was first asked for; a changed policy does not begin anew.
    """

    subject: ApprovalSubject
    signed: SignedJob
    terms: ApprovalTerms
    asked_at: dt.datetime

    @property
    def expires_at(self) -> dt.datetime:
        """When no decision counts any more."""
        return self.asked_at + self.terms.expires_after

    @property
    def job(self) -> Job:
        """What is asked for; the bytes were read and verified before they were stored."""
        return read_job(self.signed.body)

    def may_decide(self, approver: str) -> bool:
        """Whether the rule asks this person."""
        return not self.terms.approvers or approver in self.terms.approvers


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a request stands.

    Attributes:
        state: "approved" once enough people said yes, and no longer than until it expires.
        approvals: every yes that counts, by name.
    """

    state: State
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True)
class GivenDecision:
    """A decision as it is kept: the reason stays at the site, so no signature covers it."""

    approval: Approval
    reason: str


class Approvals:
    """The directory of requests. Its methods may be called from any thread."""

    def __init__(self, directory: Path, *, site: str, now: Callable[[], dt.datetime]) -> None:
        """Open or make the directory.

        Raises:
            IntegrityError: a file in it cannot be read.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._site = site
        self._now = now
        self._lock = threading.RLock()
        self._requests: dict[str, ApprovalRequest] = {}
        self._decisions: dict[str, dict[str, GivenDecision]] = {}
        for path in sorted(directory.glob(f"*/{_REQUEST}")):
            self._load(path)
        self._nonces = {each.signed.nonce: run_id for run_id, each in self._requests.items()}

    def ask(self, run_id: str, signed: SignedJob, terms: ApprovalTerms) -> ApprovalRequest:
        """Put a run before the approvers; on disk when this returns. Asking again changes nothing.

        Under another policy than before, the same run is asked about anew, and what was said under
        the old one does not count; the time for deciding still began with the first asking.

        Raises:
            RefusedError: the run was asked about with another job, or the signature for another
                run.
        """
        with self._lock:
            self.require_unused(run_id, signed)
            known = self._requests.get(run_id)
            if known is not None and known.terms == terms:
                return known
            asked_at = self._now() if known is None else known.asked_at
            subject = ApprovalSubject(self._site, run_id, signed.digest, terms.policy_sha256)
            request = ApprovalRequest(subject, signed, terms, asked_at.replace(microsecond=0))
            path = self._directory / check_file_name(run_id) / _REQUEST
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_durably(path, canonical_json(_request_to_json(request)))
            self._requests[run_id] = request
            self._decisions.setdefault(run_id, {})
            self._nonces[signed.nonce] = run_id
            return request

    def require_unused(self, run_id: str, signed: SignedJob) -> None:
        """Return unless the run, or the signature of the job, was put before people with another.

        Raises:
            RefusedError: it was.
        """
        with self._lock:
            known = self._requests.get(run_id)
            if known is not None and known.signed != signed:
                raise RefusedError(Refusal.CHANGED_REPLAY, f"{run_id} waits with another job")
            if self._nonces.get(signed.nonce) not in {None, run_id}:
                raise RefusedError(Refusal.CHANGED_REPLAY, "the signature waits for another run")

    def was_rejected(self, run_id: str) -> bool:
        """Whether anybody ever said no to a run."""
        return any(each.approval.decision == "reject" for each in self.decisions(run_id))

    def decide(self, approval: Approval, trust: TrustStore, *, reason: str) -> Standing:
        """Keep what a person decided; on disk when this returns. The same again changes nothing.

        Raises:
            NotFoundError: nobody was asked about the run.
            AuthenticationError: the signature is not a trusted approver's.
            InputError: it is about something else, the rule does not ask this person, it comes too
                late, or the run was rejected already.
        """
        with self._lock:
            request = self.request(approval.subject.run_id)
            verify_approval(approval, trust)
            self._require_fitting(request, approval, reason)
            given = self._decisions[approval.subject.run_id]
            known = given.get(approval.approver)
            if known is None or known.approval != approval:
                self._write(GivenDecision(approval, reason))
            return self.standing(approval.subject.run_id, trust)

    def request(self, run_id: str) -> ApprovalRequest:
        """What was asked.

        Raises:
            NotFoundError: nobody was asked about this run.
        """
        with self._lock:
            request = self._requests.get(run_id)
        if request is None:
            raise NotFoundError(f"no run {run_id!r} was ever put before the approvers")
        return request

    def requests(self) -> tuple[ApprovalRequest, ...]:
        """Everything that was ever asked, oldest first."""
        with self._lock:
            return tuple(sorted(self._requests.values(), key=lambda each: each.asked_at))

    def decisions(self, run_id: str) -> tuple[GivenDecision, ...]:
        """What was decided about a run, under whatever policy, by name."""
        with self._lock:
            given = self._decisions.get(run_id, {})
            return tuple(given[name] for name in sorted(given))

    def standing(self, run_id: str, trust: TrustStore) -> Standing:
        """Where a request stands now, by the keys that are trusted now.

        Raises:
            NotFoundError: nobody was asked about this run.
        """
        request = self.request(run_id)
        given = [each.approval for each in self.decisions(run_id)]
        counted = tuple(each for each in given if _counts(each, request, trust))
        # A no needs no proof: it was verified when it came, and taking a key away undoes no no.
        if self.was_rejected(run_id):
            return Standing("rejected", counted)
        if self._now() >= request.expires_at:
            return Standing("expired", counted)
        is_enough = len(counted) >= request.terms.needed
        return Standing("approved" if is_enough else "waiting", counted)

    def _require_fitting(self, request: ApprovalRequest, approval: Approval, reason: str) -> None:
        if approval.subject != request.subject:
            raise InputError(
                "the approval is about another job or another policy; look again with:"
                f" sordino approval show {request.subject.run_id}"
            )
        if not request.may_decide(approval.approver):
            asked = ", ".join(request.terms.approvers)
            raise InputError(f"{approval.approver!r} is not asked by this rule; it asks {asked}")
        if len(reason) > _LONGEST_REASON or not reason.isprintable():
            raise InputError(f"a reason is one line of at most {_LONGEST_REASON} characters")
        now = self._now()
        if now >= request.expires_at:
            raise InputError(f"too late: this expired at {spell_time(request.expires_at)}")
        if not request.asked_at - _SKEW <= approval.time <= now + _SKEW:
            raise InputError("the approval's time is none at which this was asked; check the clock")
        if self.was_rejected(request.subject.run_id) and approval.decision == "approve":
            raise InputError("the run was rejected, and a no is final: have it submitted again")

    def _write(self, decision: GivenDecision) -> None:
        approval = decision.approval
        run_id = approval.subject.run_id
        path = self._directory / check_file_name(run_id) / f"by-{approval.approver}.json"
        content = {
            **show_approval(approval),
            "policy_sha256": approval.subject.policy_sha256,
            "reason": decision.reason,
        }
        write_durably(path, canonical_json(content))
        self._decisions[run_id][approval.approver] = decision

    def _load(self, path: Path) -> None:
        try:
            request = _read_request(path.read_bytes(), self._site)
            given = [_read_decision(each, request) for each in path.parent.glob("by-*.json")]
        except (ValueError, KeyError, TypeError, InputError, AuthenticationError):
            raise IntegrityError(f"{path.parent}: what was asked here cannot be read") from None
        run_id = request.subject.run_id
        if path.parent.name != run_id:
            raise IntegrityError(f"{path}: this file is about another run")
        self._requests[run_id] = request
        self._decisions[run_id] = {each.approval.approver: each for each in given}


def _counts(approval: Approval, request: ApprovalRequest, trust: TrustStore) -> bool:
    if approval.decision != "approve" or approval.subject != request.subject:
        return False
    if not request.may_decide(approval.approver):
        return False
    try:
        verify_approval(approval, trust)
    except AuthenticationError:
        return False
    return approval.time < request.expires_at


def _request_to_json(request: ApprovalRequest) -> dict[str, object]:
    signed, terms = request.signed, request.terms
    return {
        "run_id": request.subject.run_id,
        "asked_at": request.asked_at.isoformat(),
        "job": {
            "body": signed.body.decode("ascii"),
            "submitter": signed.submitter,
            "signature": signed.signature.hex(),
            "purpose": signed.purpose,
            "nonce": signed.nonce,
        },
        "terms": {
            "policy_sha256": terms.policy_sha256,
            "rule": terms.rule,
            "needed": terms.needed,
            "approvers": list(terms.approvers),
            "expires_after_seconds": terms.expires_after.total_seconds(),
        },
    }


def _read_request(content: bytes, site: str) -> ApprovalRequest:
    raw = json.loads(content)
    job, terms = raw["job"], raw["terms"]
    signed = SignedJob(
        body=job["body"].encode("ascii"),
        submitter=job["submitter"],
        signature=bytes.fromhex(job["signature"]),
        purpose=PURPOSES[job["purpose"]],
        nonce=job["nonce"],
    )
    asked = ApprovalTerms(
        policy_sha256=terms["policy_sha256"],
        rule=terms["rule"],
        needed=int(terms["needed"]),
        approvers=tuple(terms["approvers"]),
        expires_after=dt.timedelta(seconds=terms["expires_after_seconds"]),
    )
    subject = ApprovalSubject(site, raw["run_id"], signed.digest, asked.policy_sha256)
    asked_at = dt.datetime.fromisoformat(raw["asked_at"])
    return ApprovalRequest(subject, signed, asked, asked_at)


def _read_decision(path: Path, request: ApprovalRequest) -> GivenDecision:
    raw = json.loads(path.read_bytes())
    policy_sha256, reason = str(raw.pop("policy_sha256")), str(raw.pop("reason"))
    subject = request.subject
    about = ApprovalSubject(subject.site, subject.run_id, subject.job_digest, policy_sha256)
    approval = read_approval(raw, about)
    if path.name != f"by-{approval.approver}.json":
        raise InputError("this decision is another approver's")
    return GivenDecision(approval, reason)
