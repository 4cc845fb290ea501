"""Whether the people whom a policy asks said yes to a run."""

import datetime as dt

from sordino_client.approvals import Approvals, ApprovalTerms
from sordino_client.judging import Judgement
from sordino_client.refusals import RefusedError
from sordino_protocols.approval import Approval
from sordino_protocols.job import SignedJob
from sordino_protocols.messages import Refusal


def consent_of(
    run_id: str, signed: SignedJob, judged: Judgement, approvals: Approvals
) -> tuple[Approval, ...]:
    """Every yes that counts; empty where the policy allows the job without asking.

    Where it asks, the run is put before the approvers, once. Holds and spends nothing.

    Raises:
        RefusedError: `APPROVAL_PENDING` while too few said yes, `REJECTED` once anybody said no or
            the time is over, `CHANGED_REPLAY` if the run or the signature waits with another.
    """
    policy, decision = judged.rules.policy, judged.decision
    if policy is None or decision.action != "ask":
        approvals.require_unused(run_id, signed)
        if approvals.was_rejected(run_id):
            raise RefusedError(Refusal.REJECTED, f"{run_id}: rejected before the policy changed")
        return ()
    terms = ApprovalTerms(
        policy_sha256=policy.sha256,
        rule=decision.rule,
        needed=decision.approvals_needed,
        approvers=decision.approvers,
        expires_after=dt.timedelta(hours=decision.expires_after_hours),
    )
    approvals.ask(run_id, signed, terms)
    standing = approvals.standing(run_id, judged.rules.approvers)
    match standing.state:
        case "approved":
            return standing.approvals
        case "waiting":
            raise RefusedError(Refusal.APPROVAL_PENDING, f"{run_id} waits for people")
        case _:
            raise RefusedError(Refusal.REJECTED, f"{run_id}: {standing.state}")
