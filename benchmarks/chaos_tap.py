"""A tap on the socket between a link and its vault: sees every answer that leaves a site.

A gRPC server at a socket of its own, to which the link is sent, passes each call on to the vault
unread and writes down what went in and what came out. What leaves a site leaves it here.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import grpc

from sordino_client.vault_client import MESSAGE_SIZE_OPTIONS
from sordino_protocols.site_pb2 import Sealed

_SERVICE = "sordino.site.v1.Vault"
_ANSWER = "Answer"
_METHODS = (_ANSWER, "Status", "Metrics")
_OPTIONS = (
    *MESSAGE_SIZE_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Answered:
    """One call of the link that the vault answered: both envelopes, as they were."""

    request: bytes
    answer: bytes


class Tap:
    """Passes calls on, and keeps the answered ones."""

    def __init__(self, vault_socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{vault_socket}", options=_OPTIONS)
        self._lock = Lock()
        self._answered: list[Answered] = []

    @property
    def answered(self) -> list[Answered]:
        """Every answer so far, in the order in which they came."""
        with self._lock:
            return list(self._answered)

    def add_to(self, server: grpc.Server) -> None:
        """Have a server answer as the vault does."""
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(self._passing_on(method))
            for method in _METHODS
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))

    def close(self) -> None:
        """Let go of the vault."""
        self._channel.close()

    def _passing_on(self, method: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/{_SERVICE}/{method}", request_serializer=bytes, response_deserializer=bytes
        )

        def pass_on(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                reply = call(request, timeout=context.time_remaining())
            except grpc.RpcError as error:
                context.abort(error.code(), "")
                raise
            if method == _ANSWER:
                self._note(request, reply)
            return reply

        return pass_on

    def _note(self, request: bytes, reply: bytes) -> None:
        envelopes = (Sealed.FromString(each).envelope for each in (request, reply))
        with self._lock:
            self._answered.append(Answered(*envelopes))


@contextmanager
def tapped(socket: Path, vault_socket: Path) -> Iterator[Tap]:
    """Serve a tap at `socket` while the context lasts; the vault may come and go."""
    tap = Tap(vault_socket)
    server = grpc.server(ThreadPoolExecutor(8), options=MESSAGE_SIZE_OPTIONS)
    tap.add_to(server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield tap
    finally:
        server.stop(grace=None).wait()
        tap.close()
