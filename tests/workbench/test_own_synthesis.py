"""pandas in, pandas out: the format of the records, about their statistics, and no more of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plausible_synthesis import SCHEMA, visits

import sordino
from sordino.own_synthesis import fit_generator, sample, synthesize
from sordino.toml_text import toml_text
from sordino_client.data.cell_encoding import encode_cells
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.synthesis.generator_file import Generator, write_generator
from sordino_protocols.synthesis.specs import GeneratorSpec, MstSpec, PrivBayesSpec

ROWS = 2_000


@pytest.fixture(scope="module")
def generator() -> Generator:
    return fit_generator(visits(ROWS, seed=0), SCHEMA, components=20, epsilon=8.0, delta=1e-5)


def test_the_sdk_has_it() -> None:
    assert sordino.synthesize is synthesize
    assert sordino.sample is sample


def test_has_the_format_of_the_records(generator: Generator) -> None:
    real, made = visits(ROWS, seed=0), sample(generator, 500)
    assert list(made.columns) == sorted(set(real.columns) - {"remark"})
    assert len(made) == 500
    # What reads the real records reads these.
    assert encode_cells(made, SCHEMA).shape == (500, 8)
    assert set(made["ward"]) <= {"north", "south", "west", "other"}
    assert made["ill"].isin([0, 1]).all()
    assert made["cost"].isna().any()


def test_types_follow_from_the_schema_alone(generator: Generator) -> None:
    whole, one = sample(generator, 500), sample(generator, 1)
    assert (whole.dtypes == one.dtypes).all()


def test_has_about_the_statistics_of_the_records(generator: Generator) -> None:
    real, made = visits(ROWS, seed=0), sample(generator)
    # 105 tables at epsilon 8: the estimate's standard deviation is about ten.
    assert abs(len(made) - ROWS) < 200
    assert abs(made["age"].mean() - real["age"].mean()) < 3
    for table in (real, made):
        old, young = table[table["age"] > 70], table[table["age"] < 40]
        assert old["ill"].mean() - young["ill"].mean() > 0.5


def test_invents_no_link_that_the_records_do_not_have() -> None:
    # The same check on records without the link: it can fail.
    real = visits(ROWS, seed=0)
    real["ill"] = np.random.default_rng(0).permutation(real["ill"])
    made = synthesize(real, SCHEMA, epsilon=8.0, delta=1e-5)
    old, young = made[made["age"] > 70], made[made["age"] < 40]
    assert abs(old["ill"].mean() - young["ill"].mean()) < 0.3


@pytest.mark.parametrize(
    "spec", [PrivBayesSpec(kind="privbayes", degree=1), MstSpec(kind="mst")], ids=lambda s: s.kind
)
def test_other_generators_make_the_same_format(spec: GeneratorSpec) -> None:
    made = synthesize(
        visits(ROWS, seed=0), SCHEMA, generator=spec, rows=300, epsilon=8.0, delta=1e-5
    )
    assert encode_cells(made, SCHEMA).shape == (300, 8)


def test_takes_one_record_of_each_entity() -> None:
    facts = SCHEMA.dataset.model_copy(update={"unit": "patient"})
    schema = SCHEMA.model_copy(update={"dataset": facts})
    frame = visits(ROWS, seed=0).assign(patient=np.arange(ROWS) // 4)
    made = synthesize(frame, schema, epsilon=8.0, delta=1e-5)
    assert abs(len(made) - ROWS // 4) < 200
    assert "patient" not in made
    with pytest.raises(InputError, match="patient"):
        synthesize(frame.drop(columns="patient"), schema, epsilon=8.0, delta=1e-5)


def test_a_schema_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "visits.toml"
    path.write_text(toml_text(SCHEMA.model_dump(mode="json", exclude_unset=True)))
    assert len(synthesize(visits(200, seed=0), path, rows=10, epsilon=8.0, delta=1e-5)) == 10


def test_a_generator_is_read_back(generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    path.write_bytes(write_generator(generator, run_id="", job_digest=""))
    first = sample(path, 50, rng=np.random.default_rng(1))
    pd.testing.assert_frame_equal(first, sample(generator, 50, rng=np.random.default_rng(1)))


def test_two_samples_differ(generator: Generator) -> None:
    assert not sample(generator, 50).equals(sample(generator, 50))


def test_what_is_wrong_is_said(generator: Generator, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        sample(tmp_path / "absent", 1)
    with pytest.raises(NotFoundError, match="no site 'gamma'"):
        sample(generator, 1, site="gamma")
    with pytest.raises(InputError, match="'age' is absent"):
        synthesize(visits(10, seed=0).drop(columns="age"), SCHEMA, epsilon=8.0, delta=1e-5)
