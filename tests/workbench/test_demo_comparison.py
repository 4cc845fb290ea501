"""The exact comparison of a demo, for each kind of label, on folders as a person has them."""

from pathlib import Path

import numpy as np
import pytest
from seeded_noise import SeededNoise

from sordino.baselines import SiteRecords, central_weights
from sordino.demo_comparison import compare, is_quick, quality_of
from sordino.demo_data import DemoData, own_data
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.table import split
from sordino_protocols.errors import InputError
from sordino_protocols.job import Job
from sordino_protocols.models import CnnSpec

SCHEMA = """\
[dataset]
name = "visits"
version = 1
order_of_magnitude = 150
holdout_fraction = 0.3
{unit}
[source]
kind = "csv"
path = "$site.csv"
[columns.vital]
type = "vector"
count = 2
min = -4
max = 4
[columns.{label}]
{column}
[roles]
label = "{label}"
task = "{task}"
"""
CLASSES = SCHEMA.format(
    unit='unit = "patient"\nmax_records_per_unit = 2',
    label="ward",
    column='type = "category"\nvalues = ["green", "red"]',
    task="classes",
)
NUMBER = SCHEMA.format(
    unit="", label="cost", column='type = "number"\nmin = 0\nmax = 5000', task="number"
)


def demo_of(folder: Path, schema: str) -> tuple[DemoData, DatasetFile, dict[str, SiteRecords]]:
    """Two sites of 150 patients with two visits each; ward and cost follow from the vitals."""
    rng = np.random.default_rng(4)
    for site in ("east", "west"):
        lines = ["patient,vital_0,vital_1,ward,cost"]
        for patient in range(150):
            for _ in range(2):
                first, second = rng.normal(size=2)
                ward = "red" if first > 0 else "green"
                lines.append(f"p{patient},{first},{second},{ward},{2500 + 500 * first}")
        (folder / f"{site}.csv").write_text("\n".join(lines) + "\n")
    (folder / "dataset.toml").write_text(schema)
    records = {}
    for site in ("east", "west"):
        own = folder / f"{site}.declared"
        own.write_text(schema.replace("$site", site))
        declared = read_dataset(own)
        train, held_out = split(load_table(declared), fraction=0.3, key=b"k" * 16)
        records[site] = SiteRecords(train, held_out, 150)
    return own_data(folder), declared, records


def job_of(data: DemoData, *, noise_multiplier: float = 2.0) -> Job:
    # Fixed noise: to calibrate it takes seconds, and what it costs is not the question here.
    return Job(
        version=2,
        file=data.job,
        training_noise_multiplier=noise_multiplier,
        evaluation_noise_multiplier=10.0,
    )


def test_compares_classes_of_entities(tmp_path: Path) -> None:
    data, declared, records = demo_of(tmp_path, CLASSES)
    rivals = compare(records, job_of(data), declared.public, noise=SeededNoise(1))
    assert rivals["left_out"] == []
    assert rivals["central"] is not None
    assert rivals["alone"] is not None
    assert list(rivals["central"]) == ["accuracy", "balanced_accuracy"]
    assert rivals["central"]["accuracy"] > 0.95
    single = [each["accuracy"] for each in rivals["alone"]["sites"].values()]
    assert rivals["alone"]["mean"]["accuracy"] == pytest.approx(np.mean(single))
    assert min(single) > 0.7


def test_errors_of_numbers_are_in_the_labels_units(tmp_path: Path) -> None:
    data, declared, records = demo_of(tmp_path, NUMBER)
    job, schema = job_of(data), declared.public
    weights = central_weights(records, job.file.require_model(), loss="squared")
    found = quality_of(weights, records, job, schema)
    labels = np.concatenate([each.held_out.labels for each in records.values()])
    assert 0 < found["mean_absolute_error"] < 100
    # A model that says 2,500 whatever it sees: half of [0, 5000].
    silent = quality_of(np.zeros_like(weights), records, job, schema)
    assert silent["mean_absolute_error"] == pytest.approx(2500 * np.abs(labels).mean())


def test_a_model_too_large_for_one_place_is_left_out(tmp_path: Path) -> None:
    data, _, records = demo_of(tmp_path, CLASSES)
    small = job_of(data)
    assert is_quick(records, small)
    many = np.zeros((5000, 784), dtype=np.float32)
    table = type(records["east"].train)(many, np.zeros(5000, dtype=np.float32))
    images = {"east": SiteRecords(table, table, 5000)}
    network = small.file.model_copy(update={"model": CnnSpec(kind="cnn", outputs=2)})
    assert not is_quick(images, small.model_copy(update={"file": network}))


def test_refuses_to_measure_on_no_records(tmp_path: Path) -> None:
    data, declared, records = demo_of(tmp_path, NUMBER)
    train = records["east"].train
    nobody = type(train)(train.features[:0], train.labels[:0])
    with pytest.raises(InputError, match="holdout_fraction"):
        quality_of(
            np.zeros(3), {"east": SiteRecords(train, nobody, 150)}, job_of(data), declared.public
        )
