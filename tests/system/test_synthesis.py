"""Synthetic records from the command line: asked for, paid for once, and used for nothing more."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from plausible_synthesis import SCHEMA, visits
from real_federation import Running, run_sites

from sordino.toml_text import toml_text
from sordino_client.config import load_config
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.ledger import read_entries
from sordino_deploy.local import LocalSite
from sordino_protocols.errors import ExitCode

pytestmark = pytest.mark.system

SORDINO = Path(sys.executable).with_name("sordino")
SITES = ("alpha", "beta")
ROWS = 600
PROMISE = ("--epsilon", "2", "--delta", "1e-5")

POLICY = """
[datasets.visits]
submitters = ["scientist"]
kinds = ["train", "synthesize", "count"]
models = ["logistic"]
max_epsilon = 2.0
max_delta = 1e-5
max_rounds = 10
min_expected_batch = 20
[budgets.visits]
epsilon = 12.0
delta = 1e-5
"""

TRAINING = """
[job]
name = "visits-synthetic"
kind = "train"
dataset = "visits"

[privacy]
unit = "record"
epsilon = 1.0
delta = 1e-5

[model]
kind = "logistic"

[synthetic]
run = "{run}"
epochs = 5
learning_rate = 0.05

[cohort]
quorum = 2
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("synthesis")
    declared = toml_text(SCHEMA.model_dump(mode="json", exclude_unset=True))
    sites = []
    for seed, name in enumerate(SITES):
        records = directory / f"{name}.csv"
        visits(ROWS, seed=seed).to_csv(records, index=False)
        source = toml_text({"source": {"kind": "csv", "path": records.name}})
        sites.append(LocalSite(name, f"{declared}\n{source}", records, POLICY))
    with run_sites(directory, sites) as found:
        yield found


@pytest.fixture(scope="module")
def synthesis(running: Running) -> str:
    """A finished synthesis of both sites."""
    done = sordino(running, "synth", "submit", "visits", *PROMISE, "--watch")
    assert done.returncode == 0, done.stderr
    assert "alpha" in done.stderr
    assert "chi squared per cell" in done.stderr
    return done.stdout.strip()


def sordino(running: Running, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, as the data scientist calls it."""
    return subprocess.run(
        [
            str(SORDINO),
            *map(str, arguments),
            "--profile",
            str(running.federation.submitter_profile),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def entries(running: Running) -> list[int]:
    """How long each site's ledger is."""
    configs = [load_config(running.federation.layout.site(name) / "site.toml") for name in SITES]
    return [len(list(read_entries(each.ledger_path))) for each in configs]


def test_a_mock_costs_nothing_and_needs_no_run(running: Running, tmp_path: Path) -> None:
    before, out = entries(running), tmp_path / "mock.parquet"
    done = sordino(running, "sample", "get", "visits", "--mock", "--rows", "50", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "from the public schema alone" in done.stderr
    assert encode_cells(pd.read_parquet(out), SCHEMA).shape == (50, 8)
    assert entries(running) == before


def test_samples_come_from_the_newest_synthesis_and_cost_nothing(
    running: Running, synthesis: str, tmp_path: Path
) -> None:
    before, out = entries(running), tmp_path / "sample.csv"
    done = sordino(running, "sample", "get", "visits", "--rows", "3000", "-o", out)
    assert done.returncode == 0, done.stderr
    assert synthesis in done.stderr
    made = pd.read_csv(out)
    assert len(made) == 3000
    old, young = made[made["age"] > 70], made[made["age"] < 40]
    assert old["ill"].mean() - young["ill"].mean() > 0.3
    again = sordino(running, "sample", "get", "visits", "--rows", "10", "-o", out)
    assert again.returncode == ExitCode.USAGE
    assert "exists already" in again.stderr
    assert entries(running) == before


def test_a_generator_is_fetched_refitted_and_sampled_anywhere(
    running: Running, synthesis: str, tmp_path: Path
) -> None:
    fetched = sordino(running, "job", "fetch", synthesis, "--to", tmp_path)
    assert fetched.returncode == 0, fetched.stderr
    names = {Path(line).name.removeprefix(f"{synthesis}.") for line in fetched.stdout.split()}
    assert {"generator.safetensors", "tables.safetensors", "synthesis.json"} <= names
    assert {"statement.json", "certificate.json"} <= names
    again = tmp_path / "again.safetensors"
    fitted = sordino(running, "synth", "fit", synthesis, "--components", "5", "-o", again)
    assert fitted.returncode == 0, fitted.stderr
    for source in (again, tmp_path / f"{synthesis}.generator.safetensors"):
        out = tmp_path / f"{source.stem}.csv"
        done = sordino(
            running, "synth", "sample", source, "--site", "beta", "--rows", "9", "-o", out
        )
        assert done.returncode == 0, done.stderr
        assert len(pd.read_csv(out)) == 9


def test_a_count_is_free_from_a_synthesis_and_charged_at_the_sites(
    running: Running, synthesis: str
) -> None:
    real = pd.concat([visits(ROWS, seed=seed) for seed in range(len(SITES))])
    asked = ("visits", "age >= 50", "ill = 1")
    true = len(real[(real["age"] >= 50) & (real["ill"] == 1)])
    before = entries(running)
    free = sordino(running, "count", *asked, "--output", "json")
    assert free.returncode == 0, free.stderr
    found = json.loads(free.stdout)
    assert found["run"] == synthesis
    # About a fifth is held out, and the noise of two sites is a few dozen.
    assert abs(found["count"] - 0.8 * true) < 200
    assert entries(running) == before
    charged = sordino(running, "count", *asked, "--charge", *PROMISE, "--output", "json")
    assert charged.returncode == 0, charged.stderr
    answer = json.loads(charged.stdout)
    assert answer["lower"] <= answer["count"] <= answer["upper"]
    assert abs(answer["count"] - 0.8 * true) < 80
    assert all(now > then for now, then in zip(entries(running), before, strict=True))


def test_a_model_learns_from_it_and_both_reports_tell(
    running: Running, synthesis: str, tmp_path: Path
) -> None:
    job = tmp_path / "job.toml"
    job.write_text(TRAINING.format(run=synthesis))
    trained = sordino(running, "job", "submit", job, "--watch")
    assert trained.returncode == 0, trained.stderr
    assert "evaluation, noisy: accuracy" in trained.stderr
    shared, local = tmp_path / "shared.html", tmp_path / "local.html"
    run = trained.stdout.strip()
    done = sordino(running, "synth", "report", synthesis, "--evaluation", run, "-o", shared)
    assert done.returncode == 0, done.stderr
    assert "trained on synthetic records alone" in shared.read_text()
    config = running.federation.layout.site("alpha") / "site.toml"
    done = sordino(running, "synth", "report", synthesis, "--config", config, "-o", local)
    assert done.returncode == 0, done.stderr
    assert "By attribute" in local.read_text()
    assert local.stat().st_mode & 0o777 == 0o600


def test_a_sum_hides_the_sites_from_the_server(running: Running, tmp_path: Path) -> None:
    done = sordino(running, "synth", "submit", "visits", *PROMISE, "--mode", "sum", "--watch")
    assert done.returncode == 0, done.stderr
    sordino(running, "job", "fetch", done.stdout.strip(), "--to", tmp_path)
    facts = json.loads((tmp_path / f"{done.stdout.strip()}.synthesis.json").read_text())
    assert list(facts["tables"]) == ["sum"]
    assert facts["epsilon"] < facts["epsilon_without_masks"] <= 2.0


def test_what_a_policy_does_not_allow_is_refused(running: Running) -> None:
    done = sordino(
        running, "synth", "submit", "visits", "--epsilon", "3", "--delta", "1e-5", "--watch"
    )
    assert done.returncode == ExitCode.REFUSED
    assert "forbidden_by_policy" in done.stderr
    unknown = sordino(running, "synth", "submit", "nobody", *PROMISE)
    assert unknown.returncode in {ExitCode.UNREACHABLE, ExitCode.NOT_FOUND, ExitCode.USAGE}
    assert "Traceback" not in unknown.stderr
