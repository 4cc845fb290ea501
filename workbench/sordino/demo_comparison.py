"""How good the demo's model is, exactly, and how good its rivals are.

The rivals: all records in one place without privacy, and each site alone under the same guarantee.
All are measured on the held-out records of all sites together, in the figures of the job's loss.
Every model sees its features as it was trained on them: where the job measures `[statistics]`, the
federation and the one place scale by what the run released, a site alone by what it measures alone.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from sordino.baselines import SiteRecords, central_weights, federate, measure_task, with_statistics
from sordino.exact_metrics import ClassMetrics, ExactMetrics, NumberMetrics, TaskMetrics
from sordino.result import AloneSection, BaselineSection, Quality
from sordino_client.training.noise import Noise
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job
from sordino_protocols.models import FloatVector, architecture_of
from sordino_protocols.schema import Schema
from sordino_protocols.weighted import Weighted, multiply_adds

# L-BFGS goes over all records about a hundred times, in float64, and holds every activation. On one
# core these two are a minute and a gigabyte.
_MOST_MULTIPLICATIONS = 1e9
_MOST_VALUES = 1e8


def quality_of(
    weights: FloatVector, sites: Mapping[str, SiteRecords], job: Job, schema: Schema
) -> Quality:
    """A model's exact figures on all sites' held-out records; errors are in the label's units.

    Args:
        weights: flat parameters of the job's model.
        sites: by name, their features scaled as the model wants them.
        job: names model and loss.
        schema: of all sites.

    Raises:
        InputError: the held-out records are too few for the figures to mean anything.
    """
    loss = job.file.loss
    held_out = np.concatenate([site.held_out.labels for site in sites.values()])
    needed = 2 if loss == "binary" else 1
    if len(np.unique(held_out)) < needed:
        raise InputError(
            f"the held-out records of all sites have fewer than {needed} different labels, so no"
            " model can be measured on them; raise dataset.holdout_fraction"
        )
    metrics = measure_task(weights, job.file.require_model(), sites, loss=loss)
    return _figures(metrics, label_scale=schema.label_scale)


def compare(
    sites: Mapping[str, SiteRecords], job: Job, schema: Schema, *, noise: Noise
) -> BaselineSection:
    """Train and measure the rivals; one that cannot be trained is left out, and why is said.

    Args:
        sites: by name, their features scaled as the run scaled them.
        job: what the federation ran.
        schema: of all sites.
        noise: where the randomness of the sites that are alone comes from.

    Raises:
        InputError: as `quality_of`.
    """
    left_out = []
    central, alone = None, None
    if is_quick(sites, job):
        spec, loss = job.file.require_model(), job.file.loss
        central = quality_of(central_weights(sites, spec, loss=loss), sites, job, schema)
    else:
        left_out.append(
            "All records in one place: to train this model on them to the end, in full precision,"
            " would take longer than a demo should."
        )
    try:
        trained = _train_alone(sites, job, schema, noise=noise)
    except InputError as error:
        left_out.append(f"Each site alone: it cannot run this job, {error}.")
    else:
        alone = _alone({name: quality_of(*each, job, schema) for name, each in trained.items()})
    return {"central": central, "alone": alone, "left_out": left_out}


def is_quick(sites: Mapping[str, SiteRecords], job: Job) -> bool:
    """Whether one place learns the model of all records within about a minute and a gigabyte."""
    records = sum(len(site.train.labels) for site in sites.values())
    features = next(iter(sites.values())).train.features.shape[1]
    architecture = architecture_of(job.file.require_model(), features)
    multiplications = sum(
        multiply_adds(step.operation, step.inputs[0].shape)
        for step in architecture.steps
        if isinstance(step.operation, Weighted)
    )
    return (
        records * multiplications <= _MOST_MULTIPLICATIONS
        and records * architecture.activation_count <= _MOST_VALUES
    )


def _train_alone(
    sites: Mapping[str, SiteRecords], job: Job, schema: Schema, *, noise: Noise
) -> dict[str, tuple[FloatVector, dict[str, SiteRecords]]]:
    """The model of each site, and all sites' records as that model wants to see them.

    Raises:
        InputError: one site cannot run the job: DP-SGLD whose noise is too hot for one.
    """
    trained = {}
    for name, site in sites.items():
        bounded = {name: replace(site, scaling=None)}
        own = with_statistics(bounded, job, schema, noise=noise)
        seen = {other: replace(each, scaling=own[name].scaling) for other, each in sites.items()}
        trained[name] = federate(own, job, noise=noise), seen
    return trained


def _alone(sites: dict[str, Quality]) -> AloneSection:
    names = next(iter(sites.values()))
    mean: Quality = {
        name: math.fsum(each[name] for each in sites.values()) / len(sites) for name in names
    }
    return {"mean": mean, "sites": sites}


def _figures(metrics: TaskMetrics, *, label_scale: float) -> Quality:
    match metrics:
        case ExactMetrics():
            return {"accuracy": metrics.accuracy, "auc": metrics.auc}
        case ClassMetrics():
            return {"accuracy": metrics.accuracy, "balanced_accuracy": metrics.balanced_accuracy}
        case NumberMetrics():
            return {
                "mean_absolute_error": metrics.mean_absolute_error * label_scale,
                "root_mean_squared_error": metrics.root_mean_squared_error * label_scale,
            }
        case _:
            assert_never(metrics)
