"""What a site says without looking at a record: what its admin declared, and what its books say."""

from dataclasses import asdict

from sordino_client.admitted import AdmittedRun
from sordino_client.ledger import Balance, Ledger
from sordino_client.policy import Policy
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.bits import pack_bits
from sordino_protocols.feature_statistics import measured_features
from sordino_protocols.heads import SignedHead
from sordino_protocols.messages import Admission, Described
from sordino_protocols.schema import Schema
from sordino_protocols.signing import canonical_json


def admission_of(
    run: AdmittedRun, schema: Schema, *, site: str, ledger_head: SignedHead
) -> Admission:
    """That a site takes part in a run, and with what."""
    measured = measured_features(schema) if run.job.plan.statistics else None
    return Admission(
        run_id=run.run_id,
        job_digest=run.job_digest,
        order_of_magnitude=schema.dataset.order_of_magnitude,
        feature_count=schema.feature_count,
        feature_digest=schema.feature_digest(),
        measured="" if measured is None else pack_bits(measured),
        label_scale=schema.label_scale,
        coins_commitment=run.commitment(site),
        ledger_head=ledger_head,
    )


def description_of(run_id: str, schema: Schema) -> Described:
    """The schema as its admin published it."""
    facts = schema.model_dump(mode="json")
    return Described(run_id, canonical_json(facts).decode("ascii"))


def balances_of(ledger: Ledger, policy: Policy | None) -> dict[str, Balance]:
    """The lifetime budget of every lineage that the policy knows."""
    known = {} if policy is None else policy.file.budgets
    return {lineage: ledger.balance(lineage, rule.guarantee) for lineage, rule in known.items()}


def status_of(
    ledger: Ledger, audit_log: AuditLog, policy: Policy | None, *, advice: str
) -> dict[str, object]:
    """Public facts for the site's own admin: policy, ledger, budgets.

    Args:
        ledger: the site's.
        audit_log: the site's.
        policy: as it counts now.
        advice: what to do about a halted ledger.
    """
    balances = balances_of(ledger, policy)
    return {
        "policy_sha256": None if policy is None else policy.sha256,
        "ledger_head": ledger.head,
        "ledger_entries": ledger.length,
        "audit_log_head": audit_log.head,
        "audit_log_entries": audit_log.length,
        "halted": ledger.halted,
        "help": None if ledger.halted is None else advice,
        "budgets": {name: asdict(balance) for name, balance in balances.items()},
    }
