"""`sordino job submit --watch` of a job that sites refuse: rule, line of the job, what to do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from federation import JOB, Federation, trust
from gateway_desk import Desk, open_desk
from one_site import POLICY
from typer.testing import CliRunner

from sordino.cli import app
from sordino_protocols.errors import ExitCode
from sordino_protocols.rounds import RunState
from sordino_server.questions import RunFailedError


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with open_desk(tmp_path / "desk") as running:
        monkeypatch.setenv("SORDINO_PROFILE", str(running.host.profile))
        monkeypatch.setenv("SORDINO_PROFILE__PROFILE__GATEWAY", running.profile.gateway)
        yield running


@contextmanager
def executed(desk: Desk, directory: Path, policy: str | None) -> Iterator[None]:
    """Real sites, and somebody who executes what is queued at the desk."""
    directory.mkdir()
    federation = Federation(directory, ("a", "b"), policy=policy)
    for site in federation.sites.values():
        site.submitters = trust(desk.submitter)
        site.open()
    stop = threading.Event()

    def execute() -> None:
        while not stop.wait(0.02):
            for run in desk.host.runs.all():
                if run.state() is RunState.QUEUED:
                    with suppress(RunFailedError):
                        federation.coordinator(run).execute()

    thread = threading.Thread(target=execute)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        federation.close()


@pytest.mark.parametrize(
    ("policy", "code", "says"),
    [
        (
            POLICY.replace("epsilon = 8.0", "epsilon = 0.5"),
            ExitCode.BUDGET_EXHAUSTED,
            (
                "error[E0412]: a refused this job: its privacy budget does not suffice",
                "error[E0412]: b refused",
                "  rule   policy.toml:",
                "budgets.heart",
                "  job    job.toml:",
                "  costs  epsilon ",
                "  help   lower privacy.epsilon",
            ),
        ),
        (
            POLICY.replace("max_rounds = 50", "max_rounds = 1"),
            ExitCode.REFUSED,
            ("error[E0308]: a refused this job", "datasets.heart.max_rounds", "training.rounds"),
        ),
    ],
)
def test_a_refusal_is_told_in_full(
    desk: Desk,
    tmp_path: Path,
    policy: str,
    code: ExitCode,
    says: tuple[str, ...],
) -> None:
    assert policy != POLICY
    job = tmp_path / "job.toml"
    job.write_text(JOB)
    with executed(desk, tmp_path / "sites", policy):
        done = CliRunner().invoke(app, ["job", "submit", str(job), "--watch"])
    assert done.exit_code == code, done.output
    for each in says:
        assert each in done.stderr
    (run,) = [each for each in desk.host.runs.all() if each.manifest().purpose == "train"]
    assert run.run_id in done.stdout
    assert run.state() is RunState.FAILED
