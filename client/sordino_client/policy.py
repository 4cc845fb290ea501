"""A site's policy: what the admin allows, decided before a record is looked at.

Deny by default: without a policy file, without a table for a data set, or without a budget for its
lineage, every job on it is refused. A job can only tighten: each check compares what the job asks
for with what the policy allows, and no field of a job is ever used to widen one. Checks look at
declared facts alone, so a decision says nothing about the records. What a data set cannot serve at
all, whatever the admin writes, is refused by `suitability`.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sordino_client.policy_file import (
    Action,
    BudgetRule,
    DatasetPolicy,
    ModelKind,
    PolicyFile,
    RuleSection,
)
from sordino_client.policy_problems import contradictions
from sordino_client.policy_rules import Check, Request, checks, request_of
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml, read_text, spell_key
from sordino_protocols.job import Job
from sordino_protocols.messages import Refusal
from sordino_protocols.pricing import Price
from sordino_protocols.privacy import Guarantee
from sordino_protocols.schema import Schema
from sordino_protocols.toml_positions import Place, line_numbers, line_of

__all__ = [
    "BudgetRule",
    "DatasetPolicy",
    "Decision",
    "ModelKind",
    "Policy",
    "PolicyFile",
    "decide",
    "denied",
    "first_broken",
    "load_policy",
    "parse_policy",
    "site_time",
]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as read from disk.

    Attributes:
        source: the file's name, for explanations; not its directory.
        sha256: of the file's text; every ledger entry names it.
        file: the rules.
        lines: where in the file each key stands.
    """

    source: str
    sha256: str
    file: PolicyFile
    lines: Mapping[Place, int]

    def budget(self, lineage: str) -> Guarantee | None:
        """The lifetime budget of a lineage; None where the policy does not know it."""
        rule = self.file.budgets.get(lineage)
        return None if rule is None else rule.guarantee

    def budget_rule(self, lineage: str) -> str:
        """The place of a lineage's budget, for refusals: `policy.toml:14 budgets.heart.epsilon`."""
        return self.where("budgets", lineage, "epsilon")

    def where(self, *place: int | str) -> str:
        """File, line and key; the line of the table where the key is left to its default."""
        line = line_of(self.lines, place)
        number = "" if line is None else f":{line}"
        return f"{self.source}{number} {spell_key(place)}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of a job, and by which rule.

    Attributes:
        action: "allow" it, "deny" it, or "ask" people first.
        refusal: what the outside learns; set if and only if the job is denied.
        rule: file, line and key of what decided; holds facts of the policy only.
        asked: what the job asks for.
        allowed: what the rule allows.
        approvals_needed: how many people must say yes; 0 unless `action` is "ask".
        approvers: who may; none named: everybody in the site's approvers directory.
        expires_after_hours: how long they have.
    """

    action: Action
    refusal: Refusal | None
    rule: str
    asked: str = ""
    allowed: str = ""
    approvals_needed: int = 0
    approvers: tuple[str, ...] = ()
    expires_after_hours: float = 72.0

    def __post_init__(self) -> None:
        if (self.refusal is not None) != (self.action == "deny"):
            raise ValueError("a refusal goes with a denial")
        if (self.approvals_needed > 0) != (self.action == "ask"):
            raise ValueError("approvals go with asking")

    @property
    def is_allowed(self) -> bool:
        """Whether the job may go on: to the ledger, or to the people who are asked."""
        return self.action != "deny"


def denied(refusal: Refusal, rule: str, asked: str = "", allowed: str = "") -> Decision:
    """A denial."""
    return Decision("deny", refusal, rule, asked, allowed)


def load_policy(path: Path) -> Policy | None:
    """Read the policy; None if there is no file, and then everything is refused.

    Raises:
        InputError: the file breaks the format or contradicts itself; names file, line, key and
            expectation.
    """
    return parse_policy(read_text(path), path) if path.exists() else None


def parse_policy(text: str, path: Path) -> Policy:
    """A policy from its text.

    Args:
        text: the file's.
        path: the file's, for errors, which name all of it, and for decisions, which name its end.

    Raises:
        InputError: as `load_policy`.
    """
    try:
        lines = line_numbers(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    file = parse_toml(text, PolicyFile, source=str(path), lines=lines)
    problems = contradictions(file)
    if problems:
        where = [f"{path}:{line_of(lines, each.place)}: {each}" for each in problems]
        raise InputError("\n".join(where))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Policy(source=path.name, sha256=digest, file=file, lines=lines)


def site_time(policy: Policy, now: dt.datetime) -> dt.datetime:
    """A moment by the site's clock.

    Raises:
        ValueError: `now` says no time zone: nobody knows which moment it means.
    """
    if now.tzinfo is None:
        raise ValueError("a moment without a time zone is none")
    return now.astimezone(policy.file.clock)


def decide(
    policy: Policy | None,
    job: Job,
    price: Price,
    *,
    submitter: str,
    site: str,
    schema: Schema | None,
    now: dt.datetime,
) -> Decision:
    """Judge a job by the site's policy.

    The first cap that it breaks denies it. Then the first rule whose terms hold decides; where
    there are rules and none holds, it is denied.

    Args:
        policy: None denies.
        job: what is asked for.
        price: what it really costs.
        submitter: who signed.
        site: this site's name.
        schema: the data set's, narrowed to the job's columns or whole; None if there is none.
        now: the moment, with a time zone.

    Raises:
        InputError: the job names a column that the schema has not.
    """
    dataset, cohort = job.file.job.dataset, job.file.cohort.sites
    if policy is None:
        return denied(Refusal.NO_POLICY, "policy.toml: no such file, so everything is refused")
    if cohort and site not in cohort:
        # The submitter signed for other sites: a server that asks here spends what nobody wanted.
        return denied(Refusal.FORBIDDEN_BY_POLICY, "the job: cohort.sites", site, ", ".join(cohort))
    if schema is None:
        return denied(Refusal.UNKNOWN_DATASET, f"datasets.d: no data set {dataset!r}")
    section = policy.file.datasets.get(dataset)
    if section is None:
        return _absent(policy, f"datasets.{dataset}")
    if policy.budget(schema.lineage) is None:
        return _absent(policy, f"budgets.{schema.lineage}")
    at = site_time(policy, now)
    request = request_of(job, price, submitter=submitter, schema=schema, at=at)
    return _judge(policy, ("datasets", dataset), section, request)


def first_broken(results: tuple[Check, ...]) -> Check | None:
    """The first check that does not hold; None if all do."""
    return next((each for each in results if not each.holds), None)


def _judge(policy: Policy, place: Place, section: DatasetPolicy, request: Request) -> Decision:
    broken = first_broken(checks(section, request))
    if broken is not None:
        return denied(
            Refusal.FORBIDDEN_BY_POLICY,
            policy.where(*place, broken.key),
            broken.asked,
            broken.allowed,
        )
    if not section.rules:
        return Decision("allow", None, policy.where(*place))
    for index, rule in enumerate(section.rules):
        if first_broken(checks(rule, request)) is None:
            return _by_rule(policy.where(*place, "rules", index), rule)
    where = policy.where(*place, "rules")
    return denied(Refusal.FORBIDDEN_BY_POLICY, f"{where}: none matches, so denied")


def _by_rule(where: str, rule: RuleSection) -> Decision:
    match rule.action:
        case "allow":
            return Decision("allow", None, where)
        case "deny":
            return denied(Refusal.FORBIDDEN_BY_POLICY, f"{where}.action", allowed="deny")
        case "ask":
            return Decision(
                "ask",
                None,
                where,
                approvals_needed=rule.approvals,
                approvers=rule.approvers,
                expires_after_hours=rule.expires_after_hours,
            )


def _absent(policy: Policy, table: str) -> Decision:
    return denied(Refusal.FORBIDDEN_BY_POLICY, f"{policy.source}: no [{table}], so denied")
