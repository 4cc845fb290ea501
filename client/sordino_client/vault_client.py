"""The link's end of the Unix socket to the vault.

The vault may be down, restarting or busy for minutes: a call waits for it, and repeats the same
bytes until they are answered. The vault gives the same bytes the same answer, so that is safe.
"""

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from sordino_protocols.errors import PeerError, UnreachableError
from sordino_protocols.limits import MAX_ENVELOPE_BYTES
from sordino_protocols.site_pb2 import (
    MetricsReply,
    MetricsRequest,
    Sealed,
    StatusReply,
    StatusRequest,
)

MESSAGE_SIZE_OPTIONS = (
    ("grpc.max_send_message_length", MAX_ENVELOPE_BYTES + 1024),
    ("grpc.max_receive_message_length", MAX_ENVELOPE_BYTES + 1024),
)
"""gRPC options that both ends of the socket need: its default of 4 MiB refuses a large model."""

_SERVICE = "/sordino.site.v1.Vault"
_STATUS_SECONDS = 2.0
_RETRY_FIRST_SECONDS = 0.05
_RETRY_LAST_SECONDS = 2.0
_STOP_CHECK_SECONDS = 0.25


class VaultFailedError(PeerError):
    """The vault is there and could not answer: a bug, or bytes it cannot read.

    Attributes:
        code: gRPC's status. The vault's own words stay in the vault.
    """

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(f"the vault failed with {code.name}")
        self.code = code


class VaultClient:
    """A connection to the vault, made when needed and made again when lost. A context manager."""

    def __init__(self, socket: Path) -> None:
        options = (
            *MESSAGE_SIZE_OPTIONS,
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.enable_http_proxy", 0),
        )
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)
        unary = self._channel.unary_unary
        self._answer: grpc.UnaryUnaryMultiCallable[Sealed, Sealed] = unary(
            f"{_SERVICE}/Answer",
            request_serializer=Sealed.SerializeToString,
            response_deserializer=Sealed.FromString,
        )
        self._status: grpc.UnaryUnaryMultiCallable[StatusRequest, StatusReply] = (
            self._channel.unary_unary(
                f"{_SERVICE}/Status",
                request_serializer=StatusRequest.SerializeToString,
                response_deserializer=StatusReply.FromString,
            )
        )
        self._metrics: grpc.UnaryUnaryMultiCallable[MetricsRequest, MetricsReply] = (
            self._channel.unary_unary(
                f"{_SERVICE}/Metrics",
                request_serializer=MetricsRequest.SerializeToString,
                response_deserializer=MetricsReply.FromString,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def answer(self, envelope: bytes, *, expires_at: float, stop: threading.Event) -> bytes:
        """The vault's answer to an envelope, however often it takes to get it.

        Args:
            envelope: bytes of the server, passed on unread.
            expires_at: Unix time after which nobody waits for the answer.
            stop: set to give up early.

        Raises:
            VaultFailedError: the vault is up and cannot answer this.
            UnreachableError: no answer before `expires_at`, or asked to stop.
        """
        request = Sealed(envelope=envelope)
        delay = _RETRY_FIRST_SECONDS
        while (left := expires_at - time.time()) > 0:
            call = self._answer.future(request, timeout=left)
            code = _finish(call, stop)
            if code is grpc.StatusCode.OK:
                return call.result().envelope
            if stop.is_set():
                raise UnreachableError("asked to stop before the vault answered")
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                break
            if code is not grpc.StatusCode.UNAVAILABLE:
                raise VaultFailedError(code)
            stop.wait(delay)
            delay = min(2 * delay, _RETRY_LAST_SECONDS)
        raise UnreachableError("the vault did not answer in time")

    def status(self) -> str | None:
        """The vault's status, a JSON object; None when it is not there."""
        try:
            return self._status(StatusRequest(), timeout=_STATUS_SECONDS).json
        except grpc.RpcError:
            return None

    def metrics(self) -> str | None:
        """The vault's metrics of the classes `public` and `dp`; None when it is not there."""
        try:
            return self._metrics(MetricsRequest(), timeout=_STATUS_SECONDS).text
        except grpc.RpcError:
            return None


def _finish(call: "grpc.CallFuture[Sealed]", stop: threading.Event) -> grpc.StatusCode:
    """Wait until the call is over; cancel it when asked to stop."""
    done = threading.Event()
    call.add_done_callback(lambda _: done.set())
    while not done.wait(_STOP_CHECK_SECONDS):
        if stop.is_set():
            call.cancel()  # type: ignore[no-untyped-call] # the stubs lack it
    return call.code()
