"""What a site says of a job that nobody runs yet: declared facts, and what follows from the job."""

from sordino_client.judging import Judgement
from sordino_client.ledger import Ledger
from sordino_protocols.fitting import noise_that_fits, rounds_that_fit
from sordino_protocols.messages import Quote, Refusal
from sordino_protocols.privacy import Event


def make_quote(run_id: str, judged: Judgement, ledger: Ledger) -> Quote:
    """The answer to an inquiry; changes nothing."""
    policy, budget, decision = judged.rules.policy, judged.budget, judged.decision
    refusal, rule = decision.refusal, decision.rule
    if policy is None or budget is None:
        return _quote(run_id, judged, refusal, rule)

    def fits(event: Event) -> bool:
        return ledger.fits(judged.lineage, event, budget)

    if refusal is None and not fits(judged.job.plan.event):
        refusal, rule = Refusal.BUDGET_EXHAUSTED, policy.budget_rule(judged.lineage)
    return _quote(
        run_id,
        judged,
        refusal,
        rule,
        left=ledger.balance(judged.lineage, budget).left,
        rounds=rounds_that_fit(judged.job, fits),
        noise=noise_that_fits(judged.job, fits) or 0.0,
    )


def _quote(
    run_id: str,
    judged: Judgement,
    refusal: Refusal | None,
    rule: str,
    *,
    left: float = 0.0,
    rounds: int = 0,
    noise: float = 0.0,
) -> Quote:
    return Quote(
        run_id,
        refusal,
        needs_approval=judged.decision.action == "ask",
        rule=rule,
        epsilon_pld=judged.cost.epsilon_pld,
        epsilon_rdp=judged.cost.epsilon_rdp,
        budget_left=left,
        rounds_that_fit=rounds,
        noise_that_fits=noise,
    )
