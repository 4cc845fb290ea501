"""The queue with a real SuperLink's database; the test plays the server app."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from federation import make_job, make_signer
from server_host import Host, close_superlink, open_superlink, server_host
from structlog.testing import capture_logs

from sordino_protocols.job import Purpose, new_nonce, sign_job
from sordino_protocols.rounds import RunEvent, RunState
from sordino_server.coordinator import MOST_ATTEMPTS
from sordino_server.queue import Queue
from sordino_server.runs import RunDirectory
from sordino_server.superlink import RunStatus, SuperLink


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with server_host(tmp_path / "federation") as running:
        yield running


@contextmanager
def running_queue(host: Host, superlink: SuperLink | None = None) -> Iterator[Queue]:
    queue = Queue(host.config, superlink or host.superlink, host.runs)
    queue.start()
    try:
        yield queue
    finally:
        queue.stop()


def submit(host: Host, purpose: Purpose = "train") -> RunDirectory:
    signer = make_signer("scientist")
    return host.runs.create(sign_job(make_job(), signer, purpose=purpose, nonce=new_nonce()))


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        threading.Event().wait(0.02)


def attempts(run: RunDirectory) -> list[int]:
    """Flower's runs for a run of ours, in order."""
    events = [event for event in run.events() if event["event"] == "attempt"]
    return [int(str(event["flower_run"])) for event in events]


def wait_for_attempt(run: RunDirectory, number: int) -> int:
    until(lambda: len(attempts(run)) >= number)
    return attempts(run)[number - 1]


def finish(host: Host, run: RunDirectory, flower_run: int) -> None:
    """Do what a server app does that brings its run to the end."""
    run.advance(RunEvent.STARTED, cohort=[])
    for event in (RunEvent.ADMITTED, RunEvent.TRAINED, RunEvent.EVALUATED, RunEvent.SETTLED):
        run.advance(event)
    host.superlink.stop_run(flower_run)


def test_starts_runs_one_after_the_other_oldest_first(host: Host) -> None:
    runs = [submit(host) for _ in range(2)]
    runs.sort(key=lambda run: run.manifest().created)
    with running_queue(host):
        first = wait_for_attempt(runs[0], 1)
        assert attempts(runs[1]) == []
        finish(host, runs[0], first)
        wait_for_attempt(runs[1], 1)
    assert len(attempts(runs[0])) == 1


def test_a_run_is_started_as_soon_as_it_is_there(host: Host) -> None:
    with running_queue(host) as queue:
        run = submit(host)
        queue.wake()
        wait_for_attempt(run, 1)


def test_a_price_does_not_wait_for_a_training(host: Host) -> None:
    training, price = submit(host), submit(host, "price")
    with running_queue(host):
        wait_for_attempt(training, 1)
        wait_for_attempt(price, 1)
        assert training.state() is RunState.QUEUED


def test_a_run_whose_app_died_is_started_again(host: Host) -> None:
    run = submit(host)
    with running_queue(host):
        host.superlink.stop_run(wait_for_attempt(run, 1))
        second = wait_for_attempt(run, 2)
        finish(host, run, second)
        follower = submit(host)
        wait_for_attempt(follower, 1)
    assert len(attempts(run)) == 2
    assert run.state() is RunState.DONE


def test_a_run_that_gets_no_further_is_given_up_and_the_next_one_started(host: Host) -> None:
    run, follower = submit(host), None
    with running_queue(host):
        # One more than its attempts: the app's chance to tell the sites that it is over.
        for number in range(1, MOST_ATTEMPTS + 2):
            host.superlink.stop_run(wait_for_attempt(run, number))
        until(lambda: run.state() is RunState.FAILED)
        follower = submit(host)
        wait_for_attempt(follower, 1)
    assert "again and again" in str(list(run.events())[-1]["reason"])
    assert len(attempts(run)) == MOST_ATTEMPTS + 1


def test_a_run_that_gets_further_is_not_given_up(host: Host) -> None:
    run = submit(host)
    with running_queue(host):
        for number in range(1, MOST_ATTEMPTS + 4):
            flower_run = wait_for_attempt(run, number)
            run.record("round", round=number)
            host.superlink.stop_run(flower_run)
        wait_for_attempt(run, MOST_ATTEMPTS + 4)
    assert run.state() is RunState.QUEUED


def test_a_server_that_is_stopped_often_gives_no_run_up(host: Host) -> None:
    run = submit(host)
    for number in range(1, MOST_ATTEMPTS + 4):
        with running_queue(host):
            wait_for_attempt(run, number)
    assert run.attempts_in_vain() == 0
    assert run.state() is RunState.QUEUED


def test_an_attempt_that_outlived_its_server_is_stopped_before_the_next(host: Host) -> None:
    run = submit(host)
    with running_queue(host):
        first = wait_for_attempt(run, 1)
    assert host.superlink.run_status(first) is RunStatus.PENDING
    with running_queue(host):
        second = wait_for_attempt(run, 2)
        assert host.superlink.run_status(first) is RunStatus.STOPPED
        assert host.superlink.run_status(second) is RunStatus.PENDING


def test_a_run_goes_on_although_flower_has_lost_its_database(host: Host) -> None:
    run = submit(host)
    with running_queue(host):
        wait_for_attempt(run, 1)
    for path in (host.config.server.state / "superlink").glob("superlink.db*"):
        path.unlink()
    superlink = open_superlink(host.config)
    try:
        with running_queue(host, superlink):
            wait_for_attempt(run, 2)
    finally:
        close_superlink(superlink)


def test_a_queue_that_stumbled_goes_on(host: Host) -> None:
    run = submit(host)
    log = run.path / "events.jsonl"
    aside = log.rename(log.with_suffix(".aside"))
    log.mkdir()  # reading it fails, whoever one is
    with capture_logs() as logged, running_queue(host):
        until(lambda: any(entry["event"] == "queue_stumbled" for entry in logged))
        log.rmdir()
        aside.rename(log)
        wait_for_attempt(run, 1)


def test_a_run_that_cannot_be_read_holds_up_no_other(host: Host) -> None:
    broken = submit(host)
    (broken.path / "manifest.json").write_bytes(b"{")
    run = submit(host)
    with running_queue(host):
        wait_for_attempt(run, 1)
    assert attempts(broken) == []
