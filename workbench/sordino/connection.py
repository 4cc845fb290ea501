"""The data scientist's connection to a federation's server."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

import grpc

from sordino.profile import Profile
from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    IntegrityError,
    NotFoundError,
    SordinoError,
    UnreachableError,
    ViolationError,
)
from sordino_protocols.gateway_pb2 import (
    FetchRequest,
    ShowRequest,
    SitesRequest,
    SubmitRequest,
    WatchRequest,
)
from sordino_protocols.gateway_pb2_grpc import GatewayStub
from sordino_protocols.job import Job, Purpose, new_nonce, sign_job
from sordino_protocols.model_file import ReleasedModel, write_model
from sordino_protocols.signing import load_signer

Json = Mapping[str, object]
R = TypeVar("R")
_PRICE_SECONDS = 120.0
_CALL_SECONDS = 20.0
_FILE_SECONDS = 600.0
_PIECE_BYTES = 1024 * 1024
_AGAIN_SECONDS = 0.5
_SOUND_SECONDS = 5.0  # a stream that lasted so long was one: the server had been there


class Connection:
    """Jobs go in, runs can be watched, models come out. A context manager."""

    def __init__(self, profile: Profile) -> None:
        """Prepare a connection; nothing is sent before the first call.

        Raises:
            NotFoundError: a key or certificate is missing.
        """
        self._signer = load_signer(profile.signing_key, profile.name)
        self._gateway = profile.gateway
        try:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=profile.ca_certificate.read_bytes(),
                private_key=profile.private_key.read_bytes(),
                certificate_chain=profile.certificate.read_bytes(),
            )
        except FileNotFoundError as error:
            raise NotFoundError(f"{error.filename}: no such file, named by the profile") from None
        options = (("grpc.enable_http_proxy", 0),)
        self._channel = grpc.secure_channel(profile.gateway, credentials, options=options)
        self._stub = GatewayStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def sites(self) -> dict[str, bool]:
        """The enrolled sites, and whether each is connected."""
        reply = self._call(lambda: self._stub.Sites(SitesRequest(), timeout=_CALL_SECONDS))
        return {str(name): bool(online) for name, online in _object(reply.json).items()}

    def submit(self, job: Job) -> str:
        """Sign a job that trains and queue it. Returns the run's id.

        Raises:
            InputError: the server refuses it; a validation needs `validate`.
        """
        request = self._signed(job, job.purpose)
        return str(self._call(lambda: self._stub.Submit(request, timeout=_CALL_SECONDS)).run_id)

    def validate(self, job: Job, model: ReleasedModel) -> str:
        """Sign a validation and queue it with its model. Returns the run's id.

        Raises:
            InputError: the server refuses it: the model is not the one that the job names.
            ViolationError: it is the model of a run in quarantine.
        """
        request = self._signed(job, job.purpose)
        content = write_model(model, job_digest=job.digest(), run_id="")
        call = self._stub.SubmitModel
        reply = self._call(lambda: call(_parts(request, content), timeout=_FILE_SECONDS))
        return str(reply.run_id)

    def price(self, job: Job) -> Json:
        """Ask every site what a job would cost there and whether it would be refused.

        Changes nothing at any site.

        Raises:
            UnreachableError: the server did not finish asking.
        """
        request = self._signed(job, "price")
        submitted = self._call(lambda: self._stub.Submit(request, timeout=_CALL_SECONDS))
        run_id = str(submitted.run_id)
        for _ in self.watch(run_id, timeout_seconds=_PRICE_SECONDS):
            pass
        shown = self.show(run_id)
        quotes = shown.get("quotes")
        if not isinstance(quotes, dict):
            raise UnreachableError(f"no quotes: {shown.get('reason', 'the sites did not answer')}")
        return quotes

    def watch(self, run_id: str, *, timeout_seconds: float | None = None) -> Iterator[Json]:
        """Events of a run from its beginning until it is over."""
        stream = self._stub.Watch(WatchRequest(run_id=run_id), timeout=timeout_seconds)
        try:
            for event in stream:
                yield _object(event.json)
        except grpc.RpcError as error:
            raise self._translated(error) from None
        finally:
            stream.cancel()

    def watch_through(self, run_id: str, *, patience_seconds: float) -> Iterator[Json]:
        """As `watch`, each event once, through a server that is restarted meanwhile.

        Args:
            run_id: of the run.
            patience_seconds: how long the server may be away.

        Raises:
            UnreachableError: it was away for longer.
        """
        seen, give_up_at = 0, time.monotonic() + patience_seconds
        while True:
            began = time.monotonic()
            try:
                # The log only grows: what was seen comes again, first.
                for event in islice(self.watch(run_id), seen, None):
                    seen += 1
                    yield event
            except UnreachableError:
                now = time.monotonic()
                if now - began > _SOUND_SECONDS:
                    give_up_at = now + patience_seconds
                if now > give_up_at:
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                return

    def show(self, run_id: str) -> Json:
        """Everything the server knows of a run."""
        request = ShowRequest(run_id=run_id)
        reply = self._call(lambda: self._stub.Show(request, timeout=_CALL_SECONDS))
        return _object(reply.json)

    def fetch(self, run_id: str, name: str) -> bytes:
        """A file that a run left: "model.safetensors" or "statement.json".

        Raises:
            NotFoundError: there is no such file.
            ViolationError: the run is in quarantine, and the file is withheld.
        """
        request = FetchRequest(run_id=run_id, name=name)
        return self._call(
            lambda: b"".join(
                chunk.content for chunk in self._stub.Fetch(request, timeout=_FILE_SECONDS)
            )
        )

    def _signed(self, job: Job, purpose: Purpose) -> SubmitRequest:
        signed = sign_job(job, self._signer, purpose=purpose, nonce=new_nonce())
        return SubmitRequest(
            body=signed.body,
            submitter=signed.submitter,
            signature=signed.signature,
            purpose=signed.purpose,
            nonce=signed.nonce,
        )

    def _call(self, call: Callable[[], R]) -> R:
        try:
            return call()
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def _translated(self, error: grpc.RpcError) -> SordinoError:
        code, details = error.code(), error.details()
        match code:
            case grpc.StatusCode.NOT_FOUND:
                return NotFoundError(str(details))
            case grpc.StatusCode.UNAUTHENTICATED:
                return AuthenticationError(str(details))
            case grpc.StatusCode.INVALID_ARGUMENT:
                return InputError(str(details))
            case grpc.StatusCode.FAILED_PRECONDITION:
                return ViolationError(str(details))
            case grpc.StatusCode.DATA_LOSS:
                return IntegrityError(str(details))
            case _:
                return UnreachableError(
                    f"the server at {self._gateway} did not answer: {code.name}"
                )


def _parts(request: SubmitRequest, content: bytes) -> Iterable[SubmitRequest]:
    yield request
    for start in range(0, len(content), _PIECE_BYTES):
        yield SubmitRequest(content=content[start : start + _PIECE_BYTES])


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UnreachableError("the server answered something that is no JSON object")
    return value
