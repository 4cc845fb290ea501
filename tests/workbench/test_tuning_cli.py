"""`sordino job tune` as a person meets it."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sordino import heart
from sordino.cli import app
from sordino.heart import write_dataset
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import read_toml
from sordino_protocols.job import JobFile

SORDINO = Path(sys.executable).with_name("sordino")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset("cleveland", tmp_path)
    (tmp_path / "job.toml").write_text((files(heart) / "job.toml").read_text())
    return tmp_path


def tune(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SORDINO), "job", "tune", "job.toml", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


PUBLIC = ("--data", "cleveland.csv", "--dataset", "heart.toml", "--repeats", "1")


def test_ranks_trials_and_writes_the_best(folder: Path) -> None:
    wanted = ("--set", "optimizer.learning_rate=1e-6,2", "--sites", "2", "--write", "best.toml")
    done = tune(folder, *PUBLIC, *wanted, "--json")
    assert done.returncode == 0, done.stderr
    assert "no site is asked" in done.stderr
    assert "public or synthetic, never private records" in done.stderr
    found = json.loads(done.stdout)
    assert (found["charged"], found["ranked_by"]) == (False, "auc")
    values = [trial["metrics"]["auc"]["value"] for trial in found["trials"]]
    assert values == sorted(values, reverse=True)
    best = read_toml(folder / "best.toml", JobFile)
    winner = found["trials"][0]["settings"]["optimizer.learning_rate"]
    assert best.require_optimizer().learning_rate == winner
    assert "2 simulated sites" in (folder / "best.toml").read_text()

    again = tune(folder, *PUBLIC, *wanted)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "trial 1" not in again.stderr


def test_prints_a_table(folder: Path) -> None:
    done = tune(folder, *PUBLIC)
    assert done.returncode == 0, done.stderr
    assert "as the file says" in done.stdout
    assert "epsilon" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--data and --dataset are needed, or --charge"),
        (("--data", "cleveland.csv"), "--data and --dataset are needed"),
        ((*PUBLIC, "--charge"), "leave --data and --dataset out"),
        ((*PUBLIC, "--set", "training.cliping_norm=1"), "did you mean 'clipping_norm'?"),
        ((*PUBLIC, "--set", "training.clipping_norm"), "expected key=value,value"),
        (("--data", "no.csv", "--dataset", "heart.toml"), "no.csv"),
        (("--charge", "--yes", "--profile", "no.toml"), "no.toml"),
    ],
)
def test_wrong_usage_says_what_is_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["job", "tune", "job.toml", *arguments])
    assert isinstance(done.exception, InputError | NotFoundError)
    assert expected in str(done.exception)
