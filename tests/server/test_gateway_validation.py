"""Validations at the gateway: a signed job and the model that it names, in one call."""

from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from federation import make_job
from gateway_desk import Desk, open_desk
from small_job import validating

from sordino.connection import Connection
from sordino_protocols.errors import InputError
from sordino_protocols.gateway_pb2 import SubmitRequest
from sordino_protocols.gateway_pb2_grpc import GatewayStub
from sordino_protocols.job import Job, Purpose, new_nonce, sign_job, weights_digest
from sordino_protocols.model_file import ReleasedModel, write_model
from sordino_protocols.rounds import RunEvent
from sordino_protocols.scaling import Scaling
from sordino_server.brought_model import MAX_MODEL_BYTES, join_pieces

WEIGHTS = np.array([0.5, -1.25, 3.0, 0.125])
SCALING = Scaling(np.array([0.25, 0.0, 0.5]), np.array([2.0, 1.0, 4.0]))
MODEL = ReleasedModel(WEIGHTS, SCALING)
JOB = make_job(validating(weights_digest(WEIGHTS.astype(np.float32), SCALING.vector())))


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


def submission(desk: Desk, job: Job, purpose: Purpose) -> SubmitRequest:
    signed = sign_job(job, desk.submitter, purpose=purpose, nonce=new_nonce())
    return SubmitRequest(
        body=signed.body,
        submitter=signed.submitter,
        signature=signed.signature,
        purpose=signed.purpose,
        nonce=signed.nonce,
    )


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return str(raised.value.details())


def test_a_validation_is_queued_with_its_model(desk: Desk, connection: Connection) -> None:
    run = desk.host.runs.get(connection.validate(JOB, MODEL))
    assert run.run_id.startswith("validate-")
    assert run.manifest().purpose == "validate"
    assert run.model().tolist() == WEIGHTS.tolist()
    scaling = run.scaling()
    assert scaling is not None
    assert scaling.vector().tolist() == SCALING.vector().tolist()
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")


@pytest.mark.parametrize(
    "model",
    [
        ReleasedModel(WEIGHTS, None),
        ReleasedModel(WEIGHTS[::-1].copy(), SCALING),
        ReleasedModel(WEIGHTS + 1e-6, SCALING),
    ],
)
def test_another_model_than_the_job_names_is_refused(
    desk: Desk, connection: Connection, model: ReleasedModel
) -> None:
    before = len(desk.host.runs.all())
    with pytest.raises(InputError, match="not the one that validation"):
        connection.validate(JOB, model)
    assert len(desk.host.runs.all()) == before


def test_a_validation_may_be_priced_without_its_model(desk: Desk, stub: GatewayStub) -> None:
    run_id = stub.Submit(submission(desk, JOB, "price"), timeout=20).run_id
    run = desk.host.runs.get(run_id)
    assert run.manifest().purpose == "price"
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")


def test_job_purpose_and_model_must_go_together(desk: Desk, stub: GatewayStub) -> None:
    content = SubmitRequest(content=write_model(MODEL, job_digest="", run_id=""))
    training = make_job()
    before = len(desk.host.runs.all())
    alone = submission(desk, JOB, "validate")
    assert "with the model" in refusal(lambda: stub.Submit(alone, timeout=20))
    assert "no model" in refusal(lambda: stub.SubmitModel(iter([alone]), timeout=20))
    train = [submission(desk, training, "train"), content]
    assert "has no model" in refusal(lambda: stub.SubmitModel(iter(train), timeout=20))
    crossed = submission(desk, training, "validate")
    assert "signed to validate" in refusal(lambda: stub.Submit(crossed, timeout=20))
    crossed = submission(desk, JOB, "train")
    assert "signed to train" in refusal(lambda: stub.Submit(crossed, timeout=20))
    assert len(desk.host.runs.all()) == before


def test_nobodys_bytes_are_collected_before_it_is_known_who_it_is(
    desk: Desk, stub: GatewayStub
) -> None:
    taken = 0

    def parts() -> Iterator[SubmitRequest]:
        nonlocal taken
        request = submission(desk, JOB, "validate")
        request.signature = bytes(64)
        yield request
        while True:
            taken += 1
            yield SubmitRequest(content=bytes(1024 * 1024))

    with pytest.raises(grpc.RpcError) as raised:
        stub.SubmitModel(parts(), timeout=60)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert taken * 1024 * 1024 < MAX_MODEL_BYTES


def test_no_more_is_read_of_a_file_that_is_too_large() -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1024 * 1024)

    with pytest.raises(InputError, match="more than"):
        join_pieces(pieces())
    assert taken == MAX_MODEL_BYTES // (1024 * 1024) + 1


def test_the_numbers_of_a_model_survive_the_way(desk: Desk, connection: Connection) -> None:
    rng = np.random.default_rng(3)
    weights = rng.normal(size=300_000).astype(np.float32)
    job = make_job(validating(weights_digest(weights, np.zeros(0, dtype=np.float32))))
    run = desk.host.runs.get(
        connection.validate(job, ReleasedModel(weights.astype(np.float64), None))
    )
    assert np.array_equal(run.model().astype(np.float32), weights)
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")
