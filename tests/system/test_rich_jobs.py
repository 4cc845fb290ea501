"""Jobs that use what the engine can do, in federations of real processes: one run each."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from real_federation import Running, run_sites
from safetensors.numpy import load

from sordino.demo_result import measured
from sordino.demo_synthesis import SyntheticAttempt
from sordino.finished import FinishedRun
from sordino.page import render
from sordino.result import DemoResult, RoundEntry
from sordino_deploy.local import LocalSite
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import event_from_json, unit_of
from sordino_server.runs import MODEL, Runs
from sordino_server.statement import Statement

pytestmark = pytest.mark.system

VITALS = 6
VISITS = f"""
[dataset]
name = "visits"
version = 1
unit = "patient"
max_records_per_unit = 4
order_of_magnitude = 400
holdout_fraction = 0.25
[source]
kind = "csv"
path = "$site.csv"
[columns.vital]
type = "vector"
count = {VITALS}
min = -4.0
max = 4.0
[columns.ward]
type = "category"
values = ["green", "amber", "red"]
[roles]
label = "ward"
task = "classes"
"""

POLICY = """
[datasets.{name}]
submitters = ["scientist"]
kinds = ["train"]
models = ["mlp", "layers"]
max_epsilon = 8.0
max_delta = 1e-4
max_rounds = 100
min_expected_batch = 20
[budgets.{name}]
epsilon = 20.0
delta = 1e-4
"""

WARDS_JOB = """
[job]
name = "wards"
kind = "train"
dataset = "visits"
[privacy]
unit = "entity"
epsilon = 8
delta = 1e-4
[model]
kind = "mlp"
hidden = [8]
activation = "tanh"
outputs = 3
[training]
loss = "cross_entropy"
rounds = 12
local_steps = 2
sampling_rate = 0.5
clipping_norm = 1.0
records_per_unit = 3
[training.clipping]
kind = "adaptive"
[optimizer]
kind = "adam"
learning_rate = 0.1
stability = 0.05
[optimizer.schedule]
decay = "cosine"
[statistics]
kind = "moments"
[audit]
lanes = 50
[cohort]
quorum = 2
deadline_seconds = 150
"""

SIDE = 6
IMAGES = f"""
[dataset]
name = "images"
version = 1
order_of_magnitude = 300
holdout_fraction = 0.25
[source]
kind = "csv"
path = "$site.csv"
[columns.pixel]
type = "vector"
count = {SIDE * SIDE}
min = 0
max = 255
[columns.brightness]
type = "number"
min = 0
max = 100
[roles]
label = "brightness"
task = "number"
"""

IMAGES_JOB = f"""
[job]
name = "images"
kind = "train"
dataset = "images"
[privacy]
unit = "record"
epsilon = 8
delta = 1e-4
[model]
kind = "layers"
[[model.layers]]
kind = "reshape"
shape = [1, {SIDE}, {SIDE}]
[[model.layers]]
kind = "conv2d"
channels = 4
kernel = [3, 3]
[[model.layers]]
kind = "activation"
function = "tanh"
[[model.layers]]
kind = "flatten"
[[model.layers]]
kind = "linear"
outputs = 1
[training]
loss = "squared"
rounds = 10
local_steps = 3
local_learning_rate = 0.3
update = "delta"
sampling_rate = 0.5
clipping_norm = 1.0
[training.clipping]
kind = "normalized"
[training.augmentation]
image = [1, {SIDE}, {SIDE}]
views = 2
flip = true
[optimizer]
learning_rate = 1.0
average_decay = 0.5
[audit]
lanes = 50
[cohort]
quorum = 2
deadline_seconds = 150
"""


def visits(rng: np.random.Generator) -> str:
    """Patients with one to five visits each; the ward follows from the vitals."""
    header = ",".join(["patient", *(f"vital_{index}" for index in range(VITALS)), "ward"])
    lines = [header]
    for patient in range(400):
        ward = int(rng.integers(3))
        for _ in range(int(rng.integers(1, 6))):
            vitals = rng.normal(size=VITALS)
            vitals[2 * ward] += 2.5
            cells = ",".join(f"{each:.4f}" for each in vitals)
            lines.append(f"p{patient},{cells},{('green', 'amber', 'red')[ward]}")
    return "\n".join(lines) + "\n"


def images(rng: np.random.Generator) -> str:
    """Noisy images, and how bright they are in the middle."""
    names = [f"pixel_{index}" for index in range(SIDE * SIDE)]
    lines = [",".join([*names, "brightness"])]
    for _ in range(300):
        level = float(rng.uniform(0, 100))
        pixels = np.clip(rng.normal(2.55 * level, 20, size=SIDE * SIDE), 0, 255).astype(int)
        lines.append(",".join(map(str, pixels)) + f",{level:.2f}")
    return "\n".join(lines) + "\n"


def sites(directory: Path, schema: str, tables: dict[str, str], name: str) -> list[LocalSite]:
    made = []
    for site, table in tables.items():
        path = directory / f"{site}.csv"
        path.write_text(table, encoding="utf-8")
        policy = POLICY.format(name=name)
        made.append(LocalSite(site, schema.replace("$site", site), path, policy))
    return made


def finish(running: Running, text: str) -> tuple[Statement, dict[str, np.ndarray]]:
    """Submit, wait, and bring home the statement and the model."""
    job = resolve(parse_toml(text, JobFile, source="job"))
    run_id = running.connection.submit(job)
    states = [each["state"] for each in running.connection.watch(run_id) if "state" in each]
    assert states[-1] == "done", running.connection.show(run_id)
    statement = Statement.model_validate_json(running.connection.fetch(run_id, "statement.json"))
    return statement, load(running.connection.fetch(run_id, MODEL))


def measured_by_the_demo(running: Running, text: str) -> DemoResult:
    """The demo's result, as if it had watched the only run."""
    layout = running.federation.layout
    [run] = Runs(layout.server / "state" / "runs").all()
    rounds = [
        RoundEntry(
            round=int(str(event["round"])),
            epsilon_spent=1.0,
            update_norm=1.0,
            seconds=1.0,
            participants=2,
        )
        for event in run.events()
        if event["event"] == "round"
    ]
    job = resolve(parse_toml(text, JobFile, source="job.toml"))
    left_out = SyntheticAttempt(None, "Synthetic records: none were asked for.")
    finished = FinishedRun(run, job, rounds, 1.0, 1.0, left_out)
    return measured(layout, finished, started=time.monotonic())


def test_entities_classes_statistics_and_adaptive_clipping(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tables = {"east": visits(rng), "west": visits(rng)}
    with run_sites(tmp_path, sites(tmp_path, VISITS, tables, "visits")) as running:
        statement, model = finish(running, WARDS_JOB)
        shown = measured_by_the_demo(running, WARDS_JOB)
    accuracy = statement.require_evaluation().metrics["accuracy"]
    # Guessing is right in a third; the records allow about nine in ten.
    assert accuracy.lower > 0.5
    assert set(statement.receipts) == {"east", "west"}
    for receipt in statement.receipts.values():
        events = [event_from_json(each) for each in json.loads(receipt.events_json)]
        assert {unit_of(event) for event in events} == {"entity"}
        # Statistics, twelve rounds, evaluation: nothing else, and each of them once.
        assert len(events) == 1 + 12 + 1
        assert receipt.epsilon_spent_pld <= 8.0
    assert model["scaling"].shape == (2, VITALS)
    # What the demo would make of it.
    assert (shown["rounds"], shown["job"]["unit"]) == (12, "entity")
    assert set(shown["exact"]) == {"accuracy", "balanced_accuracy"}
    assert set(shown["evaluation"]["figures"]) == set(shown["exact"])
    assert shown["baselines"]["central"] is not None
    assert shown["baselines"]["central"]["accuracy"] > 0.8
    assert "Balanced accuracy, exact" in render(shown)


def test_deltas_of_a_convolution_on_augmented_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    tables = {"north": images(rng), "south": images(rng)}
    with run_sites(tmp_path, sites(tmp_path, IMAGES, tables, "images")) as running:
        statement, _ = finish(running, IMAGES_JOB)
    error = statement.require_evaluation().metrics["mean_absolute_error"]
    # Always saying 50 of 0 to 100 is wrong by 25 on average.
    assert error.upper < 25
    assert all(len(json.loads(r.events_json)) == 10 + 1 for r in statement.receipts.values())
