"""What a person is shown who shall say yes or no to a run, and where the answer goes.

Everything shown is declared or follows from the job: the job in words, who signed it, what would
leave the site, what it costs, what is left afterwards, and what changed since the last job of the
same name that people here said yes to. No record is looked at.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import structlog

from sordino_client.admitted import AdmittedRun, AdmittedRuns
from sordino_client.approval_words import leaving_words, work_words
from sordino_client.approvals import ApprovalRequest, Approvals, Standing
from sordino_client.judging import Rules
from sordino_client.ledger import Ledger
from sordino_client.mechanisms import SiteDataset
from sordino_protocols.accounting import epsilon_by_pld, epsilon_by_rdp
from sordino_protocols.approval import Approval, spell_time
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job

OPEN = ("waiting", "approved")
"""States in which a run has not been let in and still may be."""


@dataclass(frozen=True, slots=True)
class ApprovalDesk:
    """Where people at the site look at runs that wait, and decide.

    Attributes:
        approvals: what was asked and answered.
        runs: what was admitted.
        ledger: what is left.
        datasets: what is here.
        audit_log: told of every decision.
        rules: as they count at the moment of asking.
    """

    approvals: Approvals
    runs: AdmittedRuns
    ledger: Ledger
    datasets: Mapping[str, SiteDataset]
    audit_log: AuditLog
    rules: Callable[[], Rules]

    def waiting(self) -> int:
        """How many runs wait for people now."""
        requests = self.approvals.requests()
        return sum(self._state(each.subject.run_id) == "waiting" for each in requests)

    def listed(self, *, everything: bool) -> list[dict[str, object]]:
        """A line a run, oldest first: those that may still be let in, or all."""
        lines = (self._line(each) for each in self.approvals.requests())
        return [each for each in lines if everything or each["state"] in OPEN]

    def shown(self, run_id: str) -> dict[str, object]:
        """All that is known of one run that was put before people.

        Raises:
            NotFoundError: it never was.
        """
        request = self.approvals.request(run_id)
        job = request.job
        return {
            **self._line(request),
            "site": request.subject.site,
            "job_digest": request.subject.job_digest,
            "policy_sha256": request.subject.policy_sha256,
            "body": request.signed.body.decode("ascii"),
            "work": list(work_words(job)),
            "leaves": list(self._leaving(job)),
            "costs": self._costs(job),
            "decisions": [
                {
                    "approver": each.approval.approver,
                    "decision": each.approval.decision,
                    "at": each.approval.at,
                    "reason": each.reason,
                    "counts": each.approval.subject == request.subject,
                }
                for each in self.approvals.decisions(run_id)
            ],
            **self._changes(job, run_id),
        }

    def decide(self, approval: Approval, *, reason: str) -> Standing:
        """Take a person's yes or no.

        Raises:
            SordinoError: it does not count, and why; for the eyes of a person at the site.
        """
        run_id = approval.subject.run_id
        if self.runs.get(run_id) is not None:
            raise InputError(f"{run_id} is admitted already: a decision changes nothing now")
        standing = self.approvals.decide(approval, self.rules().approvers, reason=reason)
        self.audit_log.record(
            actor=approval.approver,
            action="approved" if approval.decision == "approve" else "rejected",
            object=run_id,
            decision=standing.state,
            reason=reason,
            policy_sha256=approval.subject.policy_sha256,
        )
        log = structlog.get_logger(component="vault", site=approval.subject.site)
        log.info("decided", run_id=run_id, approver=approval.approver, decision=approval.decision)
        return standing

    def missing(self, run_id: str, standing: Standing) -> int:
        """How many more must say yes."""
        needed = self.approvals.request(run_id).terms.needed
        return max(needed - len(standing.approvals), 0)

    def _state(self, run_id: str) -> str:
        if self.runs.get(run_id) is not None:
            return "admitted"
        return self.approvals.standing(run_id, self.rules().approvers).state

    def _line(self, request: ApprovalRequest) -> dict[str, object]:
        run_id, section = request.subject.run_id, request.job.file.job
        standing = self.approvals.standing(run_id, self.rules().approvers)
        may = request.terms.approvers or tuple(sorted(self.rules().approvers.keys))
        return {
            "run_id": run_id,
            "state": self._state(run_id),
            "job": section.name,
            "dataset": section.dataset,
            "submitter": request.signed.submitter,
            "approved_by": [each.approver for each in standing.approvals],
            "needed": request.terms.needed,
            "may_approve": list(may),
            "asked_at": spell_time(request.asked_at),
            "expires_at": spell_time(request.expires_at),
            "rule": request.terms.rule,
        }

    def _leaving(self, job: Job) -> tuple[str, ...]:
        dataset = self.datasets.get(job.file.job.dataset)
        if dataset is None:
            return ("nothing: the data set is no longer here",)
        return tuple(leaving_words(job, dataset.schema.narrowed(job.file.job.columns)))

    def _costs(self, job: Job) -> dict[str, object]:
        event, delta = job.plan.event, job.file.guarantee.delta
        costs: dict[str, object] = {
            "unit": job.file.require_privacy().unit,
            "epsilon": epsilon_by_pld(event, delta),
            "epsilon_of_the_budget": epsilon_by_rdp(event, delta),
            "delta": delta,
        }
        policy, dataset = self.rules().policy, self.datasets.get(job.file.job.dataset)
        if policy is None or dataset is None:
            return costs
        lineage = dataset.schema.lineage
        budget = policy.budget(lineage)
        if budget is None:
            return costs
        left_afterwards = self.ledger.balance_after(lineage, event, budget).left
        balance = asdict(self.ledger.balance(lineage, budget))
        return {**costs, "lineage": lineage, **balance, "left_afterwards": left_afterwards}

    def _changes(self, job: Job, run_id: str) -> dict[str, object]:
        before = self._last_approved(job, run_id)
        if before is None:
            return {"compared_with": None, "changes": []}
        old, new = _flat(before.job), _flat(job)
        changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        return {
            "compared_with": before.run_id,
            "changes": [
                {"key": key, "before": old.get(key), "now": new.get(key)} for key in changed
            ],
        }

    def _last_approved(self, job: Job, run_id: str) -> AdmittedRun | None:
        """The newest run of a job of the same name that people said yes to."""
        name = job.file.job.name
        alike = [
            (max(approval.time for approval in run.approvals), run.run_id, run)
            for run in self.runs.runs()
            if run.approvals and run.job.file.job.name == name and run.run_id != run_id
        ]
        return max(alike, key=lambda each: each[:2])[2] if alike else None


def _flat(job: Job) -> dict[str, object]:
    """The job's fields by dotted key."""
    return dict(_leaves("", job.model_dump(mode="json")))


def _leaves(key: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), each)
    else:
        yield key, value
