"""One comparison's runs: with privacy through the real engine, and without by plain torch.

A run with privacy is `train_round` at every site and `advance` at the server, as in production, in
one process, with secure noise. All of a job's epsilon goes into training: published central figures
have no private evaluation to pay for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from benchmarks.utility_data import Records
from sordino.exact_metrics import class_metrics, exact_metrics
from sordino_client.training.clipping import outputs, predict
from sordino_client.training.losses import loss_of
from sordino_client.training.noise import Noise
from sordino_client.training.processor import single_threaded
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.calibration import calibrate
from sordino_protocols.job import JobFile
from sordino_protocols.models import FloatVector, initial_weights
from sordino_protocols.networks import build, flatten, load_flat
from sordino_protocols.plan import TrainingPlan
from sordino_server.aggregation import aggregate
from sordino_server.optimizers import advance, initial_state, released_weights

_NOBODY = np.zeros(0, dtype=np.int64)
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Score:
    """How good a model is on test records; `auc` is None for more than two classes."""

    accuracy: float
    auc: float | None


def plan_of(job: JobFile) -> TrainingPlan:
    """The training plan with the least noise that keeps the job's guarantee, by PLD."""
    return job.training_plan(_noise_multiplier(job.model_dump_json()))


def fit_with_privacy(
    sites: Sequence[Records], job: JobFile, *, noise: Noise, seed: bytes
) -> FloatVector:
    """Train by the job at several sites; each adds its own noise and keeps the whole guarantee.

    Args:
        sites: each one's records; their numbers count as public, as for any benchmark data set.
        job: what every site runs.
        noise: where all randomness of the mechanism comes from.
        seed: of the public initial weights.

    Returns:
        The released model's flat parameters.
    """
    plan, orders = plan_of(job), [len(records) for records in sites]
    start = initial_weights(job.require_model(), sites[0].features.shape[1], seed=seed)
    state = initial_state(start, plan)
    for _ in range(plan.rounds):
        updates = [
            train_round(
                Units(records.features, records.labels, _NOBODY),
                state.weights,
                job.require_model(),
                plan,
                expected_batch_size=plan.sampling_rate * len(records),
                noise=noise,
            ).vector
            for records in sites
        ]
        release = aggregate(updates, orders, plan)
        state = advance(state, release, plan=plan, optimizer=job.require_optimizer(), seed=seed)
    return released_weights(state, plan)


def fit_without_privacy(records: Records, job: JobFile, *, epochs: int, seed: int) -> FloatVector:
    """The job's model on the same records by plain Adam, its learning rate falling to zero."""
    generator = torch.Generator().manual_seed(seed)
    module = build(job.require_model(), records.features.shape[1])
    load_flat(
        module, initial_weights(job.require_model(), records.features.shape[1], seed=bytes([seed]))
    )
    module = module.float()
    per_record = loss_of(job.loss).per_record
    features, labels = torch.from_numpy(records.features), torch.from_numpy(records.labels)
    batches = -(-len(records) // _BATCH)
    optimizer = torch.optim.Adam(module.parameters(), lr=_LEARNING_RATE[job.require_model().kind])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * batches)
    with single_threaded():
        for _ in range(epochs):
            order = torch.randperm(len(records), generator=generator)
            for start in range(0, len(records), _BATCH):
                rows = order[start : start + _BATCH]
                optimizer.zero_grad()
                loss = per_record(module(features[rows]), labels[rows]).mean()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
    return flatten(module)


def score(weights: FloatVector, job: JobFile, test: Records) -> Score:
    """Exact metrics on test records."""
    if job.loss == "binary":
        found = exact_metrics(predict(weights, job.require_model(), test.features), test.labels)
        return Score(found.accuracy, found.auc)
    found_classes = outputs(weights, job.require_model(), test.features).numpy()
    return Score(class_metrics(found_classes, test.labels).accuracy, None)


def divide(records: Records, count: int, *, seed: int) -> list[Records]:
    """Records in `count` equal random parts, one a site."""
    order = np.random.default_rng(seed).permutation(len(records))
    return [records.of(np.sort(part)) for part in np.array_split(order, count)]


# Without privacy a convolutional network diverges at a rate that a linear model is slow with.
_LEARNING_RATE = {"cnn": 2e-3, "logistic": 2e-2}


@lru_cache(maxsize=32)
def _noise_multiplier(job_json: str) -> float:
    job = JobFile.model_validate_json(job_json)
    return calibrate(lambda noise: job.training_plan(noise).event, job.guarantee)
