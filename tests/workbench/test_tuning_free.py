"""Trials on public records: the real engine at the job's own noise, on splits by the seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from seeded_noise import SeededNoise

from sordino.tuning import HEADLINES, Outcome, ranked
from sordino.tuning_free import (
    PublicData,
    Simulation,
    _split,
    load_public,
    try_all,
)
from sordino.tuning_settings import Trial, read_choices, read_trials
from sordino_protocols.errors import InputError
from sordino_protocols.pricing import price, resolve

SCHEMA = """
[dataset]
name = "toy"
version = 1
order_of_magnitude = 1000
holdout_fraction = 0.25
[columns.age]
type = "number"
min = 0
max = 100
[columns.dose]
type = "number"
min = 0
max = 10
[columns.y]
type = "integer"
min = 0
max = 4
[roles]
label = "y"
positive_above = 1
"""
JOB = """
[job]
name = "toy"
kind = "train"
dataset = "toy"
[privacy]
unit = "record"
epsilon = 50
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = 10
sampling_rate = 1
clipping_norm = 1
[optimizer]
learning_rate = 4
[audit]
lanes = 0
"""
ROWS = 240
ENTITIES = 60
Write = Callable[[str, str], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["age,dose,y,person"]
    for row in range(ROWS):
        age, dose = rng.uniform(0, 100), rng.uniform(0, 10)
        label = min(int(age / 20), 4)
        lines.append(f"{age:.2f},{dose:.2f},{label},p{row % ENTITIES}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "dataset.toml").write_text(SCHEMA)
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def change(path: Path, *pairs: tuple[str, str]) -> None:
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def load(folder: Path) -> PublicData:
    return load_public(folder / "dataset.toml", folder / "table.csv")


def trials(folder: Path, *texts: str) -> tuple[Trial, ...]:
    choices = read_choices(texts)
    return read_trials(folder / "job.toml", choices, method="grid", limit=None, seed=0)


def run(folder: Path, *texts: str, sites: int = 1, repeats: int = 1) -> tuple[Outcome, ...]:
    simulation = Simulation(sites, repeats, seed=5)
    wanted = trials(folder, *texts)
    return try_all(wanted, load(folder), simulation, noise=SeededNoise(1), progress=lambda _: None)


def headline(outcome: Outcome) -> float:
    return outcome.metrics[outcome.headline].value


def test_settings_that_learn_are_ranked_above_those_that_do_not(folder: Path) -> None:
    outcomes = run(folder, "optimizer.learning_rate=1e-9,4", sites=3, repeats=2)
    best, worst = ranked(outcomes)
    assert best.trial.settings == {"optimizer.learning_rate": 4}
    assert headline(best) > 0.95
    assert worst.metrics["accuracy"].value < 0.9
    assert best.metrics["auc"].spread is not None
    assert set(best.metrics) == {"auc", "accuracy"}


def test_trials_have_the_noise_of_their_own_guarantee(folder: Path) -> None:
    outcomes = run(folder, "privacy.epsilon=0.01,50")
    assert headline(outcomes[1]) > 0.95
    assert headline(outcomes[0]) < 0.9
    for each in outcomes:
        job = resolve(each.trial.file)
        assert each.noise_multiplier == job.plan.require_training().noise_multiplier
        assert each.epsilon == price(job).epsilon_pld <= each.trial.file.require_privacy().epsilon


def test_more_rounds_at_the_same_epsilon_have_more_noise(folder: Path) -> None:
    few, many = run(folder, "training.rounds=2,32")
    assert few.epsilon == pytest.approx(many.epsilon, rel=2e-3)
    # Steps of the Gaussian mechanism add up in squares.
    assert many.noise_multiplier == pytest.approx(4 * few.noise_multiplier, rel=1e-2)


@pytest.mark.parametrize(
    ("task", "loss", "outputs", "expected"),
    [
        ("classes", "cross_entropy", 5, {"accuracy", "balanced_accuracy"}),
        ("number", "squared", 1, {"mean_absolute_error", "root_mean_squared_error"}),
    ],
)
def test_every_task_has_its_own_metrics(
    folder: Path, task: str, loss: str, outputs: int, expected: set[str]
) -> None:
    change(folder / "dataset.toml", ("positive_above = 1", f'task = "{task}"'))
    change(
        folder / "job.toml",
        ('kind = "logistic"', f'kind = "logistic"\noutputs = {outputs}'),
        ("[training]", f'[training]\nloss = "{loss}"'),
    )
    best, worst = ranked(run(folder, "optimizer.learning_rate=1e-9,0.5"))
    assert set(best.metrics) == expected
    assert best.headline == HEADLINES[best.trial.file.loss]
    if loss == "cross_entropy":
        assert headline(best) > 0.4
    else:
        # Without a model every prediction is the middle of the range, in the label's units.
        assert best.trial.settings == {"optimizer.learning_rate": 0.5}
        assert headline(worst) == pytest.approx(1.2, abs=0.15)


def test_parts_are_equal_disjoint_and_the_same_for_every_trial(folder: Path) -> None:
    data, simulation = load(folder), Simulation(sites=3, repeats=2, seed=5)
    sites = _split(data, simulation, 0)
    assert [site.order_of_magnitude for site in sites.values()] == [60, 60, 60]
    tables = [site.train for site in sites.values()] + [sites["site-1"].held_out]
    assert sum(len(site.held_out.labels) for site in sites.values()) == ROWS // 4
    everything = np.concatenate([table.features for table in tables])
    assert np.array_equal(np.sort(everything[:, 0]), np.sort(data.table.features[:, 0]))
    again, other = _split(data, simulation, 0), _split(data, simulation, 1)
    assert np.array_equal(again["site-2"].train.features, sites["site-2"].train.features)
    assert not np.array_equal(other["site-2"].train.features, sites["site-2"].train.features)


def test_an_entitys_records_stay_together(folder: Path) -> None:
    change(
        folder / "dataset.toml",
        ("holdout_fraction", 'unit = "person"\nmax_records_per_unit = 4\nholdout_fraction'),
    )
    change(
        folder / "job.toml",
        ('unit = "record"', 'unit = "entity"'),
        ("clipping_norm", "records_per_unit = 4\nclipping_norm"),
    )
    data = load(folder)
    assert data.unit_count == ENTITIES
    sites = _split(data, Simulation(sites=3, repeats=1, seed=5), 0)
    for site in sites.values():
        assert site.train.entities is not None
        assert len(site.train.entities) == site.order_of_magnitude == ENTITIES * 3 // 4 // 3
        assert len(site.train.labels) == ROWS // ENTITIES * len(site.train.entities)
    (outcome,) = run(folder, sites=3)
    assert headline(outcome) > 0.9


def test_features_are_scaled_by_noisy_statistics_where_the_job_has_them(folder: Path) -> None:
    # Bounds so wide that a feature is nearly constant until it gets its own scale.
    change(folder / "dataset.toml", ("max = 100\n", "max = 400\n"), ("max = 10\n", "max = 40\n"))
    change(folder / "job.toml", ("epsilon = 50", "epsilon = 100"))
    (bounds,) = run(folder)
    change(folder / "job.toml", ("[audit]", '[statistics]\nkind = "moments"\n[audit]'))
    (statistics,) = run(folder)
    assert statistics.metrics["accuracy"].value > bounds.metrics["accuracy"].value + 0.05
    # Paid out of the same epsilon, so there is more noise on the training.
    assert statistics.noise_multiplier > bounds.noise_multiplier
    assert statistics.epsilon <= 100


def test_langevin_steps_that_would_be_too_hot_are_refused_first(folder: Path) -> None:
    hot = "optimizer={kind='sgld',learning_rate=1000}"
    with pytest.raises(InputError, match=r"optimizer = .*at most .* fits these sites"):
        run(folder, hot, sites=2)
    (cool,) = run(folder, "optimizer={kind='sgld',learning_rate=0.01}", sites=2)
    assert 0 <= headline(cool) <= 1


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("job.dataset=other", "job.dataset is 'other', not 'toy'"),
        ("privacy.unit=entity", "the schema: dataset.unit"),
        ("model.outputs=2", "needs model.outputs = 1"),
        ("training.loss=squared", "the schema: roles.task"),
        ("model={kind='cnn'}", "model.cnn: layers"),
        (
            "training.augmentation={image=[1,1,3],views=2}",
            "training.augmentation.image: asked is 3 features; allowed is 2 features",
        ),
    ],
)
def test_a_trial_that_no_site_would_take_is_refused_before_any_is_run(
    folder: Path, setting: str, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(folder, setting)
    assert expected in str(caught.value)
    assert setting.partition("=")[0] in str(caught.value)


def test_too_few_records_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="too few records for 200 sites"):
        run(folder, sites=200)


def test_a_declaration_with_a_source_lends_its_rules_but_not_its_path(folder: Path) -> None:
    source = '[source]\nkind = "csv"\npath = "elsewhere.csv"\ndelimiter = ";"\n'
    (folder / "dataset.toml").write_text(SCHEMA + source)
    table = folder / "table.csv"
    table.write_text(table.read_text().replace(",", ";"))
    assert load(folder).unit_count == ROWS
