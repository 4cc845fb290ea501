"""What a site says of a run when it is over: what its ledger charged, and the canaries' coins."""

from sordino_client.admitted import AdmittedRun
from sordino_client.ledger import Ledger
from sordino_protocols.accounting import epsilon_by_pld, epsilon_by_rdp
from sordino_protocols.approval import show_approval
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.bits import pack_bits
from sordino_protocols.heads import SignedHead
from sordino_protocols.messages import Receipt
from sordino_protocols.privacy import Composed, Guarantee, event_to_json
from sordino_protocols.signing import canonical_json


def make_receipt(
    run: AdmittedRun,
    ledger: Ledger,
    *,
    budget: Guarantee | None,
    network_cut_off: bool,
    ledger_head: SignedHead,
    audit_log: AuditLog,
) -> Receipt:
    """The receipt of a settled run: opens its coins.

    Args:
        run: the run, settled in the ledger.
        ledger: what was charged.
        budget: of the data set; None where the policy does not know it any more.
        network_cut_off: whether the kernel cut the vault off from every network.
        ledger_head: of the ledger, with the run settled.
        audit_log: of the site; its head is shown.
    """
    delta = run.job.file.guarantee.delta
    charged = ledger.charged(run.run_id)
    whole = Composed(charged) if charged else None
    balance = ledger.balance(ledger.lineage(run.run_id), budget) if budget else None
    approvals = [show_approval(each) for each in run.approvals]
    events = [event_to_json(event) for event in charged]
    return Receipt(
        run_id=run.run_id,
        job_digest=run.job_digest,
        epsilon_planned=epsilon_by_pld(ledger.planned(run.run_id), delta),
        epsilon_spent_pld=epsilon_by_pld(whole, delta) if whole else 0.0,
        epsilon_spent_rdp=epsilon_by_rdp(whole, delta) if whole else 0.0,
        delta=delta,
        events_json=canonical_json(events).decode("ascii"),
        policy_sha256=ledger.policy_sha256(run.run_id),
        approvals_json=canonical_json(approvals).decode("ascii"),
        budget_limit=balance.limit if balance else 0.0,
        budget_delta=balance.delta if balance else 0.0,
        budget_spent=balance.spent if balance else 0.0,
        budget_left=balance.left if balance else 0.0,
        network_cut_off=network_cut_off,
        coins=pack_bits(run.coins),
        coins_salt=run.salt.hex(),
        ledger_head=ledger_head,
        audit_length=audit_log.length,
        audit_head=audit_log.head,
    )
