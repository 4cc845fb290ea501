"""One check a key: what a job asks for against what a policy's cap or rule says.

Every check is monotone: whatever holds for a job holds for one that asks for less. Only declared
facts are looked at, so no check says anything about the records.
"""

import datetime as dt
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sordino_client.policy_file import Terms, Weekday, within_hours
from sordino_protocols.clipping import LARGEST_ADAPTATION, AdaptiveClipping
from sordino_protocols.job import Job, JobKind
from sordino_protocols.plan import CountPlan, TrainingPlan
from sordino_protocols.pricing import Price
from sordino_protocols.privacy import PrivacyUnit
from sordino_protocols.schema import Schema

WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

# Rounding of floats between machines, far below any epsilon that matters.
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy sees of a job: declared facts alone.

    Attributes:
        submitter: who signed.
        kind: of the job.
        model: kind of its model; None where it has none.
        mode: of a synthesis; None of other jobs.
        generator: kind of a synthesis; None of other jobs.
        queries: how many a count asks; None of other jobs.
        unit: privacy unit.
        columns: feature columns that it uses.
        epsilon: of the run, by PLD: what it costs, not what it declares.
        delta: of the run.
        units: the data set's declared order of magnitude.
        training: None where the site trains nothing.
        at: the moment by the site's clock.
    """

    submitter: str
    kind: JobKind
    model: str | None
    mode: str | None
    generator: str | None
    queries: int | None
    unit: PrivacyUnit
    columns: frozenset[str]
    epsilon: float
    delta: float
    units: int
    training: TrainingPlan | None
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Check:
    """One key's result.

    Attributes:
        key: of the cap or the rule's term.
        holds: whether the job is within it.
        asked: what the job asks for.
        allowed: what the key says.
    """

    key: str
    holds: bool
    asked: str
    allowed: str


def request_of(
    job: Job, price: Price, *, submitter: str, schema: Schema, at: dt.datetime
) -> Request:
    """What a policy sees of a job.

    Raises:
        InputError: the job names a column that the schema has not.
    """
    used, plan = schema.narrowed(job.file.job.columns), job.plan
    synthesis, count, model = plan.synthesis, plan.count, job.file.model
    return Request(
        submitter=submitter,
        kind=job.file.job.kind,
        model=None if model is None else model.kind,
        mode=None if synthesis is None else synthesis.mode,
        generator=None if synthesis is None else synthesis.generator.kind,
        queries=None if count is None else len(count.queries),
        unit=plan.unit,
        columns=_columns(used, count),
        epsilon=price.epsilon_pld,
        delta=price.delta,
        units=schema.dataset.order_of_magnitude,
        training=plan.training,
        at=at,
    )


def _columns(used: Schema, count: CountPlan | None) -> frozenset[str]:
    """The feature columns that a job looks at; a count at those that its queries name."""
    features = frozenset(name for name, _ in used.features)
    if count is None:
        return features
    return features & {name for query in count.queries for name, _ in query.where}


def checks(terms: Terms, request: Request) -> tuple[Check, ...]:
    """One result for each key that the terms have, in the order of the documentation."""
    return (*_of_names(terms, request), *_of_sizes(terms, request), *_of_time(terms, request.at))


def _of_names(terms: Terms, request: Request) -> Iterator[Check]:
    if terms.submitters is not None:
        yield _one_of("submitters", request.submitter, terms.submitters)
    if terms.kinds is not None:
        yield _one_of("kinds", request.kind, terms.kinds)
    if terms.models is not None and request.model is not None:
        yield _one_of("models", request.model, terms.models)
    if terms.modes is not None and request.mode is not None:
        yield _one_of("modes", request.mode, terms.modes)
    if terms.generators is not None and request.generator is not None:
        yield _one_of("generators", request.generator, terms.generators)
    if terms.units is not None:
        yield _one_of("units", request.unit, terms.units)
    if terms.columns is not None:
        beyond = sorted(request.columns - set(terms.columns))
        asked = ", ".join(beyond or sorted(request.columns))
        yield Check("columns", not beyond, asked, _spell(terms.columns))


def _of_sizes(terms: Terms, request: Request) -> Iterator[Check]:
    training = request.training
    rounds = 0 if training is None else training.rounds
    steps = 0 if training is None else training.rounds * training.local_steps
    lanes = 0 if training is None else training.lanes
    yield from _at_most("max_epsilon", request.epsilon, terms.max_epsilon)
    yield from _at_most("max_delta", request.delta, terms.max_delta)
    yield from _at_most("max_rounds", rounds, terms.max_rounds)
    yield from _at_most("max_steps", steps, terms.max_steps)
    yield from _at_least("min_units", request.units, terms.min_units)
    if training is not None:
        batch = training.sampling_rate * request.units
        largest = training.largest_clipping_norm
        yield from _at_least("min_expected_batch", batch, terms.min_expected_batch)
        yield from _at_least(
            "min_clipping_norm", _smallest_clipping_norm(training), terms.min_clipping_norm
        )
        yield from _at_most("max_clipping_norm", largest, terms.max_clipping_norm)
    yield from _at_most("max_lanes", lanes, terms.max_lanes)
    if request.queries is not None:
        yield from _at_most("max_queries", request.queries, terms.max_queries)


def _of_time(terms: Terms, at: dt.datetime) -> Iterator[Check]:
    if terms.hours is not None:
        is_within = within_hours(terms.hours, at.hour * 60 + at.minute)
        yield Check("hours", is_within, f"{at:%H:%M}", terms.hours)
    if terms.days is not None:
        yield _one_of("days", WEEKDAYS[at.weekday()], terms.days)
    if terms.from_ is not None:
        yield Check("from", at.date() >= terms.from_, f"{at.date()}", f">= {terms.from_}")
    if terms.until is not None:
        yield Check("until", at.date() <= terms.until, f"{at.date()}", f"<= {terms.until}")


def _smallest_clipping_norm(training: TrainingPlan) -> float:
    """The smallest norm of any round, whatever a server sends as the threshold's weight."""
    is_adaptive = isinstance(training.clipping, AdaptiveClipping)
    return training.clipping_norm / (LARGEST_ADAPTATION if is_adaptive else 1)


def _one_of(key: str, asked: str, allowed: Collection[str]) -> Check:
    return Check(key, asked in allowed, asked, _spell(allowed))


def _spell(allowed: Collection[str]) -> str:
    return ", ".join(allowed) or "nobody and nothing"


def _at_most(key: str, asked: float, allowed: float | None) -> Iterator[Check]:
    if allowed is not None:
        holds = asked <= allowed * (1 + _TOLERANCE)
        yield Check(key, holds, f"{asked:g}", f"<= {allowed:g}")


def _at_least(key: str, asked: float, allowed: float | None) -> Iterator[Check]:
    if allowed is not None:
        holds = asked >= allowed * (1 - _TOLERANCE)
        yield Check(key, holds, f"{asked:g}", f">= {allowed:g}")
