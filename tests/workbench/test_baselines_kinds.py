"""Federations in one process: every kind of label, unit, update and optimiser, same code paths."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_noise import SeededNoise
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score

from sordino.baselines import (
    SiteRecords,
    central_weights,
    federate,
    measure_task,
    with_statistics,
)
from sordino.exact_metrics import (
    ClassMetrics,
    ExactMetrics,
    NumberMetrics,
    class_metrics,
    number_metrics,
)
from sordino_client.data.table import Table
from sordino_client.entities import Entities
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.models import LogisticSpec
from sordino_protocols.plan import LossName
from sordino_protocols.schema import Schema

FEATURES, CLASSES = 4, 3
TEXT = """
[job]
name = "kinds"
kind = "train"
dataset = "made-up"
[privacy]
unit = "record"
epsilon = 8
delta = 1e-5
[model]
kind = "logistic"
outputs = 1
[training]
loss = "binary"
rounds = 40
sampling_rate = 0.2
clipping_norm = 1.0
[optimizer]
learning_rate = 1.0
[audit]
lanes = 3
"""


def job_of(*changes: tuple[str, str]) -> Job:
    text = TEXT
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    # Fixed noise: what it costs is not the question here, and to calibrate it takes seconds.
    file = parse_toml(text, JobFile, source="job.toml")
    return Job(
        version=2,
        file=file,
        training_noise_multiplier=1.5,
        evaluation_noise_multiplier=10.0,
        statistics_noise_multiplier=None if file.statistics is None else 5.0,
    )


def job_for(loss: LossName) -> Job:
    if loss == "cross_entropy":
        return job_of(("outputs = 1", f"outputs = {CLASSES}"), ('"binary"', '"cross_entropy"'))
    return job_of(('"binary"', f'"{loss}"')) if loss == "squared" else job_of()


def table(records: int, loss: LossName, *, seed: int) -> Table:
    """Labels that a linear model can learn."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, size=(records, FEATURES)).astype(np.float32)
    scores = features @ np.random.default_rng(0).normal(size=(FEATURES, CLASSES))
    match loss:
        case "binary":
            labels = scores[:, 0] > 0
        case "cross_entropy":
            labels = scores.argmax(axis=1)
        case "squared":
            labels = np.clip(0.3 * scores[:, 0] + 0.2, -1, 1)
    return Table(features, labels.astype(np.float32))


def sites_of(loss: LossName) -> dict[str, SiteRecords]:
    return {
        name: SiteRecords(table(n, loss, seed=n), table(300, loss, seed=n + 1), n)
        for name, n in (("large", 2000), ("small", 1000))
    }


def spec_of(loss: LossName) -> LogisticSpec:
    return LogisticSpec(kind="logistic", outputs=CLASSES if loss == "cross_entropy" else 1)


# --- kinds of labels ------------------------------------------------------------------------------


def test_a_federation_learns_classes_almost_as_well_as_one_place() -> None:
    sites, job = sites_of("cross_entropy"), job_for("cross_entropy")
    spec = job.file.require_model()
    weights = federate(sites, job, noise=SeededNoise(1))
    together = measure_task(weights, spec, sites, loss="cross_entropy")
    central = measure_task(
        central_weights(sites, spec, loss="cross_entropy"), spec, sites, loss="cross_entropy"
    )
    assert isinstance(together, ClassMetrics)
    assert isinstance(central, ClassMetrics)
    assert central.accuracy > 0.95
    assert central.accuracy >= together.accuracy - 0.02
    assert together.balanced_accuracy > 0.8


def test_a_federation_learns_numbers_almost_as_well_as_one_place() -> None:
    sites, job = sites_of("squared"), job_for("squared")
    spec = job.file.require_model()
    weights = federate(sites, job, noise=SeededNoise(2))
    together = measure_task(weights, spec, sites, loss="squared")
    central = measure_task(
        central_weights(sites, spec, loss="squared"), spec, sites, loss="squared"
    )
    assert isinstance(together, NumberMetrics)
    assert isinstance(central, NumberMetrics)
    assert central.mean_absolute_error < 0.01
    assert central.mean_absolute_error < together.mean_absolute_error < 0.1
    assert together.root_mean_squared_error >= together.mean_absolute_error


def test_one_place_finds_what_scikit_learn_finds() -> None:
    classes = sites_of("cross_entropy")
    features = np.concatenate([site.train.features for site in classes.values()])
    labels = np.concatenate([site.train.labels for site in classes.values()])
    weights = central_weights(classes, spec_of("cross_entropy"), loss="cross_entropy")
    found = weights[: CLASSES * FEATURES].reshape(CLASSES, FEATURES)
    reference = LogisticRegression(C=1.0, tol=1e-8).fit(features, labels)
    assert np.allclose(found, reference.coef_, atol=0.1)

    numbers = sites_of("squared")
    features = np.concatenate([site.train.features for site in numbers.values()])
    labels = np.concatenate([site.train.labels for site in numbers.values()])
    weights = central_weights(numbers, spec_of("squared"), loss="squared")
    ridge = Ridge(alpha=1.0).fit(features.astype(np.float64), labels)
    assert np.allclose(weights[:FEATURES], ridge.coef_, atol=1e-4)
    assert weights[FEATURES] == pytest.approx(ridge.intercept_, abs=1e-4)


# --- kinds of plans -------------------------------------------------------------------------------

RATE, SAMPLING = "learning_rate = 1.0", "sampling_rate = 0.2"
TWO_STEPS = f'{SAMPLING}\nupdate = "delta"\nlocal_steps = 2'
PLANS = {
    "adam": (RATE, 'kind = "adam"\nlearning_rate = 0.1'),
    "ema": (RATE, f"{RATE}\naverage_decay = 0.8"),
    "delta": (SAMPLING, f"{TWO_STEPS}\nlocal_learning_rate = 1.0"),
    "delta with Adam": (
        SAMPLING,
        f'{TWO_STEPS}\nlocal_optimizer = {{kind = "adam", stability = 0.1}}',
    ),
    "adaptive": (SAMPLING, f'{SAMPLING}\nclipping = {{kind = "adaptive"}}'),
    "normalized": (SAMPLING, f'{SAMPLING}\nclipping = {{kind = "normalized"}}'),
    "per layer": (SAMPLING, f'{SAMPLING}\nclipping = {{kind = "per_layer"}}'),
    "sgld": (RATE, f'kind = "sgld"\n{RATE}\nschedule = {{decay = "cosine", final = 0.1}}'),
}


@pytest.mark.parametrize("kind", PLANS)
def test_every_kind_of_plan_learns(kind: str) -> None:
    sites, job = sites_of("binary"), job_of(PLANS[kind])
    weights = federate(sites, job, noise=SeededNoise(3))
    assert weights.shape == (FEATURES + 1,)
    metrics = measure_task(weights, job.file.require_model(), sites, loss="binary")
    assert isinstance(metrics, ExactMetrics)
    # A model that learnt nothing has .5.
    assert metrics.auc > 0.9


def test_entities_are_what_is_sampled() -> None:
    job = job_of(
        ('unit = "record"', 'unit = "entity"'),
        ("sampling_rate", "records_per_unit = 2\nsampling_rate"),
    )
    rows = np.arange(2000)
    entities = Entities(rows, np.append(rows[::4], len(rows)))
    train = replace(table(2000, "binary", seed=5), entities=entities)
    sites = {"clinic": SiteRecords(train, table(300, "binary", seed=6), 500)}
    metrics = measure_task(
        federate(sites, job, noise=SeededNoise(4)), job.file.require_model(), sites, loss="binary"
    )
    assert isinstance(metrics, ExactMetrics)
    assert metrics.auc > 0.9
    by_record = {"clinic": replace(sites["clinic"], train=replace(train, entities=None))}
    with pytest.raises(ValueError, match="unit"):
        federate(by_record, job, noise=SeededNoise(4))


def test_langevin_steps_that_are_too_hot_are_refused_before_the_first_round() -> None:
    job = job_of(("learning_rate = 1.0", 'kind = "sgld"\nlearning_rate = 1e5'))
    with pytest.raises(InputError, match="hotter than temperature"):
        federate(sites_of("binary"), job, noise=SeededNoise(5))


# --- statistics -----------------------------------------------------------------------------------

SCHEMA = """
[dataset]
name = "made-up"
version = 1
order_of_magnitude = 1000
holdout_fraction = 0.25
[columns.a]
type = "number"
min = 0
max = 1
[columns.b]
type = "number"
min = 0
max = 1
[columns.c]
type = "number"
min = 0
max = 1
[columns.d]
type = "number"
min = 0
max = 1
[columns.ill]
type = "integer"
min = 0
max = 1
[roles]
label = "ill"
positive_above = 0
"""


def test_statistics_bring_narrow_features_to_their_full_width() -> None:
    schema = parse_toml(SCHEMA, Schema, source="dataset.toml")
    narrow = {
        name: replace(
            site,
            train=replace(site.train, features=0.9 + site.train.features * np.float32(0.05)),
            held_out=replace(
                site.held_out, features=0.9 + site.held_out.features * np.float32(0.05)
            ),
        )
        for name, site in sites_of("binary").items()
    }
    job = job_of(("[audit]", '[statistics]\nkind = "quantiles"\nbins = 100\n[audit]'))
    scaled = with_statistics(narrow, job, schema, noise=SeededNoise(6))
    scaling = scaled["large"].scaling
    assert scaling is not None
    assert 1 / scaling.factor == pytest.approx(np.full(FEATURES, 0.025), abs=0.01)
    auc = {}
    for kind, sites in (("as they are", narrow), ("scaled", scaled)):
        metrics = measure_task(
            federate(sites, job, noise=SeededNoise(7)),
            job.file.require_model(),
            sites,
            loss="binary",
        )
        assert isinstance(metrics, ExactMetrics)
        auc[kind] = metrics.auc
    assert auc["scaled"] > 0.9
    assert auc["scaled"] > auc["as they are"]


def test_without_statistics_nothing_is_scaled() -> None:
    schema = parse_toml(SCHEMA, Schema, source="dataset.toml")
    sites = sites_of("binary")
    assert with_statistics(sites, job_of(), schema, noise=SeededNoise(8)) == sites


# --- metrics --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_class_metrics_equal_the_reference(pairs: list[tuple[int, int]]) -> None:
    found, labels = (np.array(each) for each in zip(*pairs, strict=True))
    metrics = class_metrics(np.eye(4)[found], labels.astype(np.float32))
    assert metrics.accuracy == pytest.approx(np.mean(found == labels))
    assert metrics.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, found))


def test_number_metrics_by_hand() -> None:
    outputs = np.array([0.5, -3.0, 0.0])
    labels = np.array([0.0, -1.0, 0.5], dtype=np.float32)
    # What is predicted outside the labels' bounds counts as the bound.
    metrics = number_metrics(outputs, labels)
    assert metrics.mean_absolute_error == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert metrics.root_mean_squared_error == pytest.approx(np.sqrt(0.5 / 3))


def test_metrics_need_records() -> None:
    with pytest.raises(ValueError, match="records"):
        class_metrics(np.zeros((0, 3)), np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="records"):
        number_metrics(np.zeros(0), np.zeros(0, np.float32))
