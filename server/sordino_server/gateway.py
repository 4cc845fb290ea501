"""The front desk: gRPC over TLS for data scientists and operators, client certificates required.

It queues jobs and shows runs. It decides nothing about privacy: the sites judge a signed job
themselves, and a job whose signature this server does not know would only be refused later.
"""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
import structlog

from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    IntegrityError,
    NotFoundError,
    PeerError,
    SordinoError,
    UnreachableError,
    ViolationError,
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
from sordino_protocols.job import PURPOSES, Job, SignedJob, read_job, verify_job
from sordino_protocols.model_file import ReleasedModel
from sordino_protocols.rounds import TERMINAL_RUN_STATES
from sordino_protocols.signing import TrustStore
from sordino_server.auth_failures import AuthFailure, AuthFailures
from sordino_server.brought_model import join_pieces, read_brought
from sordino_server.callers import Callers
from sordino_server.config import ServerConfig
from sordino_server.decisions import Decisions, open_decisions
from sordino_server.gateway_tls import gateway_credentials
from sordino_server.quarantine import artifact, check_no_quarantine, quarantine_of
from sordino_server.queue import Queue
from sordino_server.runs import (
    COUNTS,
    DESCRIPTIONS,
    QUOTES,
    STATEMENT,
    RunDirectory,
    Runs,
    last_state,
)
from sordino_server.superlink import SuperLink
from sordino_server.synthetic_source import find_source, find_syntheses
from sordino_server.table_facts import Descriptions
from sordino_server.trust import live_trust

# What is told of a run beside its log, by file.
_SHOWN = {
    STATEMENT: "statement",
    QUOTES: "quotes",
    COUNTS: "counts",
}
_WORKERS = 32
_MOST_WATCHERS = 24  # each keeps a worker: the rest must stay free for other calls
_WATCH_SECONDS = 0.1
_CHUNK_BYTES = 1024 * 1024


def serve_gateway(
    config: ServerConfig,
    superlink: SuperLink,
    queue: Queue,
    runs: Runs,
    *,
    auth_failures: AuthFailures | None = None,
) -> tuple[grpc.Server, int]:
    """Start the gateway; returns it and the port it listens on.

    Raises:
        InputError: a certificate or key cannot be read, or the address cannot be used.
        NotFoundError: the directory of submitters or the authority's certificate is missing.
    """
    # Without SO_REUSEPORT: a second server at this address is an error, not half of the callers'.
    options = (("grpc.so_reuseport", 0),)
    server = grpc.server(
        ThreadPoolExecutor(_WORKERS, thread_name_prefix="gateway"), options=options
    )
    callers = Callers(config.gateway.client_ca, auth_failures or AuthFailures())
    submitters = live_trust(config.server.submitters)
    decisions = open_decisions(config.audit_log_path)
    service = Gateway(superlink, queue, runs, submitters, callers=callers, decisions=decisions)
    add_GatewayServicer_to_server(service, server)  # type: ignore[no-untyped-call]  # generated
    credentials = gateway_credentials(config)
    try:
        port = server.add_secure_port(config.gateway.address, credentials)
    except RuntimeError:
        raise InputError(
            f"the gateway cannot listen at {config.gateway.address}: the address is taken, or "
            f"{config.gateway.client_ca} is no certificate"
        ) from None
    server.start()
    return server, port


class Gateway(GatewayServicer):
    """`sordino.gateway.v1.Gateway`."""

    def __init__(
        self,
        superlink: SuperLink,
        queue: Queue,
        runs: Runs,
        submitters: TrustStore,
        *,
        callers: Callers,
        decisions: Decisions,
    ) -> None:
        self._superlink = superlink
        self._queue = queue
        self._runs = runs
        self._submitters = submitters
        self._callers = callers
        self._decisions = decisions
        self._log = structlog.get_logger(component="server")
        self._watchers = threading.BoundedSemaphore(_MOST_WATCHERS)

    def Submit(self, request: SubmitRequest, context: grpc.ServicerContext) -> SubmitReply:  # noqa: N802
        """Queue a job."""
        signed, job = self._verified(request, context)
        if signed.purpose == "validate":
            self._refuse(context, InputError("a validation comes with the model that it is of"))
        if job.file.synthetic is not None:
            try:
                find_source(self._runs, job.file, submitter=signed.submitter)
            except SordinoError as error:
                self._refuse(context, error)
        return self._queue_job(signed, job, None, context)

    def SubmitModel(  # noqa: N802
        self, parts: Iterator[SubmitRequest], context: grpc.ServicerContext
    ) -> SubmitReply:
        """Queue a validation and the model that it is of."""
        # Who it is comes first: nobody's bytes are collected before that is known.
        signed, job = self._verified(next(parts, SubmitRequest()), context)
        if signed.purpose != "validate":
            self._refuse(
                context, InputError("a job that is not signed to be a validation has no model")
            )
        try:
            model = read_brought(join_pieces(part.content for part in parts), job)
            check_no_quarantine(model, self._runs)
        except (InputError, IntegrityError, ViolationError) as error:
            self._refuse(context, error)
        return self._queue_job(signed, job, model, context)

    def Sites(self, _: SitesRequest, context: grpc.ServicerContext) -> SitesReply:  # noqa: N802
        """List the enrolled sites."""
        self._callers.name(context)
        nodes = self._superlink.nodes()
        return SitesReply(json=json.dumps({node.name: node.is_online for node in nodes}))

    def Watch(self, request: WatchRequest, context: grpc.ServicerContext) -> Iterator[WatchEvent]:  # noqa: N802
        """Follow a run's log until the run is over or the caller leaves."""
        run = self._run(request.run_id, context)
        if not self._watchers.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many are watching")
        try:
            yield from self._follow(run, context)
        finally:
            self._watchers.release()

    def Show(self, request: ShowRequest, context: grpc.ServicerContext) -> ShowReply:  # noqa: N802
        """Tell everything known of a run."""
        run = self._run(request.run_id, context)
        signed = run.manifest().job
        facts: dict[str, object] = {
            "run_id": run.run_id,
            "state": run.state().value,
            "submitter": signed.submitter,
            "job": json.loads(signed.body),
        }
        for name, key in _SHOWN.items():
            if run.has(name):
                facts[key] = json.loads(run.artifact(name))
        described = run.read_if_there(DESCRIPTIONS, Descriptions)
        if described is not None:
            facts["described"] = described.model_dump(mode="json")["sites"]
        if signed.purpose == "mock":
            facts["synthetic_runs"] = self._synthetic_runs(signed)
        facts |= _quarantine(run)
        reasons = [event["reason"] for event in run.events() if "reason" in event]
        return ShowReply(json=json.dumps(facts | ({"reason": reasons[-1]} if reasons else {})))

    def Fetch(self, request: FetchRequest, context: grpc.ServicerContext) -> Iterator[Chunk]:  # noqa: N802
        """Send a file that a run left."""
        try:
            content = artifact(self._run(request.run_id, context), request.name)
        except (NotFoundError, IntegrityError, ViolationError) as error:
            _abort(context, error)
        for start in range(0, len(content), _CHUNK_BYTES):
            yield Chunk(content=content[start : start + _CHUNK_BYTES])

    def _verified(
        self, request: SubmitRequest, context: grpc.ServicerContext
    ) -> tuple[SignedJob, Job]:
        """A job that the caller signed for what it is, or to be priced."""
        purpose = PURPOSES.get(request.purpose)
        if purpose is None:
            self._refuse(context, InputError(f"purpose must be one of {', '.join(PURPOSES)}"))
        signed = SignedJob(
            request.body, request.submitter, request.signature, purpose, request.nonce
        )
        try:
            job = verify_job(signed, self._submitters)
        except (PeerError, AuthenticationError) as error:
            if isinstance(error, AuthenticationError):
                self._callers.failures.count(AuthFailure.JOB_SIGNATURE)
            self._refuse(context, error)
        if signed.submitter != self._callers.name(context):
            self._callers.failures.count(AuthFailure.JOB_SIGNATURE)
            self._refuse(
                context, AuthenticationError("the certificate and the signature differ in name")
            )
        if purpose not in {"price", job.purpose}:
            self._refuse(
                context, InputError(f"the job is signed to {purpose}, and says {job.purpose}")
            )
        if purpose == "price" and job.purpose == "mock":
            self._refuse(context, InputError("a mock costs nothing: there is no price to ask for"))
        return signed, job

    def _synthetic_runs(self, signed: SignedJob) -> list[str]:
        """The submitter's syntheses of a job's data set that can be sampled, newest first."""
        file = read_job(signed.body).file
        found = find_syntheses(self._runs, dataset=file.job.dataset, submitter=signed.submitter)
        return [run.run_id for run in found]

    def _queue_job(
        self,
        signed: SignedJob,
        job: Job,
        brought: ReleasedModel | None,
        context: grpc.ServicerContext,
    ) -> SubmitReply:
        """Queue a job that was accepted; on record first, so that none is queued without it."""
        try:
            self._decisions.accepted(signed, job)
        except SordinoError as error:
            _abort(context, error)
        run = self._runs.create(signed, brought=brought)
        self._queue.wake()
        return SubmitReply(run_id=run.run_id)

    def _refuse(self, context: grpc.ServicerContext, error: SordinoError) -> NoReturn:
        """End the call of somebody whose job is not accepted; on record, if that can be."""
        try:
            self._decisions.refused(self._callers.name(context), error)
        except SordinoError as unrecorded:
            self._log.error("refusal_not_recorded", reason=str(unrecorded))
        _abort(context, error)

    def _run(self, run_id: str, context: grpc.ServicerContext) -> RunDirectory:
        """A run of the caller's own; somebody else's is not there."""
        try:
            run = self._runs.get(run_id)
            submitter = run.manifest().job.submitter
        except SordinoError as error:
            _abort(context, error)
        if submitter != self._callers.name(context):
            _abort(context, NotFoundError(f"no run {run_id!r}"))
        return run

    def _follow(self, run: RunDirectory, context: grpc.ServicerContext) -> Iterator[WatchEvent]:
        offset, is_over = 0, False
        while context.is_active():
            self._callers.name(context)  # a certificate may be revoked meanwhile
            # Once more after the last state: what was logged with it is there by then.
            was_over = is_over
            entries, offset = run.events_after(offset)
            for entry in entries:
                yield WatchEvent(json=json.dumps(entry))
            is_over = is_over or last_state(entries) in TERMINAL_RUN_STATES
            if was_over:
                return
            if not is_over:
                time.sleep(_WATCH_SECONDS)


def _quarantine(run: RunDirectory) -> dict[str, object]:
    """What is told of a run's quarantine: nothing while there is none."""
    try:
        lasting = quarantine_of(run)
    except IntegrityError as error:
        return {"quarantine": {"reason": str(error)}}
    if lasting is None:
        return {}
    return {"quarantine": lasting.model_dump(mode="json", exclude={"released"})}


def _abort(context: grpc.ServicerContext, error: SordinoError) -> NoReturn:
    match error:
        case NotFoundError():
            code = grpc.StatusCode.NOT_FOUND
        case AuthenticationError():
            code = grpc.StatusCode.UNAUTHENTICATED
        case ViolationError():
            code = grpc.StatusCode.FAILED_PRECONDITION
        case IntegrityError():
            code = grpc.StatusCode.DATA_LOSS
        case UnreachableError():
            code = grpc.StatusCode.UNAVAILABLE
        case _:
            code = grpc.StatusCode.INVALID_ARGUMENT
    context.abort(code, str(error))
