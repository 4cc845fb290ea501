"""What a job costs, as rows and words for a person: by every accountant, and as an attack.

Two libraries can price a job before anything runs, and a dispute between them is an error. What an
epsilon means is said as what it leaves to an attacker: the trade-off curve of everything that one
site lets out.
"""

from collections.abc import Mapping

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.cross_check import check_accountants
from sordino_protocols.job import Job
from sordino_protocols.plan import RunPlan
from sordino_protocols.pricing import price
from sordino_protocols.trade_off import true_positive_bound

_FALSE_POSITIVE_RATE = 0.01
_BUDGET_EXHAUSTED = "budget_exhausted"
_FITTING = ("rounds_that_fit", "noise_that_fits")

Row = dict[str, object]


def price_facts(job: Job, *, second_opinions: bool = False) -> Row:
    """Everything that a job costs one privacy unit at one site.

    Args:
        job: with its noise.
        second_opinions: ask Opacus' accountants too, as every site will; takes seconds.

    Raises:
        InputError: the job costs more than it declares, or is a mock, which costs nothing.
        AccountantsDisagreeError: two accountants price it differently.
    """
    cost, plan = price(job), job.plan
    opinions: Row = {}
    if second_opinions:
        agreement = check_accountants(plan.event, cost.delta)
        opinions["epsilon_opacus_prv"] = agreement.opacus_prv
        opinions["epsilon_opacus_rdp"] = agreement.opacus_rdp
    bound = true_positive_bound(plan.event, _FALSE_POSITIVE_RATE)
    return {
        "job": job.file.job.name,
        "digest": job.digest(),
        "epsilon_pld": cost.epsilon_pld,
        "epsilon_rdp": cost.epsilon_rdp,
        **opinions,
        "delta": cost.delta,
        "true_positive_bound": bound,
        "in_words": attack_in_words(bound, unit=plan.unit),
        **_noise(job),
    }


def _noise(job: Job) -> Row:
    """What the job's parts have as noise: of a model, or of the one table that it releases."""
    plan = job.plan
    if plan.evaluation is None:
        return {
            "noise_multiplier": job.table_noise_multiplier,
            **_of_table(plan, delta=job.file.guarantee.delta),
        }
    return {
        "training_noise_multiplier": job.training_noise_multiplier,
        "evaluation_noise_multiplier": plan.evaluation.noise_multiplier,
        "steps": 0 if plan.training is None else plan.rounds * plan.training.local_steps,
    }


def _of_table(plan: RunPlan, *, delta: float) -> Row:
    if plan.count is not None:
        return {"answers": len(plan.count.queries)}
    synthesis = plan.require_synthesis()
    facts: Row = {"mode": synthesis.mode, "generator": synthesis.generator.kind}
    if synthesis.marginals:
        facts["tables"] = len(synthesis.marginals)
        facts["cells"] = sum(each.cells for each in synthesis.marginals)
    if synthesis.mode == "sum":
        # What the server can learn, as long as the masks hold.
        facts["epsilon_of_the_sum"] = epsilon_by_pld(synthesis.whole_event, delta)
    return facts


def attack_in_words(bound: float, *, unit: str) -> str:
    """What is left to an attacker who wrongly suspects one in a hundred.

    Args:
        bound: of the true positives at 1 % of false ones.
        unit: "record" or "entity".
    """
    whose = "records" if unit == "record" else "entities"
    return (
        f"an attack that takes 1 % of the {whose} that were not there for members"
        f" recognises at most {100 * bound:.1f} % of those that were"
    )


def price_rows(answer: Mapping[str, object]) -> list[Row]:
    """One row a site, with the same keys: what the job costs there, or why there is no price.

    Where a site's budget does not suffice, all rows say what would fit into what is left.
    """
    rows: list[Row] = []
    if isinstance(quotes := answer["quotes"], dict):
        rows += [{"site": site, **quote} for site, quote in sorted(quotes.items())]
    keys = tuple(rows[0]) if rows else ("site", "refusal")
    for others in (answer["refused"], answer["silent"]):
        if isinstance(others, dict):
            for site, why in others.items():
                rows.append(dict.fromkeys(keys) | {"site": site, "refusal": why})
    if all(row["refusal"] != _BUDGET_EXHAUSTED for row in rows):
        return [{key: row[key] for key in row if key not in _FITTING} for row in rows]
    return [_with_fitting(row) for row in rows]


def _with_fitting(row: Row) -> Row:
    # A noise of 0 is the message's word for none.
    return row | {"noise_that_fits": row.get("noise_that_fits") or None}
