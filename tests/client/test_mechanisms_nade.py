"""What a site computes on its records' cells for a job that trains an autoregressive model."""

import secrets
from dataclasses import replace

import numpy as np
import pytest
from federation import ENTITY_SCHEMA, JOB, SCHEMA, make_job, make_table
from numpy.typing import NDArray
from seeded_noise import NoNoise
from small_job import of_entities

from sordino_client.admitted import AdmittedRun
from sordino_client.data.table import Table
from sordino_client.data.table_cells import cells_of
from sordino_client.entities import Entities
from sordino_client.evaluation import surprise_histogram
from sordino_client.mechanisms import Engine, SiteDataset, noisy_evaluation, noisy_update
from sordino_client.training.arithmetic import Performance
from sordino_client.training.clipping import network_for, outputs
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job
from sordino_protocols.models import parameter_count
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.nade import cells_for, unpacked

EXACT = Engine(NoNoise(), Performance())
# Coarse cells of age, chol and pulse; the label has two.
NADE_JOB = JOB.replace('kind = "logistic"', 'kind = "nade"\nhidden = 4\ncells = [16, 16, 2, 16]')
NADE_JOB = NADE_JOB.replace("[training]", '[training]\nloss = "likelihood"')
TASKS = [
    pytest.param(NADE_JOB, SCHEMA, id="record"),
    pytest.param(of_entities(NADE_JOB), ENTITY_SCHEMA, id="entity"),
]

Weights = NDArray[np.float32]


def dataset(text: str = SCHEMA, *, records: int = 300) -> SiteDataset:
    schema = parse_toml(text, Schema, source="heart.toml")
    table = make_table(records, seed=1, schema=schema)
    return SiteDataset(schema, table, table)


def weights_of(job: Job) -> Weights:
    size = parameter_count(job.file.require_model(), 1) + job.plan.extra_coordinates
    return np.random.default_rng(0).normal(size=size).astype(np.float32)


def spec_of(job: Job) -> NadeModelSpec:
    spec = job.file.require_model()
    assert isinstance(spec, NadeModelSpec)
    return spec


def evaluate(job: Job, data: SiteDataset) -> Weights:
    return noisy_evaluation(job, data, EXACT, weights=weights_of(job), scaling=None)


def update(job: Job, data: SiteDataset, *, weights: Weights | None = None) -> Weights:
    coins = np.zeros(job.plan.lanes, dtype=np.bool_)
    run = AdmittedRun("run-1", job, job.digest(), coins, secrets.token_bytes(32), "0" * 32)
    given = weights_of(job) if weights is None else weights
    return noisy_update(run, data, EXACT, weights=given, scaling=None)


def without_first_unit(table: Table) -> Table:
    if table.entities is None:
        return Table(table.features[1:], table.labels[1:])
    starts = table.entities.starts
    rows = int(starts[1])
    entities = Entities(table.entities.order[rows:] - rows, starts[1:] - rows)
    return Table(table.features[rows:], table.labels[rows:], entities)


@pytest.mark.parametrize(("text", "schema"), TASKS)
def test_one_unit_less_is_one_count_less_in_one_cell(text: str, schema: str) -> None:
    job, data = make_job(text), dataset(schema)
    whole = evaluate(job, data)
    less = evaluate(job, replace(data, heldout=without_first_unit(data.heldout)))
    assert whole.shape == (10,)
    assert sorted(np.unique(whole - less)) == [0, 1]
    assert (whole - less).sum() == 1


def test_the_table_counts_records_by_their_likelihood() -> None:
    job, data = make_job(NADE_JOB), dataset()
    cells = cells_of(data.heldout, data.schema)
    coarse = cells_for(spec_of(job), cells, domain_of(data.schema).shape)
    network = network_for(spec_of(job), 1, "likelihood")
    logs = outputs(weights_of(job).astype(np.float64), network, coarse.astype(np.float32))
    expected = surprise_histogram(logs.numpy(), bins=10)
    assert (expected > 0).sum() > 2
    assert np.array_equal(evaluate(job, data), expected.ravel())


@pytest.mark.parametrize(("text", "schema"), TASKS)
def test_one_unit_less_moves_the_sum_by_the_clipping_norm_at_most(text: str, schema: str) -> None:
    job, data = make_job(text), dataset(schema)
    plan = job.plan.require_training()
    assert plan.local_steps == 1
    whole = update(job, data)
    less = update(job, replace(data, training=without_first_unit(data.training)))
    norm = np.linalg.norm(whole.astype(np.float64) - less)
    assert 0.5 * plan.clipping_norm < norm <= plan.clipping_norm * (1 + 1e-5)


def test_learns_what_is_frequent() -> None:
    job, data = make_job(NADE_JOB), dataset()
    spec, layout = spec_of(job), spec_of(job).layout
    zeros = np.zeros_like(weights_of(job))
    moved = -update(job, data, weights=zeros).astype(np.float64)
    cells = cells_for(spec, cells_of(data.training, data.schema), domain_of(data.schema).shape)
    # At zero weights every record's gradient is as long: all are clipped alike, in single precision
    # to 2^-7 less than the clipping norm.
    length = np.sqrt(sum(1 - 1 / width for width in spec.cells))
    clipped = job.plan.require_training().clipping_norm / length
    for start, width, column in zip(layout.starts(), spec.cells, cells.T, strict=True):
        above = np.bincount(column, minlength=width) - len(column) / width
        found = unpacked(moved, spec).biases[start : start + width]
        assert np.allclose(found, clipped * above, rtol=0, atol=1e-2 * np.abs(above).max())


def test_refuses_a_network_of_another_table() -> None:
    job = make_job(NADE_JOB.replace("[16, 16, 2, 16]", "[16, 16, 3, 16]"))
    with pytest.raises(InputError, match=r"cells\[2\] is 3; the data set has 2 fine cells"):
        evaluate(job, dataset())
    with pytest.raises(InputError, match=r"cells\[2\] is 3"):
        update(job, dataset())
