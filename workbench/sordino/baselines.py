"""What a federation is compared with: all records in one place, and each site on its own.

Both need records that one may look at, so they are for public data and demonstrations. The runs
with privacy go through the sites' engine and the server's aggregation, the same functions as in
production, in one process.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize

from sordino.exact_metrics import (
    ExactMetrics,
    Labels,
    TaskMetrics,
    class_metrics,
    exact_metrics,
    number_metrics,
)
from sordino_client.data.storage import FeatureArray
from sordino_client.data.table import Table
from sordino_client.mechanisms import Engine, SiteDataset, noisy_feature_statistics
from sordino_client.training.arithmetic import Performance
from sordino_client.training.clipping import outputs, predict
from sordino_client.training.losses import loss_of
from sordino_client.training.noise import Noise
from sordino_client.training.processor import single_threaded
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.feature_statistics import make_scaling, measured_features
from sordino_protocols.job import Job
from sordino_protocols.models import FloatVector, ModelSpec, initial_weights
from sordino_protocols.networks import build, load_flat
from sordino_protocols.optimizer import SgldOptimizer
from sordino_protocols.plan import LossName
from sordino_protocols.scaling import Scaling
from sordino_protocols.schema import Schema
from sordino_server.aggregation import aggregate, check_update, clipping_norm_at, sum_updates
from sordino_server.langevin import check_temperature
from sordino_server.optimizers import advance, initial_state, released_weights

_RIDGE = 1.0
_LBFGS_ITERATIONS = 100
_LOSS_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class SiteRecords:
    """One site's records in the clear.

    Attributes:
        train: what is learnt from.
        held_out: what models are measured on.
        order_of_magnitude: the site's declared public size.
        scaling: of the features, the same at every site; None for what the schema's public bounds
            make of them. `with_statistics` adds what a job's `[statistics]` give.
    """

    train: Table
    held_out: Table
    order_of_magnitude: int
    scaling: Scaling | None = None


def with_statistics(
    sites: Mapping[str, SiteRecords], job: Job, schema: Schema, *, noise: Noise
) -> dict[str, SiteRecords]:
    """The sites with the scaling that the noisy statistics of a job give; as they are without any.

    Args:
        sites: by name.
        job: with or without `[statistics]`.
        schema: of all sites; says which features are measured.
        noise: where every site's randomness comes from.
    """
    plan = job.plan.statistics
    if plan is None:
        return dict(sites)
    engine = Engine(noise, Performance())
    released = [
        noisy_feature_statistics(plan, SiteDataset(schema, site.train, site.held_out), engine)
        for site in sites.values()
    ]
    scaling = make_scaling(
        plan,
        sum_updates([each.astype(np.float64) for each in released]),
        sites=len(sites),
        measured=measured_features(schema),
    )
    return {name: replace(site, scaling=scaling) for name, site in sites.items()}


def central_without_privacy(sites: Mapping[str, SiteRecords], spec: ModelSpec) -> ExactMetrics:
    """The model of all sites' records in one place, without privacy: the usual upper reference.

    Measured on all sites' held-out records; for labels of two classes.

    Raises:
        ValueError: no site, or held-out records of one class only.
    """
    return measure(central_weights(sites, spec, loss="binary"), spec, sites)


def central_weights(
    sites: Mapping[str, SiteRecords], spec: ModelSpec, *, loss: LossName
) -> FloatVector:
    """Parameters learnt from all sites' records in one place, without privacy.

    L-BFGS on the summed loss with a ridge of 1 on all but the biases (as scikit-learn's default).

    Raises:
        ValueError: no site.
    """
    features = torch.from_numpy(
        np.concatenate([_scaled(site.train.features, site.scaling) for site in sites.values()])
    )
    features = features.to(torch.float64) if features.is_floating_point() else features
    labels = torch.from_numpy(np.concatenate([site.train.labels for site in sites.values()]))
    labels = labels.to(torch.float64)
    module, per_record = build(spec, features.shape[1]), loss_of(loss).per_record

    def loss_and_gradient(weights: FloatVector) -> tuple[float, FloatVector]:
        load_flat(module, weights)
        parameters = list(module.parameters())
        total = per_record(module(features), labels).sum()
        ridge = torch.stack([p.square().sum() for p in parameters if p.ndim > 1]).sum()
        penalised = total + _RIDGE / 2 * ridge
        gradients = torch.autograd.grad(penalised, parameters)
        return float(penalised.detach()), torch.cat([g.reshape(-1) for g in gradients]).numpy()

    # Not torch's own: its first use imports a compiler, for seconds.
    start = initial_weights(spec, features.shape[1], seed=b"central")
    options = {"maxiter": _LBFGS_ITERATIONS, "ftol": _LOSS_TOLERANCE}
    with single_threaded():
        found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x, dtype=np.float64)


def alone_with_privacy(
    sites: Mapping[str, SiteRecords], job: Job, *, noise: Noise
) -> dict[str, ExactMetrics]:
    """Each site runs the job without the others, at the same epsilon.

    Measured on all sites' held-out records, like every other model here: a site's own few records
    would say little, and a model is wanted that works for the next patient anywhere.

    Raises:
        ValueError: held-out records of one class only.
    """
    spec = job.file.require_model()
    return {
        name: measure(federate({name: site}, job, noise=noise), spec, sites)
        for name, site in sites.items()
    }


def federate(sites: Mapping[str, SiteRecords], job: Job, *, noise: Noise) -> FloatVector:
    """Run a job in this process: every site answers every round, no canary is inserted.

    Args:
        sites: by name.
        job: rounds, privacy and optimiser.
        noise: where every site's randomness comes from.

    Returns:
        The released model's flat parameters.

    Raises:
        InputError: DP-SGLD whose privacy noise is hotter than the wanted temperature.
    """
    plan, spec = job.plan.require_training(), job.file.require_model()
    feature_count = next(iter(sites.values())).train.features.shape[1]
    seed = bytes.fromhex(job.digest())
    state = initial_state(initial_weights(spec, feature_count, seed=seed), plan)
    optimizer = job.file.require_optimizer()
    orders = [site.order_of_magnitude for site in sites.values()]
    if isinstance(optimizer, SgldOptimizer):
        check_temperature(optimizer, plan, units=orders, quorum=len(orders))
    for _ in range(plan.rounds):
        updates = [_answer(site, state.weights, job, noise=noise) for site in sites.values()]
        release = aggregate(updates, orders, plan, rule=job.file.cohort.aggregation)
        state = advance(state, release, plan=plan, optimizer=optimizer, seed=seed)
    return released_weights(state, plan)


def _answer(site: SiteRecords, weights: FloatVector, job: Job, *, noise: Noise) -> FloatVector:
    """One site's update, believed by the server's check."""
    plan = job.plan.require_training()
    expected = plan.sampling_rate * site.order_of_magnitude
    # As it is sent.
    sent = weights.astype(np.float32).astype(np.float64)
    nobody = np.zeros(0, dtype=np.int64)
    train, scaling = site.train, site.scaling
    vector = train_round(
        Units(train.features, train.labels, nobody, entities=train.entities, scaling=scaling),
        sent,
        job.file.require_model(),
        plan,
        expected_batch_size=expected,
        noise=noise,
    ).vector
    check_update(
        vector,
        plan,
        dimension=len(weights),
        expected_batch_size=expected,
        clipping_norm=clipping_norm_at(weights, plan),
    )
    return vector


def measure_task(
    weights: FloatVector, spec: ModelSpec, sites: Mapping[str, SiteRecords], *, loss: LossName
) -> TaskMetrics:
    """Exact metrics of what the loss is for, on all sites' held-out records together.

    Raises:
        ValueError: no held-out records; under "binary", of one class only.
    """
    if loss == "binary":
        return measure(weights, spec, sites)
    features, labels = _held_out(sites)
    found = outputs(weights, spec, features).numpy()
    if loss == "cross_entropy":
        return class_metrics(found, labels)
    return number_metrics(found[:, 0], labels)


def measure(
    weights: FloatVector, spec: ModelSpec, sites: Mapping[str, SiteRecords]
) -> ExactMetrics:
    """Exact accuracy and AUC on all sites' held-out records together.

    Raises:
        ValueError: held-out records of one class only.
    """
    features, labels = _held_out(sites)
    return exact_metrics(predict(weights, spec, features), labels)


def _held_out(sites: Mapping[str, SiteRecords]) -> tuple[FeatureArray, Labels]:
    features = np.concatenate(
        [_scaled(site.held_out.features, site.scaling) for site in sites.values()]
    )
    return features, np.concatenate([site.held_out.labels for site in sites.values()])


def _scaled(features: FeatureArray, scaling: Scaling | None) -> FeatureArray:
    if scaling is None:
        return features
    return scaling.apply(features.astype(np.float32, copy=False))
