"""What a site computes: units speak once, features are scaled alike everywhere, rows are apart."""

import secrets
from dataclasses import replace

import numpy as np
import pytest
from federation import (
    CLASSES_JOB,
    CLASSES_SCHEMA,
    ENTITY_JOB,
    ENTITY_SCHEMA,
    FEATURES,
    JOB,
    NUMBER_JOB,
    NUMBER_SCHEMA,
    SCHEMA,
    STATISTICS_JOB,
    make_job,
    make_table,
)
from numpy.typing import NDArray
from seeded_noise import NoNoise

from sordino_client.admitted import AdmittedRun
from sordino_client.data.table import Table
from sordino_client.entities import Entities
from sordino_client.mechanisms import (
    Engine,
    SiteDataset,
    noisy_evaluation,
    noisy_feature_statistics,
    noisy_update,
)
from sordino_client.training.arithmetic import Performance
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job
from sordino_protocols.models import parameter_count
from sordino_protocols.plan import StatisticsPlan
from sordino_protocols.scaling import Scaling
from sordino_protocols.schema import Schema

EXACT = Engine(NoNoise(), Performance())
SCALING = Scaling(np.array([0.1, 0.0, -0.5]), np.array([2.0, 1.0, 0.5]))
MLP = 'kind = "mlp"\nhidden = [8, 8]\nactivation = "relu"'
TASKS = [
    pytest.param(JOB, SCHEMA, id="binary"),
    pytest.param(CLASSES_JOB, CLASSES_SCHEMA, id="classes"),
    pytest.param(NUMBER_JOB, NUMBER_SCHEMA, id="number"),
    pytest.param(ENTITY_JOB, ENTITY_SCHEMA, id="entity"),
]


def dataset(text: str = SCHEMA, *, records: int = 300) -> SiteDataset:
    schema = parse_toml(text, Schema, source="heart.toml")
    table = make_table(records, seed=1, schema=schema)
    return SiteDataset(schema, table, table)


def weights_of(job: Job, *, seed: int = 0) -> NDArray[np.float32]:
    size = parameter_count(job.file.require_model(), FEATURES) + job.plan.extra_coordinates
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def evaluate(job: Job, data: SiteDataset, *, scaling: Scaling | None = None) -> NDArray[np.float32]:
    table = noisy_evaluation(job, data, EXACT, weights=weights_of(job), scaling=scaling)
    assert table.dtype == np.float32
    return table


def without_first_unit(table: Table) -> Table:
    if table.entities is None:
        return Table(table.features[1:], table.labels[1:])
    starts = table.entities.starts
    rows = int(starts[1])
    entities = Entities(table.entities.order[rows:] - rows, starts[1:] - rows)
    return Table(table.features[rows:], table.labels[rows:], entities)


def scaled(table: Table) -> Table:
    return replace(table, features=SCALING.apply(table.features.astype(np.float32)))


@pytest.mark.parametrize(("text", "schema"), TASKS)
@pytest.mark.parametrize("model", ['kind = "logistic"', MLP], ids=["logistic", "mlp"])
def test_one_unit_less_is_one_count_less_in_one_cell(text: str, schema: str, model: str) -> None:
    # Whatever goes through the network together: the counts of all others stay.
    job, data = make_job(text.replace('kind = "logistic"', model)), dataset(schema)
    whole = evaluate(job, data)
    less = evaluate(job, replace(data, heldout=without_first_unit(data.heldout)))
    assert whole.shape == (np.prod(job.plan.require_evaluation().shape),)
    assert sorted(np.unique(whole - less)) == [0, 1]
    assert (whole - less).sum() == 1


@pytest.mark.parametrize(("text", "schema"), TASKS)
def test_every_unit_counts_once(text: str, schema: str) -> None:
    data = dataset(schema)
    units = 150 if data.heldout.entities else 300
    assert evaluate(make_job(text), data).sum() == units


@pytest.mark.parametrize("records", [0, 1, 256, 257])
def test_any_number_of_units_can_be_evaluated(records: int) -> None:
    assert evaluate(make_job(), dataset(records=records)).sum() == records


@pytest.mark.parametrize(("text", "schema"), TASKS)
def test_scaling_is_what_scaled_features_would_give(text: str, schema: str) -> None:
    job, data = make_job(text), dataset(schema)
    done = SiteDataset(data.schema, scaled(data.training), scaled(data.heldout))
    assert np.array_equal(evaluate(job, data, scaling=SCALING), evaluate(job, done))
    assert not np.array_equal(evaluate(job, data, scaling=SCALING), evaluate(job, data))
    updates = [
        noisy_update(a_run(job), each, EXACT, weights=weights_of(job), scaling=scaling)
        for each, scaling in ((data, SCALING), (done, None), (data, None))
    ]
    assert np.array_equal(updates[0], updates[1])
    assert not np.array_equal(updates[0], updates[2])


def a_run(job: Job) -> AdmittedRun:
    coins = np.zeros(job.plan.lanes, dtype=np.bool_)
    return AdmittedRun("run-1", job, job.digest(), coins, secrets.token_bytes(32), "0" * 32)


@pytest.mark.parametrize("schema", [SCHEMA, ENTITY_SCHEMA])
def test_statistics_hear_each_unit_once(schema: str) -> None:
    plan, data = make_job(STATISTICS_JOB).plan.statistics, dataset(schema)
    assert plan is not None
    units = 150 if data.training.entities else 300
    whole = noisy_feature_statistics(plan, data, EXACT)
    assert whole[-1] == units
    less = replace(data, training=without_first_unit(data.training))
    added = whole - noisy_feature_statistics(plan, less, EXACT)
    assert np.linalg.norm(added) <= np.sqrt(2 * FEATURES + 1) * (1 + 1e-6)
    counts = noisy_feature_statistics(StatisticsPlan("quantiles", 4, 1.0), data, EXACT)
    assert counts.reshape(FEATURES, 4).sum(axis=1).tolist() == [units] * FEATURES


def test_tokens_are_looked_up_and_never_scaled() -> None:
    text = JOB.replace(
        'kind = "logistic"',
        'kind = "lstm"\nhidden = 4\ninput = {kind = "tokens", vocabulary = 9, width = 3}',
    )
    before, label = SCHEMA.index("[columns.age]"), SCHEMA.index("[columns.ill]")
    words = f'[columns.word]\ntype = "tokens"\nlength = {FEATURES}\nvocabulary = 9\n'
    schema = parse_toml(SCHEMA[:before] + words + SCHEMA[label:], Schema, source="tokens.toml")
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, 9, size=(40, FEATURES))
    table = Table(tokens, (tokens[:, 0] > 4).astype(np.float32))
    job, data = make_job(text), SiteDataset(schema, table, table)
    assert evaluate(job, data).sum() == 40
    update = noisy_update(a_run(job), data, EXACT, weights=weights_of(job), scaling=None)
    assert np.isfinite(update).all()
    assert np.abs(update).max() > 0
