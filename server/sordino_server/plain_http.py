"""A small application served over plain HTTP, on a thread of its own.

For what is watched and never for what is asked of the federation: metrics, health, the status page.
Whoever wants it beyond this host puts a proxy with TLS in front of it.
"""

import asyncio
import socket
import threading
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from sordino_protocols.errors import InputError, UnreachableError
from sordino_server.http_server import HttpServer

_START_SECONDS = 60.0
_SHUTDOWN_SECONDS = 1
_MOST_CONNECTIONS = 64
_LONGEST_HEADERS = 16 * 1024


@dataclass(frozen=True, slots=True)
class PlainHttp:
    """An application that is being served.

    Attributes:
        port: where; the one that was picked if 0 was asked for.
    """

    port: int
    _server: HttpServer
    _thread: threading.Thread

    def stop(self) -> None:
        """End what is under way, a second at most, and close the socket."""
        self._server.should_exit = True
        self._thread.join()


def serve_http(app: ASGIApp, address: str, *, key: str) -> PlainHttp:
    """Serve an application; returns when it is served.

    Args:
        app: any ASGI application; its handlers share one event loop.
        address: `host:port`; port 0 picks a free one.
        key: what the configuration calls the address, for errors.

    Raises:
        InputError: the address cannot be listened at.
        UnreachableError: it was not served within a minute.
    """
    listening = _bind(address, key)
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_LONGEST_HEADERS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = HttpServer(config)
    thread = threading.Thread(target=_run, args=(server, listening), name=key, daemon=True)
    thread.start()
    if not server.settled.wait(_START_SECONDS) or not server.started:
        raise UnreachableError(f"{key} {address!r}: it was not served within a minute")
    return PlainHttp(listening.getsockname()[1], server, thread)


def _run(server: HttpServer, listening: socket.socket) -> None:
    try:
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listening]))
    finally:
        server.settled.set()
        listening.close()


def _bind(address: str, key: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        return socket.create_server((name, int(port)), family=family)
    except (OSError, OverflowError, ValueError):
        raise InputError(f"{key} {address!r}: expected a free host:port") from None
