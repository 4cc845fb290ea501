"""The gateway as callers meet it: gRPC with TLS on both sides, on loopback."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from federation import SUBMITTER, make_job, make_signer
from gateway_desk import Desk, open_desk, replace_address

from sordino.connection import Connection, Json
from sordino_deploy import pki
from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    IntegrityError,
    NotFoundError,
    UnreachableError,
)
from sordino_protocols.gateway_pb2 import FetchRequest, ShowRequest, SubmitRequest, WatchRequest
from sordino_protocols.gateway_pb2_grpc import GatewayStub
from sordino_protocols.job import Purpose, SignedJob, sign_job, verify_job
from sordino_protocols.rounds import RunEvent
from sordino_protocols.signing import Signer, TrustStore, save_keypair
from sordino_server.gateway import serve_gateway
from sordino_server.queue import Queue
from sordino_server.registry import enrol, enrolled_sites
from sordino_server.runs import MODEL, RunDirectory

NONCE = "0" * 32
TRAVERSALS = ["..", "../..", "../../server", "/etc", "a/../..", ".", "", "no-such-run", "x" * 300]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk") / "federation") as running:
        yield running


@pytest.fixture
def connection(desk: Desk) -> Iterator[Connection]:
    with Connection(desk.profile) as open_connection:
        yield open_connection


@pytest.fixture
def stub(desk: Desk) -> Iterator[GatewayStub]:
    """What somebody calls with who does not use our client."""
    credentials = grpc.ssl_channel_credentials(
        desk.profile.ca_certificate.read_bytes(),
        desk.profile.private_key.read_bytes(),
        desk.profile.certificate.read_bytes(),
    )
    with desk.channel(credentials) as channel:
        yield GatewayStub(channel)  # type: ignore[no-untyped-call]


def sign(signer: Signer, purpose: Purpose = "train") -> SignedJob:
    return sign_job(make_job(), signer, purpose=purpose, nonce=NONCE)


def submission(signed: SignedJob, purpose: str | None = None) -> SubmitRequest:
    return SubmitRequest(
        body=signed.body,
        submitter=signed.submitter,
        signature=signed.signature,
        purpose=purpose or signed.purpose,
        nonce=signed.nonce,
    )


def code_of(call: Callable[[], object]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    code: grpc.StatusCode = raised.value.code()
    return code


def end(run: RunDirectory) -> None:
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")


# ------------------------------------------------------------------ who is let in


def test_without_a_client_certificate_nobody_gets_in(desk: Desk) -> None:
    credentials = grpc.ssl_channel_credentials(desk.profile.ca_certificate.read_bytes())
    before = len(desk.host.runs.all())
    with desk.channel(credentials) as channel:
        anonymous = GatewayStub(channel)  # type: ignore[no-untyped-call]
        request = submission(sign(desk.submitter))
        assert code_of(lambda: anonymous.Submit(request, timeout=20)) is grpc.StatusCode.UNAVAILABLE
    assert len(desk.host.runs.all()) == before


def test_a_certificate_of_another_authority_does_not_help(desk: Desk, tmp_path: Path) -> None:
    stranger = pki.create_authority(tmp_path / "ca", name="another")
    pki.issue_client(stranger, tmp_path / "tls", name=SUBMITTER)
    profile = desk.profile.model_copy(
        update={
            "certificate": tmp_path / "tls" / f"{SUBMITTER}.crt",
            "private_key": tmp_path / "tls" / f"{SUBMITTER}.key",
        }
    )
    with Connection(profile) as connection, pytest.raises(UnreachableError):
        connection.sites()


def test_a_client_believes_no_server_of_another_authority(desk: Desk, tmp_path: Path) -> None:
    pki.create_authority(tmp_path / "ca", name="another")
    profile = desk.profile.model_copy(update={"ca_certificate": tmp_path / "ca" / "ca.crt"})
    with Connection(profile) as connection, pytest.raises(UnreachableError):
        connection.sites()


def test_a_submitter_whom_nobody_trusts_is_refused(desk: Desk, stub: GatewayStub) -> None:
    before = len(desk.host.runs.all())
    for signer in (make_signer("rival"), make_signer(SUBMITTER)):
        request = submission(sign(signer))
        assert code_of(lambda r=request: stub.Submit(r)) is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[misc]
    assert len(desk.host.runs.all()) == before


def test_the_client_says_that_its_key_is_not_known(desk: Desk, tmp_path: Path) -> None:
    save_keypair(tmp_path, SUBMITTER)
    profile = desk.profile.model_copy(update={"signing_key": tmp_path / f"{SUBMITTER}.key"})
    with Connection(profile) as connection, pytest.raises(AuthenticationError):
        connection.submit(make_job())


def test_a_run_is_there_for_its_submitter_only(
    desk: Desk, connection: Connection, tmp_path: Path
) -> None:
    run_id = connection.submit(make_job())
    authority = pki.load_authority(desk.profile.ca_certificate.parent)
    pki.issue_client(authority, tmp_path, name="colleague")
    profile = desk.profile.model_copy(
        update={
            "certificate": tmp_path / "colleague.crt",
            "private_key": tmp_path / "colleague.key",
        }
    )
    with Connection(profile) as colleague:
        for look in (colleague.show, lambda each: list(colleague.watch(each))):
            with pytest.raises(NotFoundError):
                look(run_id)
        with pytest.raises(NotFoundError):
            colleague.fetch(run_id, "statement.json")
        # The scientist's signature on the colleague's connection.
        with pytest.raises(AuthenticationError, match="differ in name"):
            colleague.submit(make_job())
    assert connection.show(run_id)["run_id"] == run_id
    end(desk.host.runs.get(run_id))


# ------------------------------------------------------------------ what is queued


def test_a_signed_job_is_queued_as_it_was_signed(desk: Desk, connection: Connection) -> None:
    run = desk.host.runs.get(connection.submit(make_job()))
    job = run.manifest().job
    assert (job.body, job.submitter) == (make_job().canonical(), SUBMITTER)
    assert verify_job(job, TrustStore({SUBMITTER: desk.submitter.key.public_key()})) == make_job()
    assert run.manifest().purpose == "train"
    shown = connection.show(run.run_id)
    assert (shown["state"], shown["submitter"]) == ("queued", SUBMITTER)
    assert shown["job"] == json.loads(make_job().canonical())


def test_a_job_that_was_changed_after_signing_is_refused(desk: Desk, stub: GatewayStub) -> None:
    signed = sign(desk.submitter)
    changed = replace(signed, body=signed.body.replace(b'"rounds":3', b'"rounds":9'))
    assert changed != signed
    assert code_of(lambda: stub.Submit(submission(changed))) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"[" * 10_000])
def test_signed_bytes_that_are_no_job_are_refused(
    desk: Desk, stub: GatewayStub, body: bytes
) -> None:
    signature = desk.submitter.sign(f"sordino/job/1\ntrain\n{NONCE}\n".encode() + body)
    request = submission(SignedJob(body, SUBMITTER, signature, "train", NONCE))
    assert code_of(lambda: stub.Submit(request)) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("purpose", ["", "Train", "../train", "audit"])
def test_a_purpose_that_there_is_not_is_refused(
    desk: Desk, stub: GatewayStub, purpose: str
) -> None:
    before = len(desk.host.runs.all())
    request = submission(sign(desk.submitter))
    request.purpose = purpose
    assert code_of(lambda: stub.Submit(request)) is grpc.StatusCode.INVALID_ARGUMENT
    assert len(desk.host.runs.all()) == before


def test_a_job_signed_to_be_priced_is_not_trained(desk: Desk, stub: GatewayStub) -> None:
    request = submission(sign(desk.submitter, "price"), "train")
    assert code_of(lambda: stub.Submit(request)) is grpc.StatusCode.UNAUTHENTICATED


def test_a_nonce_that_is_none_is_refused(desk: Desk, stub: GatewayStub) -> None:
    signed = sign_job(make_job(), desk.submitter, purpose="train", nonce="short")
    assert code_of(lambda: stub.Submit(submission(signed))) is grpc.StatusCode.INVALID_ARGUMENT


# ------------------------------------------------------------------ what is told


def test_lists_the_enrolled_sites(desk: Desk, connection: Connection) -> None:
    server = desk.host.config.server
    enrol(desk.host.superlink, enrolled_sites(server.sites, server.nodes))
    assert connection.sites() == {"a": False, "b": False}


@pytest.mark.parametrize("run_id", TRAVERSALS)
def test_a_run_that_there_is_not_is_not_found(desk: Desk, stub: GatewayStub, run_id: str) -> None:
    # What a traversal would find, one level up.
    (desk.host.config.server.state / "manifest.json").write_bytes(b"{}")
    calls: list[Callable[[], object]] = [
        lambda: stub.Show(ShowRequest(run_id=run_id)),
        lambda: list(stub.Watch(WatchRequest(run_id=run_id))),
        lambda: list(stub.Fetch(FetchRequest(run_id=run_id, name=MODEL))),
    ]
    assert {code_of(call) for call in calls} == {grpc.StatusCode.NOT_FOUND}


@pytest.mark.parametrize("name", [*TRAVERSALS, "manifest.json", "events.jsonl", "../manifest.json"])
def test_nothing_but_results_can_be_fetched(
    connection: Connection, stub: GatewayStub, name: str
) -> None:
    run_id = connection.submit(make_job())
    request = FetchRequest(run_id=run_id, name=name)
    assert code_of(lambda: list(stub.Fetch(request))) is grpc.StatusCode.NOT_FOUND


def test_a_large_result_arrives_whole(desk: Desk, connection: Connection) -> None:
    run = desk.host.runs.get(connection.submit(make_job()))
    with pytest.raises(NotFoundError):
        connection.fetch(run.run_id, MODEL)
    content = bytes(range(256)) * 4096 * 3 + b"end"
    (run.path / MODEL).write_bytes(content)
    assert connection.fetch(run.run_id, MODEL) == content


def test_a_run_that_cannot_be_read_is_an_error_and_not_a_crash(
    desk: Desk, connection: Connection, stub: GatewayStub
) -> None:
    run = desk.host.runs.get(connection.submit(make_job()))
    (run.path / "manifest.json").write_bytes(b"{")
    code = code_of(lambda: stub.Show(ShowRequest(run_id=run.run_id)))
    assert code is grpc.StatusCode.DATA_LOSS
    with pytest.raises(IntegrityError, match="manifest"):
        connection.show(run.run_id)


def test_says_why_a_run_failed(desk: Desk, connection: Connection) -> None:
    run = desk.host.runs.get(connection.submit(make_job()))
    end(run)
    shown = connection.show(run.run_id)
    assert (shown["state"], shown["reason"]) == ("failed", "the test ends here")


# ------------------------------------------------------------------ who watches


def test_a_watcher_sees_everything_from_the_beginning_and_is_let_go_at_the_end(
    desk: Desk, connection: Connection
) -> None:
    run = desk.host.runs.get(connection.submit(make_job()))
    events = connection.watch(run.run_id)
    assert next(events)["state"] == "queued"
    run.advance(RunEvent.STARTED, cohort=["a"])
    assert next(events)["cohort"] == ["a"]
    for number in (1, 2, 3):
        run.record("round", round=number)
    end(run)
    seen = list(events)
    assert [each.get("round") for each in seen] == [1, 2, 3, None]
    assert seen[-1]["state"] == "failed"
    # And all of it again, once it is over.
    assert len(list(connection.watch(run.run_id))) == 6


def test_watchers_leave_room_for_other_callers(desk: Desk, connection: Connection) -> None:
    run_id = connection.submit(make_job())
    watching: list[Iterator[Json]] = []

    def watch_without_end() -> None:
        while len(watching) < 100:
            events = connection.watch(run_id)
            next(events)
            watching.append(events)

    with pytest.raises(UnreachableError, match="RESOURCE_EXHAUSTED"):
        watch_without_end()
    assert len(watching) > 10
    assert connection.show(run_id)["state"] == "queued"
    # Whoever leaves makes room.
    end(desk.host.runs.get(run_id))
    for events in watching:
        assert [each["state"] for each in events] == ["failed"]
    assert len(list(connection.watch(run_id))) == 2


def test_a_gateway_that_stops_lets_its_watchers_go(tmp_path: Path) -> None:
    with open_desk(tmp_path / "federation") as desk, Connection(desk.profile) as connection:
        events = connection.watch(connection.submit(make_job()))
        next(events)
        stopped: threading.Event = desk.server.stop(grace=0.1)
        with pytest.raises(UnreachableError):
            next(events)
        assert stopped.wait(30)


# ------------------------------------------------------------------ a host that is set up wrong


@pytest.mark.parametrize("missing", ["certificate", "private_key", "client_ca"])
def test_a_missing_file_is_named(desk: Desk, missing: str) -> None:
    config, nowhere = desk.host.config, Path("/nowhere/there.pem")
    config = replace(
        config,
        server=config.server.model_copy(update={missing: nowhere}),
        gateway=config.gateway.model_copy(update={missing: nowhere}),
    )
    queue = Queue(config, desk.host.superlink, desk.host.runs)
    with pytest.raises((InputError, NotFoundError), match=str(nowhere)):
        serve_gateway(config, desk.host.superlink, queue, desk.host.runs)


def test_an_address_that_is_taken_is_named(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for config in (
            replace_address(desk.host.config, address),
            replace_address(desk.host.config, f"127.0.0.1:{desk.port}"),
        ):
            queue = Queue(config, desk.host.superlink, desk.host.runs)
            with pytest.raises(InputError, match=config.gateway.address):
                serve_gateway(config, desk.host.superlink, queue, desk.host.runs)


def test_a_key_that_is_not_the_certificates_is_an_error(desk: Desk, tmp_path: Path) -> None:
    other = pki.create_authority(tmp_path / "ca", name="another")
    pki.issue_server(other, tmp_path / "tls")
    config = replace_address(desk.host.config, "127.0.0.1:0")
    key = {"private_key": tmp_path / "tls" / "server.key"}
    config = replace(config, server=config.server.model_copy(update=key))
    queue = Queue(config, desk.host.superlink, desk.host.runs)
    with pytest.raises(InputError, match="certificate and its key"):
        serve_gateway(config, desk.host.superlink, queue, desk.host.runs)
