from pathlib import Path

import pytest

from sordino.demo_data import hospitals, own_data
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.job import JobFile
from sordino_protocols.models import architecture_of

SCHEMA = """\
[dataset]
name = "visits"
version = 1
order_of_magnitude = 50
holdout_fraction = 0.25

[source]
kind = "csv"
path = "$site.csv"

[columns.age]
type = "integer"
min = 0
max = 100

[columns.ill]
type = "integer"
min = 0
max = 1

[roles]
label = "ill"
positive_above = 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for site in ("north", "south"):
        (tmp_path / f"{site}.csv").write_text("age,ill\n40,0\n60,1\n")
    (tmp_path / "dataset.toml").write_text(SCHEMA)
    return tmp_path


def test_the_four_hospitals_run_the_shipped_job(tmp_path: Path) -> None:
    data = hospitals(tmp_path)
    assert [site.name for site in data.sites] == ["cleveland", "hungarian", "switzerland", "va"]
    assert (data.job.job.dataset, data.job.cohort.quorum) == ("heart", 4)
    assert data.job.require_training().rounds >= 20


def test_a_folder_becomes_one_site_a_table(folder: Path) -> None:
    data = own_data(folder)
    assert [site.name for site in data.sites] == ["north", "south"]
    assert 'path = "south.csv"' in data.sites[1].dataset
    assert (data.job.job.dataset, data.job.cohort.quorum) == ("visits", 2)
    assert all(site.policy is not None and "datasets.visits" in site.policy for site in data.sites)


def test_a_site_may_declare_its_own_size(folder: Path) -> None:
    own = SCHEMA.replace("$site", "south").replace("= 50", "= 500")
    (folder / "south.toml").write_text(own)
    data = own_data(folder)
    assert "order_of_magnitude = 500" in data.sites[1].dataset
    assert "order_of_magnitude = 50\n" in data.sites[0].dataset


def test_one_table_is_no_federation(folder: Path) -> None:
    (folder / "south.csv").unlink()
    with pytest.raises(NotFoundError, match="at least two sites"):
        own_data(folder)


def test_a_source_that_is_another_file_is_refused(folder: Path) -> None:
    (folder / "dataset.toml").write_text(SCHEMA.replace("$site.csv", "/etc/passwd"))
    with pytest.raises(InputError, match=r"north\.csv"):
        own_data(folder)


def test_a_job_for_another_data_set_is_refused(folder: Path, tmp_path: Path) -> None:
    data = own_data(folder)
    other = data.job_text.replace('dataset = "visits"', 'dataset = "vists"')
    (tmp_path / "job.toml").write_text(other)
    with pytest.raises(InputError, match=r"vists.*visits"):
        own_data(folder)


def fitted(folder: Path, *changes: tuple[str, str]) -> JobFile:
    schema = SCHEMA
    for old, new in changes:
        assert old in schema
        schema = schema.replace(old, new)
    (folder / "dataset.toml").write_text(schema)
    return own_data(folder).job


def test_the_built_in_job_fits_classes_of_entities(folder: Path) -> None:
    job = fitted(
        folder,
        ("positive_above = 0", 'task = "classes"'),
        ("version = 1", 'version = 1\nunit = "patient"\nmax_records_per_unit = 3'),
    )
    assert (job.loss, job.require_model().outputs) == ("cross_entropy", 2)
    assert (job.require_privacy().unit, job.require_training().records_per_unit) == ("entity", 3)


def test_the_built_in_job_fits_numbers_with_smaller_steps_for_many_features(folder: Path) -> None:
    number = ("positive_above = 0", 'task = "number"')
    few = fitted(folder, number)
    assert (few.loss, few.require_model().outputs, few.require_privacy().unit) == (
        "squared",
        1,
        "record",
    )
    age = 'type = "integer"\nmin = 0\nmax = 100'
    many = fitted(folder, number, (age, 'type = "vector"\ncount = 240\nmin = 0\nmax = 1'))
    assert many.require_optimizer().learning_rate == pytest.approx(
        few.require_optimizer().learning_rate / 20
    )


def test_the_built_in_job_looks_tokens_up(folder: Path) -> None:
    age = 'type = "integer"\nmin = 0\nmax = 100'
    job = fitted(folder, (age, 'type = "tokens"\nlength = 8\nvocabulary = 50'))
    assert job.require_model().kind == "layers"
    assert architecture_of(job.require_model(), 8).parameter_count == 50 * 16 + 16 + 1
