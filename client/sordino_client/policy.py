"""A site's policy: what the admin allows, decided before a record is looked at.

Deny by default: without a policy file, or without a table for a data set, every job on it is
refused. A job can only tighten: each rule compares what the job asks for with what the policy
allows, and no field of a job is ever used to widen one. Rules look at declared facts alone, so a
decision says nothing about the records. What a data set cannot serve at all, whatever the admin
writes, is refused by `suitability`.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.files import STRICT, parse_toml, read_text
from sordino_protocols.job import Job
from sordino_protocols.messages import Refusal
from sordino_protocols.pricing import Price
from sordino_protocols.privacy import Guarantee, PrivacyUnit
from sordino_protocols.schema import Schema

ModelKind = Literal[
    "logistic", "mlp", "cnn", "resnet", "lstm", "gru", "transformer", "layers", "graph"
]
"""Every kind of model that a job can name."""

Epsilon = Annotated[float, Field(gt=0, le=1000)]


class BudgetRule(BaseModel):
    """The lifetime budget of a data set: everything ever released from it, together."""

    model_config = STRICT

    epsilon: Epsilon
    delta: Annotated[float, Field(gt=0, lt=0.1)]

    @property
    def guarantee(self) -> Guarantee:
        """The budget as a guarantee."""
        return Guarantee(self.epsilon, self.delta)


class DatasetPolicy(BaseModel):
    """What is allowed on one data set: `[datasets.<name>]`.

    Attributes:
        budget: what may be spent on it, ever.
        submitters: whose jobs are looked at.
        kinds: kinds of jobs.
        models: kinds of models.
        units: privacy units of jobs; what is not the data set's own unit is refused anyway.
        max_epsilon: of one run.
        max_delta: of one run.
        max_rounds: of one run.
        min_expected_batch: declared order of magnitude times sampling rate.
        max_clipping_norm: of any round, as far as an adaptive one may be moved too; a larger norm
            means more noise, never less privacy.
        max_lanes: canary lanes of one run.
    """

    model_config = STRICT

    budget: BudgetRule
    submitters: tuple[str, ...]
    kinds: tuple[Literal["train"], ...]
    models: tuple[ModelKind, ...]
    units: tuple[PrivacyUnit, ...] = ("record", "entity")
    max_epsilon: Epsilon
    max_delta: Annotated[float, Field(gt=0, lt=0.1)]
    max_rounds: Annotated[int, Field(ge=1)]
    min_expected_batch: Annotated[float, Field(ge=0)]
    max_clipping_norm: Annotated[float, Field(gt=0)] = 1e6
    max_lanes: Annotated[int, Field(ge=0)] = 10_000


class PolicyFile(BaseModel):
    """`policy.toml`."""

    model_config = STRICT

    datasets: dict[str, DatasetPolicy]


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as read from disk.

    Attributes:
        source: the file's name, for explanations; not its directory.
        sha256: of the file's text; every ledger entry names it.
        file: the rules.
    """

    source: str
    sha256: str
    file: PolicyFile

    def budget(self, dataset: str) -> Guarantee | None:
        """The lifetime budget of a data set; None where the policy does not know it."""
        rules = self.file.datasets.get(dataset)
        return None if rules is None else rules.budget.guarantee


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of a job, and by which rule.

    Attributes:
        refusal: None if the job is allowed.
        rule: file and key of the rule that decided.
        asked: what the job asks for.
        allowed: what the rule allows.
    """

    refusal: Refusal | None
    rule: str
    asked: str = ""
    allowed: str = ""

    @property
    def is_allowed(self) -> bool:
        """Whether the job may go on to the ledger."""
        return self.refusal is None


def load_policy(path: Path) -> Policy | None:
    """Read the policy; None if there is no file, and then everything is refused.

    Raises:
        InputError: the file breaks the format; names file, key and expectation.
    """
    if not path.exists():
        return None
    text = read_text(path)
    return Policy(
        source=path.name,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        file=parse_toml(text, PolicyFile, source=str(path)),
    )


def decide(
    policy: Policy | None,
    job: Job,
    price: Price,
    *,
    submitter: str,
    site: str,
    schema: Schema | None,
) -> Decision:
    """Judge a job by the site's rules; the first rule that it breaks decides."""
    dataset, cohort = job.file.job.dataset, job.file.cohort.sites
    if policy is None:
        return Decision(Refusal.NO_POLICY, "policy.toml: no such file, so everything is refused")
    if cohort and site not in cohort:
        # The submitter signed for other sites: a server that asks here spends what nobody wanted.
        return Decision(
            Refusal.FORBIDDEN_BY_POLICY, "the job: cohort.sites", site, ", ".join(cohort)
        )
    if schema is None:
        return Decision(Refusal.UNKNOWN_DATASET, f"datasets.d: no data set {dataset!r}")
    rules = policy.file.datasets.get(dataset)
    if rules is None:
        return Decision(
            Refusal.FORBIDDEN_BY_POLICY, f"{policy.source}: no [datasets.{dataset}], so denied"
        )
    for rule in _rules(rules, job, price, submitter=submitter, schema=schema):
        if not rule.holds:
            return Decision(
                Refusal.FORBIDDEN_BY_POLICY,
                f"{policy.source}: datasets.{dataset}.{rule.key}",
                rule.asked,
                rule.allowed,
            )
    return Decision(None, f"{policy.source}: datasets.{dataset}")


@dataclass(frozen=True, slots=True)
class _Rule:
    key: str
    holds: bool
    asked: str
    allowed: str


def _rules(
    rules: DatasetPolicy, job: Job, price: Price, *, submitter: str, schema: Schema
) -> tuple[_Rule, ...]:
    plan = job.plan.training
    model = job.file.model.kind
    kind = job.file.job.kind
    batch = plan.sampling_rate * schema.dataset.order_of_magnitude
    return (
        _one_of("submitters", submitter, rules.submitters),
        _one_of("kinds", kind, rules.kinds),
        _one_of("models", model, rules.models),
        _one_of("units", plan.unit, rules.units),
        _at_most("max_epsilon", price.epsilon_pld, rules.max_epsilon),
        _at_most("max_delta", price.delta, rules.max_delta),
        _at_most("max_rounds", plan.rounds, rules.max_rounds),
        _at_most("max_clipping_norm", plan.largest_clipping_norm, rules.max_clipping_norm),
        _at_most("max_lanes", plan.lanes, rules.max_lanes),
        _Rule(
            "min_expected_batch",
            batch >= rules.min_expected_batch,
            f"{batch:g}",
            f">= {rules.min_expected_batch:g}",
        ),
    )


def _one_of(key: str, asked: str, allowed: tuple[str, ...]) -> _Rule:
    return _Rule(key, asked in allowed, asked, ", ".join(allowed) or "nobody and nothing")


def _at_most(key: str, asked: float, allowed: float) -> _Rule:
    # Up to the rounding of floats between machines, which is far below any epsilon that matters.
    return _Rule(key, asked <= allowed * (1 + 1e-9), f"{asked:g}", f"<= {allowed:g}")
