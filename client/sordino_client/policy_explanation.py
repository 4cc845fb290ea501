"""Why a policy decides as it does: every cap and every rule in order, with its result."""

from dataclasses import dataclass
from typing import Literal

from sordino_client.nearest_job import Asked
from sordino_client.policy import Policy, first_broken, site_time
from sordino_client.policy_file import Action
from sordino_client.policy_rules import Check, checks, request_of

Result = Literal["holds", "broken", "matches", "does not match"]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of an explanation.

    Attributes:
        rule: file, line and key.
        result: of a cap, or of a rule and its terms.
        asked: what the job asks for.
        allowed: what the policy says.
        decides: whether this is what decided.
    """

    rule: str
    result: Result
    asked: str
    allowed: str
    decides: bool


def steps(policy: Policy, asked: Asked) -> tuple[Step, ...]:
    """Every cap and rule on the job's data set, in the order in which they are looked at.

    None where the site has no such data set or the policy no such table. A rule after the one that
    decided is shown with its result too: it is what would decide if the first were not there.
    """
    dataset, schema = asked.job.file.job.dataset, asked.schema
    section = policy.file.datasets.get(dataset)
    if section is None or schema is None:
        return ()
    at = site_time(policy, asked.now)
    request = request_of(asked.job, asked.cost, submitter=asked.submitter, schema=schema, at=at)
    caps = checks(section, request)
    broken = first_broken(caps)
    shown = [
        Step(
            policy.where("datasets", dataset, each.key),
            "holds" if each.holds else "broken",
            each.asked,
            each.allowed,
            decides=each is broken,
        )
        for each in caps
    ]
    by_rule = [checks(rule, request) for rule in section.rules]
    matching = [index for index, terms in enumerate(by_rule) if first_broken(terms) is None]
    for index, (rule, terms) in enumerate(zip(section.rules, by_rule, strict=True)):
        decides = broken is None and matching[:1] == [index]
        shown.extend(_of_rule(policy, dataset, index, rule.action, terms, decides=decides))
    return tuple(shown)


def _of_rule(
    policy: Policy,
    dataset: str,
    index: int,
    action: Action,
    terms: tuple[Check, ...],
    *,
    decides: bool,
) -> list[Step]:
    place = ("datasets", dataset, "rules", index)
    result: Result = "matches" if first_broken(terms) is None else "does not match"
    return [
        Step(policy.where(*place), result, "", action, decides=decides),
        *(
            Step(
                policy.where(*place, each.key),
                "matches" if each.holds else "does not match",
                each.asked,
                each.allowed,
                decides=False,
            )
            for each in terms
        ),
    ]
