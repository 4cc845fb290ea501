"""`sordino demo` from the outside: what it prints, what it leaves, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from audited_federation import assert_no_evidence

from sordino_audit.audit_document import AuditDocument

pytestmark = pytest.mark.system

SORDINO = Path(sys.executable).with_name("sordino")
WAIT_SECONDS = 480.0
ROUNDS = 20

SCHEMA = """\
[dataset]
name = "visits"
version = 1
order_of_magnitude = 100
holdout_fraction = 0.3

[source]
kind = "csv"
path = "$site.csv"

[columns.age]
type = "integer"
min = 0
max = 100

[columns.pressure]
type = "number"
min = 50
max = 250
nullable = true

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
    """Two sites of 120 patients, of whom the older ones are ill."""
    directory = tmp_path / "data"
    directory.mkdir()
    for offset, site in enumerate(("north", "south")):
        rows = [
            f"{20 + (7 * i + offset) % 60},{100 + i % 40},{int((7 * i + offset) % 60 > 30)}"
            for i in range(120)
        ]
        (directory / f"{site}.csv").write_text("\n".join(["age,pressure,ill", *rows]) + "\n")
    (directory / "dataset.toml").write_text(SCHEMA)
    return directory


def processes_below(root: Path) -> list[str]:
    """Command lines of all processes that mention a directory."""
    lines = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(root) in line and "sordino" in line:
            lines.append(line)
    return lines


def test_prints_one_object_and_leaves_nothing_running(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [str(SORDINO), "demo", "--json", "--data", str(folder), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rounds"] == ROUNDS
    assert {site["name"] for site in result["sites"]} == {"north", "south"}
    for site in result["sites"]:
        assert 0 < site["epsilon_spent_pld"] <= site["epsilon_planned"] <= 4.0
        assert site["epsilon_spent_rdp"] >= site["epsilon_spent_pld"]
        assert site["budget_left"] == pytest.approx(12.0 - site["epsilon_spent_rdp"], abs=1e-6)
    audit = result["audit"]
    assert audit["lower_bound"] <= 4.0
    assert {"confidence", "verdict", "detectable"} <= set(audit)
    assert_no_evidence(AuditDocument.model_validate_json(json.dumps(audit)))
    assert result["auc"] == result["exact"]["auc"] > 0.8
    assert set(result["baselines"]) == {"central", "alone", "left_out"}
    assert result["baselines"]["left_out"] == []
    assert {"setup", "rounds", "total"} <= set(result["seconds"])
    synthetic = result["synthetic"]
    assert synthetic["left_out"] == ""
    assert synthetic["exact"]["auc"] > 0.7
    assert synthetic["epsilon_release"] < 4.0
    assert Path(result["files"]["synthetic_records"]).read_text().startswith("age,")
    page = Path(result["report"]).read_text()
    assert "The same model without rounds" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert all(Path(path).exists() for path in result["files"].values())
    assert processes_below(out) == []
    assert_next_steps_work(out, result)


def assert_next_steps_work(out: Path, result: dict[str, dict[str, str]]) -> None:
    """The commands that the demo proposes, on what it left."""
    config = str(out / "sites" / "north" / "site.toml")
    verified = subprocess.run(
        [str(SORDINO), "ledger", "verify", "--config", config, "--output", "json"],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    # A hold, a reservation and a commit for each round and for the evaluation, and the end; then
    # the same of one release, twice: a synthesis, and the evaluation of what was trained on it.
    assert json.loads(verified.stdout)["entries"] == (1 + 2 * (ROUNDS + 1) + 1) + 2 * (1 + 2 + 1)
    run = str(Path(result["files"]["statement"]).parent)
    audited = subprocess.run(
        [str(SORDINO), "audit", "run", run],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert audited.returncode == 0, audited.stderr


def test_ctrl_c_stops_every_process(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [str(SORDINO), "demo", "--data", str(folder), "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if line.startswith("round 2/"):
                break
        assert processes_below(out)
        os.kill(demo.pid, signal.SIGINT)
        demo.stderr.read()
        assert demo.wait(WAIT_SECONDS) == 130
    assert processes_below(out) == []
