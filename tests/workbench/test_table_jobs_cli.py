"""`sordino job check` and `sordino synth fit` of tables: prices and files, and no site asked."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from plausible_synthesis import SCHEMA, synthesis_job, visits
from typer.testing import CliRunner

from sordino.cli import app
from sordino.job_text import job_toml
from sordino.toml_text import toml_text
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile

COUNT = """
[job]
name = "visits-counts"
kind = "count"
dataset = "visits"

[privacy]
unit = "record"
epsilon = 0.5
delta = 1e-5

[[counting.queries]]
name = "old"
where = { age = ">= 70" }

[[counting.queries]]
name = "near"
where = { towers = { any = ["a", "b"] } }
"""


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "visits.toml"
    path.write_text(toml_text(SCHEMA.model_dump(mode="json", exclude_unset=True)))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def incomplete(mode: str = "local") -> str:
    file = synthesis_job(mode)
    section = file.require_synthesis().model_copy(update={"shape": None, "schema_sha256": None})
    return job_toml(file.model_copy(update={"synthesis": section}))


def test_prices_a_synthesis_from_its_schema(schema: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(incomplete())
    found = run("job", "check", job, "--schema", schema, "--output", "json")
    assert found.exit_code == 0, found.exception
    cost = json.loads(found.stdout)
    assert 0.99 < cost["epsilon_pld"] <= 1.0
    assert (cost["mode"], cost["generator"], cost["tables"]) == ("local", "mixture", 16)
    assert "recognises at most" in cost["in_words"]
    assert "epsilon_of_the_sum" not in cost


def test_a_sum_has_two_prices(schema: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(incomplete("sum"))
    cost = json.loads(run("job", "check", job, "--schema", schema, "--output", "json").stdout)
    assert 0 < cost["epsilon_of_the_sum"] < cost["epsilon_pld"] <= 1.0


def test_without_a_schema_a_synthesis_has_no_price(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(incomplete())
    found = run("job", "check", job)
    assert isinstance(found.exception, InputError)
    assert "synthesis.shape" in str(found.exception)


def test_prices_counting_queries(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(COUNT)
    cost = json.loads(run("job", "check", job, "--output", "json").stdout)
    assert cost["answers"] == 2
    assert 0.49 < cost["epsilon_pld"] <= 0.5


def test_a_mock_has_no_price(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text('[job]\nname = "mock"\nkind = "mock"\ndataset = "visits"\n')
    assert parse_toml(job.read_text(), JobFile, source="job").privacy is None
    found = run("job", "check", job)
    assert isinstance(found.exception, InputError)


def test_fits_own_records_and_samples_and_reports(schema: Path, tmp_path: Path) -> None:
    records, generator = tmp_path / "visits.csv", tmp_path / "visits.safetensors"
    visits(400, seed=0).to_csv(records, index=False)
    promise = ("--epsilon", "4", "--delta", "1e-5", "--components", "5")
    own = ("--data", records, "--dataset", schema)
    fitted = run("synth", "fit", *own, *promise, "-o", generator)
    assert fitted.exit_code == 0, fitted.exception
    assert "no ledger counts this" in fitted.stderr
    out = tmp_path / "sample.parquet"
    assert run("synth", "sample", generator, "--rows", "30", "-o", out).exit_code == 0
    assert len(pd.read_parquet(out)) == 30
    for source, name in ((generator, "a.html"), (out, "b.html")):
        page = tmp_path / name
        done = run("synth", "report", source, *own, "-o", page)
        assert done.exit_code == 0, done.exception
        assert "Keep this page where the records are" in page.read_text()
        assert page.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("synth", "fit", "-o", "new"), "name a run, or give"),
        (("synth", "fit", "run-1", "--data", "x.csv", "-o", "new"), "name a run, or give"),
        (("synth", "report", "x", "--data", "x.csv", "-o", "new"), "--data"),
        (("sample", "get", "visits", "--mock", "--run", "x", "-o", "x.csv"), "--mock"),
        (("sample", "get", "visits", "-o", "x.json"), "must end in"),
        (("count", "visits", "age > 3", "--charge"), "--charge needs"),
        (("count", "visits", "age > 3", "--epsilon", "1"), "only --charge"),
    ],
)
def test_what_does_not_fit_together_is_said_before_anything_is_asked(
    arguments: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("a\n1\n")
    (tmp_path / "x").write_text("")
    found = run(*arguments)
    assert isinstance(found.exception, InputError), found.output
    assert says in str(found.exception)
