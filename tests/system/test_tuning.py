"""Trials that are charged: a bill first, then real runs that every site's ledger has paid for."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_federation import Running, run_federation, system_job_text

from sordino_client.config import load_config
from sordino_client.ledger import read_entries

pytestmark = pytest.mark.system

SORDINO = Path(sys.executable).with_name("sordino")
SITES = ("cleveland", "hungarian")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("tuning")
    with run_federation(directory, SITES) as found:
        text = system_job_text(rounds=2, quorum=2, epsilon=1)
        (directory / "job.toml").write_text(text)
        yield found


def tune(
    running: Running, *arguments: str, typed: str | None = None
) -> subprocess.CompletedProcess[str]:
    job = running.federation.layout.root.parent / "job.toml"
    profile = running.federation.submitter_profile
    command = [str(SORDINO), "job", "tune", str(job), "--charge", "--profile", str(profile)]
    return subprocess.run(
        [*command, *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def entries(running: Running) -> list[int]:
    """How long each site's ledger is."""
    configs = [load_config(running.federation.layout.site(name) / "site.toml") for name in SITES]
    return [len(list(read_entries(config.ledger_path))) for config in configs]


def test_every_trial_is_a_run_that_was_agreed_to_and_paid(running: Running) -> None:
    wanted = ("--set", "optimizer.learning_rate=1,2", "--json")
    before = entries(running)
    declined = tune(running, *wanted, typed="n\n")
    assert declined.returncode != 0
    assert "2 trials, each charged" in declined.stderr
    assert "Traceback" not in declined.stderr
    assert entries(running) == before

    done = tune(running, *wanted, "--yes")
    assert done.returncode == 0, done.stderr
    assert all(f"{site}: epsilon" in done.stderr for site in SITES)
    found = json.loads(done.stdout)
    assert found["charged"] is True
    runs = {trial["run_id"] for trial in found["trials"]}
    assert len(runs) == 2
    for trial in found["trials"]:
        assert running.connection.show(trial["run_id"])["state"] == "done"
        auc = trial["metrics"]["auc"]
        low, high = auc["interval"]
        assert low <= auc["value"] <= high
        assert 0.99 < trial["epsilon"] <= 1.0
    assert all(now > then for now, then in zip(entries(running), before, strict=True))


@pytest.mark.parametrize(
    ("settings", "code", "expected"),
    [
        # Each alone is allowed, but there is no budget for all of them.
        (("privacy.epsilon=4", "optimizer.learning_rate=1,2,3"), 4, "do not fit"),
        (("privacy.epsilon=1,5",), 3, "refused"),
    ],
)
def test_what_the_sites_cannot_pay_is_never_begun(
    running: Running, settings: tuple[str, ...], code: int, expected: str
) -> None:
    before = entries(running)
    done = tune(running, "--yes", *(word for each in settings for word in ("--set", each)))
    assert done.returncode == code, done.stderr
    assert expected in done.stderr
    assert entries(running) == before
