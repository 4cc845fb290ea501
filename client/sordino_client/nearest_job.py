"""The nearest job that a policy would let through: the fewest changes, each as small as can be.

For each way through the policy (its caps alone, or its caps and one rule that allows or asks), what
the job breaks is set to the bound that it breaks and everything else stays. What comes out is
resolved, priced and judged again like any job: what is shown would pass, or nothing is shown.
"""

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from sordino_client.policy import Decision, Policy, decide, site_time
from sordino_client.policy_file import Terms
from sordino_client.policy_rules import Request, checks, request_of
from sordino_protocols.clipping import LARGEST_ADAPTATION, AdaptiveClipping
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job, JobFile
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.pricing import Price, price, resolve
from sordino_protocols.schema import Schema

Value = str | int | float | tuple[str, ...] | BaseModel

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Change:
    """One key of a job file.

    Attributes:
        section: of the file.
        key: in the section; empty: the whole section.
        old: what the job says; None where it leaves the key out.
        new: what would pass.
    """

    section: str
    key: str
    old: Value | None
    new: Value


@dataclass(frozen=True, slots=True)
class NearestJob:
    """A job that would pass.

    Attributes:
        changes: what to change, in the order of the file.
        file: the whole job.
        decision: about it.
    """

    changes: tuple[Change, ...]
    file: JobFile
    decision: Decision

    def toml(self) -> str:
        """The changes as a fragment of the job file, each with what it was."""
        lines, section = list[str](), ""
        for change in self.changes:
            if change.section != section:
                section = change.section
                lines.append(f"[{section}]")
            lines.extend(_spell_change(change))
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Asked:
    """A job with everything that a decision needs.

    Attributes:
        job: with its noise.
        cost: of the whole run.
        submitter: who would sign.
        site: who is asked.
        schema: of the data set; None if the site has none.
        now: when.
    """

    job: Job
    cost: Price
    submitter: str
    site: str
    schema: Schema | None
    now: dt.datetime

    def decision(self, policy: Policy) -> Decision:
        """What the policy says."""
        return decide(
            policy,
            self.job,
            self.cost,
            submitter=self.submitter,
            site=self.site,
            schema=self.schema,
            now=self.now,
        )


def nearest_job(policy: Policy, asked: Asked) -> NearestJob | None:
    """The job with the fewest changes that the policy lets through; None if no change helps.

    No change helps against a data set or a budget that is not there, a submitter who is not named,
    a kind of job, an hour, the columns of a count. Of equally many changes, those that need no
    approval come first.
    """
    section = policy.file.datasets.get(asked.job.file.job.dataset)
    if section is None or asked.schema is None:
        return None
    ways: list[tuple[Terms, ...]] = [
        (section, rule) for rule in section.rules if rule.action != "deny"
    ]
    if not section.rules:
        ways.append((section,))
    found = [near for way in ways if (near := _by_way(policy, asked, way)) is not None]
    found.sort(key=lambda near: (len(near.changes), near.decision.action != "allow"))
    return found[0] if found else None


def _by_way(policy: Policy, asked: Asked, way: tuple[Terms, ...]) -> NearestJob | None:
    file, schema = asked.job.file, asked.schema
    if schema is None:
        return None
    at = site_time(policy, asked.now)
    request = request_of(asked.job, asked.cost, submitter=asked.submitter, schema=schema, at=at)
    changes: dict[tuple[str, str], Change] = {}
    for terms in way:
        for check in checks(terms, request):
            if check.holds:
                continue
            found = tuple(_changes(check.key, way, file, request, schema=schema))
            if not found:
                return None
            changes.update({(each.section, each.key): each for each in found})
    order = list(JobFile.model_fields)
    in_order = sorted(changes.values(), key=lambda change: order.index(change.section))
    return _verified(policy, asked, tuple(in_order))


def _verified(policy: Policy, asked: Asked, changes: tuple[Change, ...]) -> NearestJob | None:
    """The changed job if it really passes."""
    try:
        file = _changed(asked.job.file, changes)
        job = resolve(file)
        changed = Asked(
            job, price(job), asked.submitter, asked.site, schema=asked.schema, now=asked.now
        )
    except (InputError, ValidationError):
        return None
    decision = changed.decision(policy)
    return NearestJob(changes, file, decision) if decision.is_allowed else None


def _changed(file: JobFile, changes: tuple[Change, ...]) -> JobFile:
    raw = file.model_dump(mode="json", exclude_unset=True)
    for change in changes:
        new = change.new
        value = (
            new.model_dump(mode="json", exclude_unset=True) if isinstance(new, BaseModel) else new
        )
        if change.key:
            raw.setdefault(change.section, {})[change.key] = value
        else:
            raw[change.section] = value
    return JobFile.model_validate_json(json.dumps(raw), strict=True)


def _changes(
    key: str, way: tuple[Terms, ...], file: JobFile, request: Request, *, schema: Schema
) -> Iterator[Change]:
    """The changes that bring a job within one key of all of a way's terms; none if none does."""
    match key:
        case "max_epsilon":
            new = min(each.max_epsilon for each in way if each.max_epsilon is not None)
            yield Change("privacy", "epsilon", file.require_privacy().epsilon, new)
        case "max_delta":
            new = min(each.max_delta for each in way if each.max_delta is not None)
            yield Change("privacy", "delta", file.require_privacy().delta, new)
        case "units":
            declared = "record" if schema.dataset.unit is None else "entity"
            if all(each.units is None or declared in each.units for each in way):
                yield Change("privacy", "unit", file.require_privacy().unit, declared)
        case "columns" if request.model is not None:
            kept = request.columns.intersection(
                *(each.columns for each in way if each.columns is not None)
            )
            if kept:
                yield Change("job", "columns", file.job.columns or None, tuple(sorted(kept)))
        case "max_lanes":
            new_lanes = min(each.max_lanes for each in way if each.max_lanes is not None)
            yield Change("audit", "lanes", file.audit.lanes, new_lanes)
        case "models":
            yield from _model(way, file, schema)
        case _ if request.training is not None:
            yield from _of_training(key, way, request.training, units=request.units)
        case _:
            pass


def _of_training(
    key: str, way: tuple[Terms, ...], plan: TrainingPlan, *, units: int
) -> Iterator[Change]:
    # An adaptive norm may be moved so far from where it starts, both ways.
    reach = LARGEST_ADAPTATION if isinstance(plan.clipping, AdaptiveClipping) else 1.0
    match key:
        case "max_rounds" | "max_steps":
            yield from _fewer_steps(way, plan)
        case "min_expected_batch":
            batch = max(each.min_expected_batch or 0.0 for each in way)
            rate = _rounded_up(batch / units)
            if rate <= 1:
                yield Change("training", "sampling_rate", plan.sampling_rate, rate)
        case "max_clipping_norm":
            highest = min(each.max_clipping_norm or math.inf for each in way)
            yield Change("training", "clipping_norm", plan.clipping_norm, highest / reach)
        case "min_clipping_norm":
            lowest = max(each.min_clipping_norm or 0.0 for each in way)
            yield Change("training", "clipping_norm", plan.clipping_norm, lowest * reach)
        case _:
            pass


def _fewer_steps(way: tuple[Terms, ...], plan: TrainingPlan) -> Iterator[Change]:
    """Fewer rounds, and fewer local steps only where one round has too many."""
    rounds = min([plan.rounds, *(each.max_rounds for each in way if each.max_rounds is not None)])
    steps = min([each.max_steps for each in way if each.max_steps is not None], default=None)
    if steps is not None and plan.local_steps > steps:
        yield Change("training", "local_steps", plan.local_steps, steps)
        rounds = 1
    elif steps is not None:
        rounds = min(rounds, steps // plan.local_steps)
    if rounds < plan.rounds:
        yield Change("training", "rounds", plan.rounds, rounds)


def _model(way: tuple[Terms, ...], file: JobFile, schema: Schema) -> Iterator[Change]:
    """The simplest model that is allowed and reads numbers; others need more than a name."""
    outputs = file.require_model().outputs
    simplest: Mapping[str, dict[str, str | int | list[int]]] = {
        "logistic": {"kind": "logistic", "outputs": outputs},
        "mlp": {"kind": "mlp", "hidden": [16], "activation": "tanh", "outputs": outputs},
    }
    for kind, model in simplest.items():
        if schema.vocabulary is None and all(
            each.models is None or kind in each.models for each in way
        ):
            raw = file.model_dump(mode="json", exclude_unset=True) | {"model": model}
            changed = JobFile.model_validate_json(json.dumps(raw), strict=True)
            yield Change("model", "", file.require_model(), changed.require_model())
            return


def _rounded_up(rate: float) -> float:
    """To a few digits, never below: people read it."""
    scale = 10.0 ** (_DIGITS - 1 - math.floor(math.log10(rate)))
    return math.ceil(rate * scale * (1 - 1e-12)) / scale


def _spell_change(change: Change) -> Iterator[str]:
    was = "was not set" if change.old is None else f"was {_spell(change.old)}"
    if isinstance(change.new, BaseModel):
        values = change.new.model_dump(mode="json", exclude_unset=True)
        for number, (key, value) in enumerate(values.items()):
            yield f"{key} = {json.dumps(value)}" + (f"  # {was}" if number == 0 else "")
    else:
        yield f"{change.key} = {_spell(change.new)}  # {was}"


def _spell(value: Value) -> str:
    if isinstance(value, BaseModel):
        return f"kind = {json.dumps(value.model_dump()['kind'])}"
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value)
