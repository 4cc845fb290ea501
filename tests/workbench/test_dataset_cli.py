"""`sordino dataset suggest-schema`: a draft that reads back, and that nobody can use unread."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SORDINO = Path(sys.executable).with_name("sordino")


def suggest(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SORDINO), "dataset", "suggest-schema", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "Visits.csv"
    rows = [f"{20 + each % 50},{'|'.join('abc'[: each % 4])},{each % 2}" for each in range(100)]
    path.write_text("\n".join(["age,towers,ill", *rows]) + "\n")
    return path


def test_prints_a_draft_that_reads_back(records: Path) -> None:
    done = suggest(str(records), "--label", "ill")
    assert done.returncode == 0, done.stderr
    draft = tomllib.loads(done.stdout)
    assert draft["dataset"]["derived_from_data"] is True
    assert draft["dataset"]["name"] == "visits"
    assert draft["source"] == {"kind": "csv", "path": "Visits.csv"}
    assert draft["columns"]["towers"]["type"] == "set"
    assert draft["roles"] == {"label": "ill", "positive_above": 0}
    assert done.stdout.startswith("# drafted from records")


def test_a_written_draft_is_for_its_owner_alone(records: Path, tmp_path: Path) -> None:
    out = tmp_path / "visits.toml"
    assert suggest(str(records), "-o", str(out)).returncode == 0
    assert out.stat().st_mode & 0o777 == 0o600
    again = suggest(str(records), "-o", str(out))
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_what_is_wrong_is_said(records: Path, tmp_path: Path) -> None:
    absent = suggest(str(tmp_path / "absent.csv"))
    assert (absent.returncode, "no such file" in absent.stderr) == (5, True)
    label = suggest(str(records), "--label", "weight")
    assert (label.returncode, "no column 'weight'" in label.stderr) == (2, True)
