"""Letting a run in: judge its job, ask people where the policy does, pin it, hold its whole cost.

Each step is on disk before the next, and each may be done again after a crash. Nothing is pinned
and nothing is held while a run waits for people. What was decided, and by which rule, goes to the
audit log.
"""

import datetime as dt
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from sordino_client.admitted import AdmittedRun, AdmittedRuns
from sordino_client.approvals import Approvals
from sordino_client.consent import consent_of
from sordino_client.judging import Judge, Judgement, Rules
from sordino_client.ledger import Ledger
from sordino_client.mechanisms import Engine, SiteDataset
from sordino_client.outbox import Outbox
from sordino_client.quotes import make_quote
from sordino_client.refusals import RefusedError
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.witness import WitnessStore
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.job import Job, SignedJob
from sordino_protocols.logs import seconds_since
from sordino_protocols.messages import Quote, Refusal
from sordino_protocols.privacy import Guarantee
from sordino_protocols.schema import Schema


@dataclass(frozen=True, slots=True)
class SiteState:
    """What a site remembers: all of it on disk."""

    ledger: Ledger
    outbox: Outbox
    runs: AdmittedRuns
    approvals: Approvals
    audit_log: AuditLog
    witness: WitnessStore


class Admissions:
    """Who is let in at one site. Not for several threads: the site has the lock."""

    def __init__(
        self,
        site: str,
        state: SiteState,
        *,
        datasets: Mapping[str, SiteDataset],
        engine: Engine,
        now: Callable[[], dt.datetime],
        masks: MaskKeys | None = None,
    ) -> None:
        self._judge = Judge(site, datasets, engine, masks=masks)
        self._state = state
        self._now = now
        self._log = structlog.get_logger(component="vault", site=site)
        self._recorded: set[tuple[str, Refusal]] = set()

    def quote(self, run_id: str, signed: SignedJob, rules: Rules) -> Quote:
        """What a job would cost here, and whether it would be refused; changes nothing.

        Raises:
            SordinoError: the submitter is not trusted, or the job has no price.
        """
        judged = self._judge.judge(signed, rules, now=self._now())
        return make_quote(run_id, judged, self._state.ledger)

    def described(self, signed: SignedJob, rules: Rules) -> Schema:
        """What is public of the data set that a trusted submitter's job names; changes nothing.

        Raises:
            SordinoError: the submitter is not trusted, or the data set or a column is not here.
        """
        return self._judge.described(signed, rules)

    def budget(self, job: Job, rules: Rules) -> Guarantee | None:
        """The lifetime budget that a job draws on; None where the policy knows none."""
        return self._judge.budget(job, rules)

    def admit(self, run_id: str, signed: SignedJob, rules: Rules) -> AdmittedRun:
        """Pin a run and hold its cost; the same run again changes nothing.

        Raises:
            SordinoError: it is not let in.
        """
        started = time.monotonic()
        judged = self._judge.judge(signed, rules, now=self._now())
        self._check_signed_for(run_id, signed, judged.job)
        try:
            run = self._pinned(run_id, signed, judged)
        except RefusedError as error:
            self._record_refusal(run_id, signed, judged, error)
            raise
        self._hold(run, judged)
        self._record(judged, "admitted", run_id, signed.submitter, judged.decision.rule)
        self._log.info(
            "admitted",
            run_id=run_id,
            job_digest=run.job_digest,
            rule=judged.decision.rule,
            dur_s=seconds_since(started),
        )
        return run

    def _pinned(self, run_id: str, signed: SignedJob, judged: Judgement) -> AdmittedRun:
        decision, ledger = judged.decision, self._state.ledger
        if decision.refusal is not None:
            asked, allowed = decision.asked or "-", decision.allowed or "-"
            reason = f"{decision.rule}: asked {asked}, allowed {allowed}"
            raise RefusedError(decision.refusal, reason)
        run = self._state.runs.get(run_id)
        if run is not None and run_id in ledger.books.runs:
            return run
        budget = self._require_budget(judged)
        if not ledger.fits(judged.lineage, judged.job.plan.event, budget):
            raise RefusedError(Refusal.BUDGET_EXHAUSTED, f"{judged.lineage} has too little left")
        consent = consent_of(run_id, signed, judged, self._state.approvals)
        if run is None:
            # Before the hold: a hold without a run could never be settled.
            runs = self._state.runs
            return runs.add(run_id, judged.job, nonce=signed.nonce, approvals=consent)
        if run.approvals != consent:
            # Between pin and hold the vault died and the policy changed: what is pinned stays.
            raise RefusedError(Refusal.REJECTED, f"{run_id} was let in under another policy")
        return run

    def _hold(self, run: AdmittedRun, judged: Judgement) -> None:
        policy = judged.rules.policy
        self._state.ledger.hold(
            run.run_id,
            dataset=run.job.file.job.dataset,
            lineage=judged.lineage,
            event=run.job.plan.event,
            budget=self._require_budget(judged),
            policy_sha256="" if policy is None else policy.sha256,
        )

    def _require_budget(self, judged: Judgement) -> Guarantee:
        if judged.budget is None:
            raise RefusedError(Refusal.NO_POLICY, "the policy has no budget for the data set")
        return judged.budget

    def _check_signed_for(self, run_id: str, signed: SignedJob, job: Job) -> None:
        """A signature is good for what it says, and for one run: a server cannot spend it twice."""
        if signed.purpose != job.purpose:
            raise RefusedError(Refusal.UNAUTHENTICATED, "the job was signed for something else")
        if self._state.runs.run_of(signed.nonce) not in {None, run_id}:
            raise RefusedError(Refusal.CHANGED_REPLAY, "the signature was used for another run")

    def _record_refusal(
        self, run_id: str, signed: SignedJob, judged: Judgement, error: RefusedError
    ) -> None:
        """Once a signature and reason: a server that asks again and again fills no disk."""
        key = (signed.nonce, error.refusal)
        if key not in self._recorded:
            self._recorded.add(key)
            is_pending = error.refusal is Refusal.APPROVAL_PENDING
            action = "asked" if is_pending else "refused"
            self._record(judged, action, run_id, signed.submitter, str(error))

    def _record(
        self, judged: Judgement, action: str, run_id: str, submitter: str, reason: str
    ) -> None:
        policy = judged.rules.policy
        self._state.audit_log.record(
            actor=submitter,
            action=action,
            object=run_id,
            decision=judged.decision.action,
            reason=reason,
            policy_sha256=None if policy is None else policy.sha256,
        )
