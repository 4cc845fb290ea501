"""A bought model, validated at real sites from the command line; and a server that swaps it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from one_site import POLICY
from real_federation import Running, hospitals, run_sites, until
from safetensors.numpy import load, save
from small_job import VALIDATION

from sordino.weights_file import model_digest, naming, read_weights
from sordino_client.data.declaration import DatasetFile
from sordino_protocols.errors import ExitCode
from sordino_protocols.files import parse_toml, read_toml
from sordino_protocols.job import Job, JobFile, new_nonce, sign_job
from sordino_protocols.model_file import ReleasedModel
from sordino_protocols.models import parameter_count
from sordino_protocols.pricing import resolve
from sordino_protocols.rounds import TERMINAL_RUN_STATES, RunState
from sordino_protocols.signing import load_signer
from sordino_server.runs import CERTIFICATE, MODEL, Runs
from sordino_server.statement import Statement

pytestmark = pytest.mark.system

SITES = ("cleveland", "va")
WITHOUT_DIGEST = VALIDATION.replace(f'weights_sha256 = "{"0a" * 32}"\n', "")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("validation")
    policy = POLICY.replace('kinds = ["train"]', 'kinds = ["validate"]')
    assert policy != POLICY
    sites = [replace(each, policy=policy) for each in hospitals(directory / "data", SITES)]
    with run_sites(directory, sites) as running:
        yield running


@pytest.fixture
def bought(running: Running, tmp_path: Path) -> tuple[Path, Path]:
    """A job file that names no weights yet, and a file of them: one flat vector, made elsewhere."""
    job = tmp_path / "job.toml"
    job.write_text(WITHOUT_DIGEST)
    declared = parse_toml(running.federation.sites[0].dataset, DatasetFile, source="heart.toml")
    size = parameter_count(read_toml(job, JobFile).require_model(), declared.feature_count)
    weights = np.random.default_rng(5).normal(size=size).astype(np.float32)
    path = tmp_path / "bought.safetensors"
    path.write_bytes(save({"bought": weights}))
    return job, path


def sordino(running: Running, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, as the data scientist calls it."""
    profile = ("--profile", running.federation.submitter_profile)
    return subprocess.run(
        [Path(sys.executable).with_name("sordino"), *map(str, (*arguments, *profile))],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_bought_model_is_validated_from_the_command_line(
    running: Running, bought: tuple[Path, Path], tmp_path: Path
) -> None:
    job, weights = bought
    done = sordino(running, "job", "submit", job, "--weights", weights, "--watch")
    assert done.returncode == ExitCode.OK, done.stderr
    run_id = done.stdout.strip()
    model = read_weights(weights)
    assert f"validation.weights_sha256 = {model_digest(model)}" in done.stderr
    assert "evaluation, noisy: accuracy" in done.stderr

    fetched = sordino(running, "job", "fetch", run_id, "--to", tmp_path)
    assert fetched.returncode == ExitCode.OK, fetched.stderr
    statement = Statement.model_validate_json((tmp_path / f"{run_id}.statement.json").read_text())
    assert set(statement.receipts) == set(SITES)
    assert statement.require_evaluation().roc
    assert statement.require_evaluation().calibration_error is not None
    for receipt in statement.receipts.values():
        (event,) = json.loads(receipt.events_json)
        assert 0 < receipt.epsilon_spent_pld <= 2 * (1 + 1e-9), event
    kept = load((tmp_path / f"{run_id}.{MODEL}").read_bytes())["weights"]
    assert np.array_equal(kept, model.weights)
    certificate = json.loads((tmp_path / f"{run_id}.{CERTIFICATE}").read_text())
    assert set(certificate["sites"]) == set(SITES)


def test_a_validation_without_its_model_is_not_submitted(
    running: Running, bought: tuple[Path, Path]
) -> None:
    job, _ = bought
    done = sordino(running, "job", "submit", job)
    assert done.returncode == ExitCode.USAGE
    assert "weights" in done.stderr


def test_a_model_that_the_server_swaps_is_evaluated_nowhere(
    running: Running, bought: tuple[Path, Path]
) -> None:
    job_file, weights = bought
    model = read_weights(weights)
    job = resolve(naming(read_toml(job_file, JobFile), model))
    before = left(running, job)
    # What an operator can do: a run with the submitter's own signature, and another model.
    key = running.federation.layout.scientist / "keys" / "scientist.key"
    scientist = load_signer(key, "scientist")
    signed = sign_job(job, scientist, purpose="validate", nonce=new_nonce())
    runs = Runs(running.server_config.runs_directory)
    run = runs.create(signed, brought=ReleasedModel(-model.weights, None))
    until(lambda: run.state() in TERMINAL_RUN_STATES)
    assert run.state() is RunState.FAILED
    reasons = [str(event["reason"]) for event in run.events() if "reason" in event]
    assert "cleveland: wrong_shape, " in reasons[-1]
    assert "va: wrong_shape, " in reasons[-1]
    assert left(running, job) == before


def left(running: Running, job: Job) -> dict[str, float]:
    """What is left of every site's budget, as a quote for the job says."""
    quotes = running.connection.price(job)["quotes"]
    assert isinstance(quotes, dict)
    assert all(quote["refusal"] is None for quote in quotes.values())
    return {site: float(quote["budget_left"]) for site, quote in quotes.items()}
