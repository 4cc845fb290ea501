"""The front desk: gRPC over TLS for data scientists and operators, client certificates required.

It queues jobs and shows runs. It decides nothing about privacy: the sites judge a signed job
themselves, and a job whose signature this server does not know would only be refused later.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from sordino_protocols.errors import (
    AuthenticationError,
    NotFoundError,
    PeerError,
    SordinoError,
)
from sordino_protocols.gateway_pb2 import (
    Chunk,
    FetchRequest,
    ShowReply,
    ShowRequest,
    SitesReply,
    SitesRequest,
    SubmitReply,
    SubmitRequest,
    WatchEvent,
    WatchRequest,
)
from sordino_protocols.gateway_pb2_grpc import GatewayServicer, add_GatewayServicer_to_server
from sordino_protocols.job import SignedJob, verify_job
from sordino_protocols.rounds import TERMINAL_RUN_STATES
from sordino_protocols.signing import TrustStore, load_trust
from sordino_server.config import ServerConfig
from sordino_server.queue import Queue
from sordino_server.runs import QUOTES, STATEMENT, Purpose, Runs
from sordino_server.superlink import SuperLink

_WORKERS = 16
_WATCH_SECONDS = 0.1
_CHUNK_BYTES = 1024 * 1024
_PURPOSES: dict[str, Purpose] = {"train": "train", "price": "price"}


def serve_gateway(
    config: ServerConfig, superlink: SuperLink, queue: Queue, runs: Runs
) -> tuple[grpc.Server, int]:
    """Start the gateway; returns it and the port it listens on.

    Raises:
        InputError: a certificate or key cannot be read.
    """
    server = grpc.server(ThreadPoolExecutor(_WORKERS))
    service = Gateway(superlink, queue, runs, load_trust(config.server.submitters))
    add_GatewayServicer_to_server(service, server)  # type: ignore[no-untyped-call]  # generated
    credentials = grpc.ssl_server_credentials(
        [(config.server.private_key.read_bytes(), config.server.certificate.read_bytes())],
        root_certificates=config.gateway.client_ca.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port(config.gateway.address, credentials)
    server.start()
    return server, port


class Gateway(GatewayServicer):
    """`sordino.gateway.v1.Gateway`."""

    def __init__(
        self, superlink: SuperLink, queue: Queue, runs: Runs, submitters: TrustStore
    ) -> None:
        self._superlink = superlink
        self._queue = queue
        self._runs = runs
        self._submitters = submitters

    def Submit(self, request: SubmitRequest, context: grpc.ServicerContext) -> SubmitReply:  # noqa: N802
        """Queue a job."""
        signed = SignedJob(request.body, request.submitter, request.signature)
        try:
            verify_job(signed, self._submitters)
        except (PeerError, AuthenticationError) as error:
            _abort(context, error)
        purpose = _PURPOSES.get(request.purpose)
        if purpose is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "purpose must be train or price")
        run = self._runs.create(signed, purpose)
        self._queue.wake()
        return SubmitReply(run_id=run.run_id)

    def Sites(self, _: SitesRequest, __: grpc.ServicerContext) -> SitesReply:  # noqa: N802
        """List the enrolled sites."""
        nodes = self._superlink.nodes()
        return SitesReply(json=json.dumps({node.name: node.is_online for node in nodes}))

    def Watch(self, request: WatchRequest, context: grpc.ServicerContext) -> Iterator[WatchEvent]:  # noqa: N802
        """Follow a run's log until the run is over or the caller leaves."""
        try:
            run = self._runs.get(request.run_id)
        except NotFoundError as error:
            _abort(context, error)
        seen = 0
        while context.is_active():
            events = list(run.events())
            for event in events[seen:]:
                yield WatchEvent(json=json.dumps(event))
            if len(events) == seen and run.state() in TERMINAL_RUN_STATES:
                return
            seen = len(events)
            time.sleep(_WATCH_SECONDS)

    def Show(self, request: ShowRequest, context: grpc.ServicerContext) -> ShowReply:  # noqa: N802
        """Tell everything known of a run."""
        try:
            run = self._runs.get(request.run_id)
        except NotFoundError as error:
            _abort(context, error)
        facts: dict[str, object] = {
            "run_id": run.run_id,
            "state": run.state().value,
            "submitter": run.manifest().job.submitter,
            "job": json.loads(run.manifest().job.body),
        }
        for name in (STATEMENT, QUOTES):
            if (run.path / name).exists():
                facts[name.removesuffix(".json")] = json.loads(run.artifact(name))
        reasons = [event["reason"] for event in run.events() if "reason" in event]
        return ShowReply(json=json.dumps(facts | ({"reason": reasons[-1]} if reasons else {})))

    def Fetch(self, request: FetchRequest, context: grpc.ServicerContext) -> Iterator[Chunk]:  # noqa: N802
        """Send a file that a run left."""
        try:
            content = self._runs.get(request.run_id).artifact(request.name)
        except NotFoundError as error:
            _abort(context, error)
        for start in range(0, len(content), _CHUNK_BYTES):
            yield Chunk(content=content[start : start + _CHUNK_BYTES])


def _abort(context: grpc.ServicerContext, error: SordinoError) -> None:
    match error:
        case NotFoundError():
            code = grpc.StatusCode.NOT_FOUND
        case AuthenticationError():
            code = grpc.StatusCode.UNAUTHENTICATED
        case _:
            code = grpc.StatusCode.INVALID_ARGUMENT
    context.abort(code, str(error))
