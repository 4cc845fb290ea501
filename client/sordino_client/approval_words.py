"""A job in words, for a person who shall say yes or no: what it does, and what leaves the site.

Everything here is declared or follows from the job. No record is looked at.
"""

from collections.abc import Iterator

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.job import Job
from sordino_protocols.models import parameter_count
from sordino_protocols.plan import CountPlan, ItemsWanted, SynthesisPlan, TrainingPlan
from sordino_protocols.schema import Schema

_SHOWN_QUERIES = 20


def work_words(job: Job) -> Iterator[str]:
    """What a job does, line by line."""
    file, plan = job.file, job.plan
    columns = ", ".join(file.job.columns) or "all"
    model = "" if file.model is None else f" a {file.model.kind} model"
    yield f"{file.job.kind}{model} on {file.job.dataset}, columns: {columns}"
    yield f"the privacy unit is a {file.require_privacy().unit}"
    if plan.training is not None:
        yield from _of_training(plan.training)
    if file.synthetic is not None:
        yield f"the model was trained on synthetic records of run {file.synthetic.run}"
    if plan.evaluation is not None:
        yield f"noise {plan.evaluation.noise_multiplier:g} on every count of the evaluation"
    if plan.synthesis is not None:
        yield from _of_synthesis(plan.synthesis, delta=file.guarantee.delta)
    if plan.count is not None:
        yield from _of_count(plan.count)
    yield f"sites: {', '.join(file.cohort.sites) or 'whichever the server asks'}"


def leaving_words(job: Job, schema: Schema) -> Iterator[str]:
    """What leaves the site, line by line.

    Args:
        job: what is asked for.
        schema: of the data set, narrowed to the job's columns.
    """
    plan = job.plan
    if plan.statistics is not None:
        yield f"noisy {plan.statistics.kind} of {schema.feature_count} features, once"
    if plan.training is not None:
        kind = "sums of clipped gradients" if plan.training.update == "sum" else "model changes"
        size = parameter_count(job.file.require_model(), schema.feature_count)
        count = size + plan.extra_coordinates
        yield f"noisy {kind}, {count} numbers each, {plan.rounds} times"
    if plan.evaluation is not None:
        rows, columns = plan.evaluation.shape
        yield f"a noisy table of {rows} x {columns} counts over held-out units, once"
    if plan.synthesis is not None:
        yield from _leaving_of_synthesis(plan.synthesis)
    if plan.count is not None:
        yield f"{len(plan.count.queries)} noisy counts, once"
    if plan.lanes:
        yield f"the coins of {plan.lanes} canaries, which are no records, at the end"


def _of_training(training: TrainingPlan) -> Iterator[str]:
    steps = f"{training.rounds} rounds of {training.local_steps} steps"
    batch = f"each unit in a batch with probability {training.sampling_rate:g}"
    yield f"{steps}, {batch}"
    yield (
        f"a unit's part clipped to norm {training.largest_clipping_norm:g} at most,"
        f" noise {training.noise_multiplier:g} times that norm"
    )


def _of_synthesis(plan: SynthesisPlan, *, delta: float) -> Iterator[str]:
    yield f"synthetic records by the generator {plan.generator.kind}, mode {plan.mode}"
    match plan.mode:
        case "local":
            yield "the server fits one generator to the noisy marginals of all sites"
        case "sum":
            yield (
                f"the server learns the sum of {len(plan.sites)} sites' noisy marginals, of which"
                f" {plan.silent} may stay silent"
            )
            hidden = epsilon_by_pld(plan.whole_event, delta)
            yield f"the sum alone costs epsilon {hidden:.4g}, as long as masks and noise hold"
            yield "this site pays for its own noise alone, as if the server saw its table"
        case "table":
            yield "the generator is fitted here, and sampled here"


def _of_count(plan: CountPlan) -> Iterator[str]:
    yield f"noise {plan.noise_multiplier:g} on every answer"
    for query in plan.queries[:_SHOWN_QUERIES]:
        conditions = (f"{name!r} {_condition(wanted)}" for name, wanted in query.where)
        yield f"count {query.name}: {'; '.join(conditions)}"
    if len(plan.queries) > _SHOWN_QUERIES:
        yield f"and {len(plan.queries) - _SHOWN_QUERIES} queries more, which the job's text has"


def _condition(wanted: str | ItemsWanted) -> str:
    # Quoted, so that nothing in a job can move the cursor of whoever reads this.
    if isinstance(wanted, str):
        return repr(wanted)
    parts = {"any": wanted.any, "all": wanted.all, "none": wanted.none}
    return ", ".join(f"{key} of {list(words)!r}" for key, words in parts.items() if words)


def _leaving_of_synthesis(plan: SynthesisPlan) -> Iterator[str]:
    match plan.mode:
        case "table":
            rows = "as many synthetic records as there seem to be units"
            if plan.rows is not None:
                rows = f"{plan.rows} synthetic records"
            yield f"{rows}, of {plan.shape.position_count} whole numbers each, once"
        case mode:
            marginals = plan.released_marginals
            numbers = sum(each.cells for each in marginals)
            hidden = ", under masks that vanish in the sum" if mode == "sum" else ""
            yield f"{len(marginals)} noisy marginals, {numbers} counts in all{hidden}, once"
