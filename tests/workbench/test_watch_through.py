"""Watching a run through a server that goes away and comes back: every event once."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from federation import make_job, make_signer
from gateway_desk import Desk, open_desk, replace_address

from sordino.connection import Connection
from sordino_protocols.errors import UnreachableError
from sordino_protocols.job import new_nonce, sign_job
from sordino_protocols.rounds import RunEvent
from sordino_server.gateway import serve_gateway
from sordino_server.queue import Queue
from sordino_server.runs import RunDirectory


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path / "federation") as running:
        yield running


def submitted(desk: Desk) -> RunDirectory:
    signed = sign_job(make_job(), make_signer("scientist"), purpose="train", nonce=new_nonce())
    return desk.host.runs.create(signed)


def come_back(desk: Desk) -> grpc.Server:
    """Serve at the same address again."""
    config = replace_address(desk.host.config, f"127.0.0.1:{desk.port}")
    queue = Queue(config, desk.host.superlink, desk.host.runs)
    server, _ = serve_gateway(config, desk.host.superlink, queue, desk.host.runs)
    return server


def test_every_event_comes_once_though_the_server_was_away(desk: Desk) -> None:
    run = submitted(desk)
    with Connection(desk.profile) as connection:
        events = connection.watch_through(run.run_id, patience_seconds=120)
        assert next(events)["state"] == "queued"
        run.record("attempt", number=1, flower_run="1")
        assert next(events)["event"] == "attempt"
        desk.server.stop(grace=None).wait()
        run.advance(RunEvent.STARTED, cohort=[])
        again = come_back(desk)
        try:
            assert next(events)["state"] == "admitting"
            run.advance(RunEvent.GAVE_UP, reason="enough")
            assert [event.get("state") for event in events] == ["failed"]
        finally:
            again.stop(grace=None).wait()


def test_a_server_that_stays_away_is_unreachable(desk: Desk) -> None:
    run = submitted(desk)
    with Connection(desk.profile) as connection:
        events = connection.watch_through(run.run_id, patience_seconds=0.1)
        assert next(events)["state"] == "queued"
        desk.server.stop(grace=None).wait()
        with pytest.raises(UnreachableError):
            list(events)
