"""What may leave: every field of every release and answer, declared here, and nothing else.

A field that nobody declared is how an un-noised loss or count gets out: no attack on the noisy part
ever sees it. A new field must be entered here, by whoever can say why it may leave.
"""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from sordino_audit.probes.found import Found
from sordino_audit.probes.sources import Constant
from sordino_audit.probes.trainer import RECORDS, Asked, Case, Trainer
from sordino_client.training.noise import SecureNoise
from sordino_client.training.steps import RoundResult
from sordino_protocols.messages import (
    Admission,
    Described,
    Evaluation,
    Quote,
    Recalled,
    Receipt,
    Refused,
    Reply,
    Statistics,
    Tabulated,
    Unmasked,
    Update,
)

RELEASE = frozenset({"vector", "is_private"})
"""Of one round of training: a paid vector of public length, and whether its noise was secure."""

PAID: Mapping[type[Reply], str] = {
    Update: "vector",
    Statistics: "vector",
    Evaluation: "histogram",
    Tabulated: "numbers",
}
"""The fields that depend on records, each made by a mechanism and charged to the ledger."""

_ASKED = {"run_id", "job_digest"}
DECLARED: Mapping[type[Reply], frozenset[str]] = {
    Update: frozenset({*_ASKED, "round", "ledger_head"}),
    Statistics: frozenset({*_ASKED, "ledger_head"}),
    Evaluation: frozenset({*_ASKED, "ledger_head"}),
    Tabulated: frozenset({*_ASKED, "ledger_head"}),
    # Masks are made of keys alone; what they can uncover was paid for as if nothing had hidden it.
    Unmasked: frozenset({*_ASKED, "ledger_head", "numbers"}),
    Recalled: frozenset({"run_id", "ledger_head", "audit_length", "audit_head"}),
    Described: frozenset({"run_id", "schema_json"}),
    Refused: frozenset({"run_id", "refusal"}),
    Quote: frozenset(
        {
            "run_id",
            "refusal",
            "needs_approval",
            "rule",
            "epsilon_pld",
            "epsilon_rdp",
            "budget_left",
            "rounds_that_fit",
            "noise_that_fits",
        }
    ),
    Admission: frozenset(
        {
            *_ASKED,
            "order_of_magnitude",
            "feature_count",
            "feature_digest",
            "measured",
            "label_scale",
            "coins_commitment",
            "ledger_head",
        }
    ),
    Receipt: frozenset(
        {
            *_ASKED,
            "epsilon_planned",
            "epsilon_spent_pld",
            "epsilon_spent_rdp",
            "delta",
            "events_json",
            "policy_sha256",
            "approvals_json",
            "budget_limit",
            "budget_delta",
            "budget_spent",
            "budget_left",
            "network_cut_off",
            "coins",
            "coins_salt",
            "ledger_head",
            "audit_length",
            "audit_head",
        }
    ),
}
"""The fields that say declared facts, prices, coins of canaries, heads of ledger or audit log."""


def release_fields(trainer: Trainer, case: Case) -> Found:
    """A round's release is one finite vector of public length, whatever there is to train on."""
    for count in (0, 1, RECORDS):
        result = _result(trainer, case, count)
        undeclared = {field.name for field in fields(result)} - RELEASE
        if undeclared:
            return Found(
                is_passed=False, message=f"undeclared fields leave: {', '.join(sorted(undeclared))}"
            )
        if result.vector.shape != (case.length,) or result.vector.dtype != np.float64:
            return Found(
                is_passed=False,
                message=f"a release has shape {result.vector.shape} where {case.length} numbers are"
                " declared",
            )
        if not np.isfinite(result.vector).all():
            return Found(is_passed=False, message="a release holds what is no finite number")
    loud, quiet = _result(trainer, case, 1), _result(trainer, case, 1, is_secure=False)
    is_honest = loud.is_private and not quiet.is_private
    return Found(
        is_honest,
        "a release is one vector of declared length"
        + ("" if is_honest else ", and does not say whether its noise was secure"),
    )


def message_fields(replies: Mapping[type[Reply], frozenset[str]] = DECLARED) -> Found:
    """No answer of a site has a field that is neither declared nor paid for.

    Args:
        replies: the answers, and what is declared of each.
    """
    undeclared = [
        f"{kind.__name__}.{field.name}"
        for kind, declared in replies.items()
        for field in fields(kind)
        if field.name not in declared and PAID.get(kind) != field.name
    ]
    kinds = set(Reply.__args__)
    undeclared += [kind.__name__ for kind in kinds - set(replies)]
    if undeclared:
        return Found(is_passed=False, message=f"undeclared: {', '.join(sorted(undeclared))}")
    return Found(
        is_passed=True, message=f"every field of the {len(replies)} answers of a site is declared"
    )


def _result(trainer: Trainer, case: Case, count: int, *, is_secure: bool = True) -> RoundResult:
    noise = SecureNoise() if is_secure else Constant(0.0)
    asked = Asked(case.units(count), case.weights(), case.model, case.plan, noise, case.performance)
    return trainer(asked)
