"""A site that is revoked in mid-run, and a submitter who is revoked with a job in the queue."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from federation import SUBMITTER, Federation, make_job
from server_host import server_host
from unruly import asked, rounds_of

from sordino_deploy.approving import authority_directory, revoke
from sordino_protocols.files import write_public
from sordino_protocols.job import new_nonce, sign_job
from sordino_protocols.messages import RoundPlan
from sordino_protocols.rounds import RunState
from sordino_protocols.signing import REVOKED, load_signer, public_line
from sordino_server.coordinator import Coordinator
from sordino_server.exchange import Exchange
from sordino_server.local_grid import Answerer
from sordino_server.queue import Queue
from sordino_server.runs import STATEMENT, RunDirectory
from sordino_server.statement import Statement
from sordino_server.strategy import Strategy
from sordino_server.trust import LOOK_SECONDS, live_trust


class Enrolled:
    """The directory of a federation's keys, and the time at which it is looked at."""

    def __init__(self, federation: Federation, directory: Path) -> None:
        self.federation = federation
        self.directory = directory
        self.now = 0.0
        for name, site in federation.sites.items():
            write_public(directory / f"{name}.pub", public_line(site.signer).encode())
        (directory / REVOKED).mkdir()

    def revoke(self, name: str) -> None:
        (self.directory / f"{name}.pub").rename(self.directory / REVOKED / f"{name}.pub")
        self.now += LOOK_SECONDS

    def coordinator(self, run: RunDirectory, changed: dict[str, Answerer]) -> Coordinator:
        """A server app that starts now, as `app` starts it."""
        trust = live_trust(self.directory, clock=lambda: self.now)
        exchange = Exchange(self.federation.grid(changed), poll_seconds=0.001)
        return Coordinator(
            run, Strategy(exchange, self.federation.server, trust), self.federation.heads
        )


@pytest.fixture
def enrolled(federation: Federation, tmp_path: Path) -> Enrolled:
    return Enrolled(federation, tmp_path / "enrolled")


def revoked_in(enrolled: Enrolled, name: str, number: int) -> Answerer:
    """A site that is revoked while its answer in this round is on its way."""

    def answer(envelope: bytes) -> bytes:
        message = asked(enrolled.federation, envelope)
        said = enrolled.federation.sites[name].answer(envelope)
        if isinstance(message, RoundPlan) and message.round == number:
            enrolled.revoke(name)
        return said

    return answer


def test_what_a_revoked_site_answers_counts_no_more(enrolled: Enrolled) -> None:
    run = enrolled.federation.submit()
    enrolled.coordinator(run, {"b": revoked_in(enrolled, "b", 2)}).execute()

    assert run.state() is RunState.DONE
    first, second, third = rounds_of(run)
    assert first["participants"] == ["a", "b", "c"]
    assert second["participants"] == third["participants"] == ["a", "c"]
    assert second["rejections"] == {"b": "bad_signature"}
    assert third["rejections"] == {"b": "revoked"}
    statement = run.read(STATEMENT, Statement)
    assert set(statement.receipts) == {"a", "c"}


def test_a_run_that_begins_again_does_not_ask_a_revoked_site(enrolled: Enrolled) -> None:
    run = enrolled.federation.submit()

    def dies(envelope: bytes) -> bytes:
        if isinstance(message := asked(enrolled.federation, envelope), RoundPlan):
            assert message.round != 2, "the server app dies here"
        return enrolled.federation.sites["a"].answer(envelope)

    with pytest.raises(AssertionError, match="dies here"):
        enrolled.coordinator(run, {"a": dies}).execute()
    enrolled.revoke("b")
    told: list[bytes] = []

    def listens(envelope: bytes) -> bytes:
        told.append(envelope)
        return enrolled.federation.sites["b"].answer(envelope)

    enrolled.coordinator(run, {"b": listens}).execute()
    assert run.state() is RunState.DONE
    assert told == []


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        threading.Event().wait(0.05)


@pytest.fixture
def working_queue(tmp_path: Path) -> Iterator[tuple[Queue, RunDirectory]]:
    """A queue that starts after the submitter of its only job was revoked."""
    with server_host(tmp_path / "host") as host:
        keys = host.profile.parent / "keys"
        signer = load_signer(keys / f"{SUBMITTER}.key", SUBMITTER)
        signed = sign_job(make_job(), signer, purpose="train", nonce=new_nonce())
        run = host.runs.create(signed)
        revoke(SUBMITTER, host.config, authority=authority_directory(host.config))
        queue = Queue(host.config, host.superlink, host.runs)
        queue.start()
        try:
            yield queue, run
        finally:
            queue.stop()


def test_a_queued_job_of_a_revoked_submitter_is_refused_with_a_reason(
    working_queue: tuple[Queue, RunDirectory],
) -> None:
    _, run = working_queue
    until(lambda: run.state() is RunState.FAILED)
    reasons = [event["reason"] for event in run.events() if "reason" in event]
    assert reasons == [f"submitter {SUBMITTER!r} is trusted no more"]
    assert not [event for event in run.events() if event["event"] == "attempt"]
