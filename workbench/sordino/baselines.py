"""What a federation is compared with: all records in one place, and each site on its own.

Both need records that one may look at, so they are for public data and demonstrations. The runs
with privacy go through the sites' engine and the server's aggregation, the same functions as in
production, in one process.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch.nn import functional

from sordino.exact_metrics import ExactMetrics, exact_metrics
from sordino_client.data.table import Table
from sordino_client.training.clipping import Units, predict
from sordino_client.training.noise import Noise
from sordino_client.training.steps import single_threaded, train_round
from sordino_protocols.job import Job
from sordino_protocols.models import FloatVector, ModelSpec, initial_weights
from sordino_protocols.networks import build, load_flat
from sordino_server.aggregation import (
    advance,
    check_update,
    initial_state,
    released_weights,
    sum_updates,
)

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
    """

    train: Table
    held_out: Table
    order_of_magnitude: int


def central_without_privacy(sites: Mapping[str, SiteRecords], spec: ModelSpec) -> ExactMetrics:
    """The model of all sites' records in one place, without privacy: the usual upper reference.

    L-BFGS on the logistic loss with a ridge of 1 (as scikit-learn's default), measured on all
    sites' held-out records.

    Raises:
        ValueError: no site, or held-out records of one class only.
    """
    train = [site.train for site in sites.values()]
    features = torch.from_numpy(np.concatenate([t.features for t in train])).to(torch.float64)
    labels = torch.from_numpy(np.concatenate([t.labels for t in train])).to(torch.float64)
    module = build(spec, features.shape[1])

    def loss_and_gradient(weights: FloatVector) -> tuple[float, FloatVector]:
        load_flat(module, weights)
        parameters = list(module.parameters())
        logits = module(features)[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
        ridge = torch.stack([p.square().sum() for p in parameters if p.ndim > 1]).sum()
        total = loss + _RIDGE / 2 * ridge
        gradients = torch.autograd.grad(total, parameters)
        return float(total.detach()), torch.cat([g.reshape(-1) for g in gradients]).numpy()

    # Not torch's own: its first use imports a compiler, for seconds.
    start = initial_weights(spec, features.shape[1], seed=b"central")
    options = {"maxiter": _LBFGS_ITERATIONS, "ftol": _LOSS_TOLERANCE}
    with single_threaded():
        found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return measure(np.asarray(found.x, dtype=np.float64), spec, sites)


def alone_with_privacy(
    sites: Mapping[str, SiteRecords], job: Job, *, noise: Noise
) -> dict[str, ExactMetrics]:
    """Each site runs the job without the others, at the same epsilon.

    Measured on all sites' held-out records, like every other model here: a site's own few records
    would say little, and a model is wanted that works for the next patient anywhere.

    Raises:
        ValueError: held-out records of one class only.
    """
    spec = job.file.model
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
    """
    plan, spec = job.plan.training, job.file.model
    feature_count = next(iter(sites.values())).train.features.shape[1]
    start = initial_weights(spec, feature_count, seed=bytes.fromhex(job.digest()))
    state = initial_state(start, lanes=plan.lanes)
    expected = {n: plan.sampling_rate * site.order_of_magnitude for n, site in sites.items()}
    nobody = np.zeros(0, dtype=np.int64)
    for _ in range(plan.rounds):
        updates = []
        for name, site in sites.items():
            units = Units(site.train.features, site.train.labels, nobody)
            result = train_round(
                units, state.weights, spec, plan, expected_batch_size=expected[name], noise=noise
            )
            check_update(
                result.vector,
                plan,
                dimension=len(state.weights),
                expected_batch_size=expected[name],
            )
            updates.append(result.vector)
        state = advance(
            state,
            sum_updates(updates),
            plan=plan,
            expected_units=sum(expected.values()),
            optimizer=job.file.server_optimizer,
        )
    return released_weights(state, lanes=plan.lanes)


def measure(
    weights: FloatVector, spec: ModelSpec, sites: Mapping[str, SiteRecords]
) -> ExactMetrics:
    """Exact accuracy and AUC on all sites' held-out records together.

    Raises:
        ValueError: held-out records of one class only.
    """
    features = np.concatenate([site.held_out.features for site in sites.values()])
    labels = np.concatenate([site.held_out.labels for site in sites.values()])
    return exact_metrics(predict(weights, spec, features), labels)
