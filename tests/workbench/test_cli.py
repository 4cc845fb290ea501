"""The `sordino` command as a person meets it: exit codes, messages, JSON."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from sordino import heart

SORDINO = Path(sys.executable).with_name("sordino")


def sordino(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SORDINO), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text((files(heart) / "job.toml").read_text())
    return path


def test_prints_its_version() -> None:
    done = sordino("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("sordino ")


def test_checks_a_job_and_says_what_it_costs(job_file: Path) -> None:
    done = sordino("job", "check", str(job_file), "--output", "json")
    assert done.returncode == 0
    cost = json.loads(done.stdout)
    assert 0.999 * 4.0 <= cost["epsilon_pld"] <= 4.0
    assert cost["epsilon_rdp"] > cost["epsilon_pld"]
    assert cost["steps"] == 20


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("clipping_norm = 0.5", "cliping_norm = 0.5", "training.cliping_norm: unknown key"),
        ("clipping_norm = 0.5", "", "training.clipping_norm: missing"),
        ("rounds = 20", 'rounds = "20"', "training.rounds"),
        ("epsilon = 4.0", "epsilon = -1.0", "privacy.epsilon"),
        ("bins = 10", "bins = 9", "evaluation.bins"),
        ('kind = "logistic"', 'kind = "pickle"', "model.kind"),
        (
            "rounds = 20",
            "rounds = 20\nnoise_multiplier = 0.1",
            "training.noise_multiplier: unknown",
        ),
    ],
)
def test_a_wrong_job_names_file_key_and_expectation(
    job_file: Path, old: str, new: str, expected: str
) -> None:
    text = job_file.read_text()
    assert old in text
    job_file.write_text(text.replace(old, new))
    done = sordino("job", "check", str(job_file))
    assert done.returncode == 2
    assert str(job_file) in done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_things_have_their_own_exit_code(tmp_path: Path) -> None:
    assert sordino("job", "check", str(tmp_path / "no.toml")).returncode == 5
    assert sordino("ledger", "verify", "--config", str(tmp_path / "no.toml")).returncode == 5
    assert sordino("audit", "run", str(tmp_path / "no-run")).returncode == 5


def test_wrong_usage_suggests_what_was_meant() -> None:
    done = sordino("job", "chekc")
    assert done.returncode == 2
    assert "check" in done.stderr


def test_without_a_profile_says_how_to_give_one(job_file: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SORDINO), "job", "submit", str(job_file)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "--profile" in done.stderr
    assert "SORDINO_PROFILE" in done.stderr


def test_reading_the_command_line_imports_no_torch() -> None:
    code = "import sys, sordino.cli; print(sorted({'torch', 'pandas', 'flwr'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_demo_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("mine")
    done = sordino("demo", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["keep"]
