"""Whether a job can be run on a data set at all: rules that no policy switches off.

A job whose unit, loss or model does not fit what the schema declares would fail, or mean something
else than its submitter thinks, in the middle of a run that was paid for. So it is refused at
admission. Only declared facts are looked at.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from sordino_client.entities import Entities
from sordino_client.mechanisms import Engine
from sordino_client.policy import Decision, denied
from sordino_client.synthesis.mask_keys import MaskKeys
from sordino_client.synthesis.suitability import of_counts, of_synthesis
from sordino_client.training.clipping import network_for
from sordino_client.training.processor import single_threaded
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.errors import InputError
from sordino_protocols.feature_statistics import measured_features
from sordino_protocols.job import Job
from sordino_protocols.messages import Refusal
from sordino_protocols.models import NadeModelSpec, architecture_of, parameter_count
from sordino_protocols.plan import CountPlan, LossName, SynthesisPlan, TrainingPlan
from sordino_protocols.schema import Schema, Task
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.nade import check_cells
from sordino_protocols.weighted import Embedding

# Enough for one row to be compared with another.
_TRIED_ROWS = 2
_LOSSES: Mapping[Task, LossName] = MappingProxyType(
    {"binary": "binary", "classes": "cross_entropy", "number": "squared"}
)


def unsuitable(
    job: Job, schema: Schema, engine: Engine, masks: MaskKeys | None = None
) -> Decision | None:
    """The first reason why a job does not fit a data set; None if it fits.

    Last, the network is built and takes a step on a made-up unit, which takes a while.
    """
    return next(_reasons(job, schema, engine, masks), None)


def _reasons(
    job: Job, schema: Schema, engine: Engine, masks: MaskKeys | None
) -> Iterator[Decision]:
    yield from _of_unit(job, schema)
    match job.plan.tabulation:
        case SynthesisPlan() as plan:
            yield from of_synthesis(plan, schema, masks)
        case CountPlan() as plan:
            yield from of_counts(plan, schema)
        case None if isinstance(job.file.model, NadeModelSpec):
            yield from _of_cells(job.file.model, schema)
            yield from _of_model(job, schema, engine)
        case None:
            yield from _of_task(job, schema)
            yield from _of_features(job, schema)
            yield from _of_tokens(job, schema)
            yield from _of_model(job, schema, engine)


def _of_unit(job: Job, schema: Schema) -> Iterator[Decision]:
    asked, declared, training = job.plan.unit, schema.dataset, job.plan.training
    unit = "record" if declared.unit is None else "entity"
    if asked != unit:
        yield denied(Refusal.FORBIDDEN_BY_POLICY, "the schema: dataset.unit", asked, unit)
    if training is not None and training.records_per_unit > declared.max_records_per_unit:
        yield denied(
            Refusal.FORBIDDEN_BY_POLICY,
            "the schema: dataset.max_records_per_unit",
            f"{training.records_per_unit}",
            f"<= {declared.max_records_per_unit}",
        )


def _of_task(job: Job, schema: Schema) -> Iterator[Decision]:
    asked = job.plan.require_evaluation().loss
    loss, outputs = _LOSSES[schema.task], job.file.require_model().outputs
    if (asked, outputs) != (loss, schema.outputs):
        yield denied(
            Refusal.WRONG_TASK,
            "the schema: roles.task",
            f"loss {asked} of {outputs} outputs",
            f"loss {loss} of {schema.outputs} outputs",
        )


def _of_cells(model: NadeModelSpec, schema: Schema) -> Iterator[Decision]:
    """Of a model that reads cells and not features: it learns what records are like."""
    try:
        check_cells(model, domain_of(schema).shape)
    except InputError as error:
        yield denied(Refusal.WRONG_TASK, "the job: model.cells", str(error), "the schema's cells")


def _of_features(job: Job, schema: Schema) -> Iterator[Decision]:
    has_tokens = schema.vocabulary is not None
    if job.plan.statistics is not None and not measured_features(schema).any():
        yield denied(
            Refusal.WRONG_TASK, "the job: statistics", "statistics", "features that are numbers"
        )
    training = job.plan.training
    augmentation = None if training is None else training.augmentation
    if augmentation is not None and math.prod(augmentation.image) != schema.feature_count:
        yield denied(
            Refusal.WRONG_TASK,
            "the job: training.augmentation.image",
            f"{math.prod(augmentation.image)} features",
            f"{schema.feature_count} features",
        )
    if augmentation is not None and has_tokens:
        yield denied(Refusal.WRONG_TASK, "the job: training.augmentation", "images", "tokens")


def _of_tokens(job: Job, schema: Schema) -> Iterator[Decision]:
    has_tokens = schema.vocabulary is not None
    try:
        steps = architecture_of(job.file.require_model(), schema.feature_count).steps
    except InputError:
        return  # which `_of_model` says
    reads_tokens = any(isinstance(step.operation, Embedding) for step in steps)
    if reads_tokens != has_tokens:
        yield denied(
            Refusal.WRONG_TASK,
            "the schema: columns",
            "a model of tokens" if reads_tokens else "a model of numbers",
            "tokens" if has_tokens else "numbers",
        )


def _of_model(job: Job, schema: Schema, engine: Engine) -> Iterator[Decision]:
    try:
        _try_the_network(job, schema, engine)
    except InputError as error:
        yield denied(
            Refusal.UNTRAINABLE, "the job: model", str(error), "a model that fits the features"
        )


def _try_the_network(job: Job, schema: Schema, engine: Engine) -> None:
    """Build the network, and take a step with it if the job trains.

    Raises:
        InputError: the engine cannot train or run this model, or not in this way.
    """
    if job.plan.training is not None:
        _take_a_step(job, job.plan.training, schema, engine)
        return
    loss, features = job.plan.require_evaluation().loss, schema.feature_count
    network = network_for(job.file.require_model(), features, loss, performance=engine.performance)
    with single_threaded():
        network.check_outputs(_TRIED_ROWS)


def _take_a_step(job: Job, training: TrainingPlan, schema: Schema, engine: Engine) -> None:
    """Train on one made-up unit, as large as a unit can be, and forget it."""
    plan = replace(training, sampling_rate=1.0, local_steps=1, lanes=0)
    model, rows = job.file.require_model(), plan.records_per_unit
    features = architecture_of(model, schema.feature_count).feature_count
    everything = Entities(np.arange(rows), np.array([0, rows]))
    size = parameter_count(model, features) + plan.thresholds
    train_round(
        Units(
            np.zeros((rows, features), dtype=np.float32),
            np.zeros(rows, dtype=np.float32),
            np.zeros(0, dtype=np.int64),
            entities=everything if plan.unit == "entity" else None,
        ),
        np.zeros(size),
        model,
        plan,
        expected_batch_size=1.0,
        noise=engine.noise,
        performance=engine.performance,
    )
