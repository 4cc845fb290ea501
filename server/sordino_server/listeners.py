"""The two doors of the SuperLink: one application on two sockets, on one event loop in a thread.

Runs in a thread so that the daemon's other services live in the same process. The sockets are open
as soon as the object exists, so that ports are known before anything is served.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from sordino_protocols.errors import InputError, UnreachableError
from sordino_protocols.limits import MAX_ENVELOPE_BYTES
from sordino_server.auth_failures import AuthFailure
from sordino_server.fleet_api import FleetApi
from sordino_server.gate import FLEET_PATHS, RUNTIME_PATHS, Gate, News
from sordino_server.http_server import HttpServer
from sordino_server.tls import TlsFiles, listen_with

LOOPBACK = "127.0.0.1"
"""Where the admin listener is, and nowhere else: it speaks without TLS."""

_OBJECT_BYTES = MAX_ENVELOPE_BYTES + 4096  # an envelope in Flower's wrapping
_APP_HOLD_SECONDS = 0.5  # a strategy's deadline is kept this precisely
_KEEP_ALIVE_SECONDS = 75
_START_SECONDS = 60.0
_SHUTDOWN_SECONDS = 3
_HANDLER_THREADS = 4


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Where and how to listen.

    Attributes:
        public_address: `host:port` for sites, TLS 1.3; port 0 picks a free one.
        admin_port: port on loopback for the server's own app; 0 picks a free one.
        tls: files of the listener for sites.
        hold_seconds: how long a site's poll without news is held.
    """

    public_address: str
    admin_port: int
    tls: TlsFiles
    hold_seconds: float


class Listeners:
    """Serves an application to sites and to the server's own app, each through its gate."""

    def __init__(
        self,
        app: FastAPI,
        settings: ListenerSettings,
        *,
        on_stranger: Callable[[AuthFailure], None] = lambda _: None,
    ) -> None:
        """Open the sockets.

        Args:
            app: Flower's application.
            settings: where and how to listen.
            on_stranger: told what was wrong when a caller for a site turned out to be none.

        Raises:
            InputError: an address is taken or malformed, or the certificate cannot be used.
            IntegrityError: the revocation list is not the authority's.
        """
        self._tls = listen_with(settings.tls, on_stranger)
        host, port = _split(settings.public_address)
        self._sockets = (_bind(host, port), _bind(LOOPBACK, settings.admin_port))
        self.public_port, self.admin_port = (_port(each) for each in self._sockets)
        self._app = app
        self._on_stranger = on_stranger
        self._hold_seconds = settings.hold_seconds
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._servers = self._make_servers()
        self._thread = threading.Thread(target=self._run, name="superlink", daemon=True)

    def start(self) -> None:
        """Serve. Returns when both sockets are served.

        Raises:
            UnreachableError: they were not within a minute.
        """
        self._thread.start()
        settled = all(each.settled.wait(_START_SECONDS) for each in self._servers)
        if not settled or not all(each.started for each in self._servers):
            self.stop()
            raise UnreachableError(f"the SuperLink did not start: {self._failure}")

    def stop(self) -> None:
        """Finish requests that are under way, 3 s at most, and close the sockets."""
        for server in self._servers:
            server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join()
        for each in self._sockets:
            each.close()

    def renew_tls(self) -> None:
        """Read certificate, key and whom to let in again, and have every site connect anew.

        A request that is under way is answered first.

        Raises:
            InputError: the files cannot be used, and nothing was changed.
            IntegrityError: the revocation list is not the authority's, and nothing was changed.
        """
        self._tls.reload()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._servers[0].disconnect_all)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._servers[0].config.get_loop_factory()) as runner:
                runner.run(self._serve())
        except (OSError, RuntimeError, SystemExit) as error:
            self._failure = error
        finally:
            for server in self._servers:
                server.settled.set()

    async def _serve(self) -> None:
        # Flower's handlers wait for SQLite's one writer by sleeping: forty side by side are slower
        # than four, and one alone would let a large model hold up every heartbeat.
        current_default_thread_limiter().total_tokens = _HANDLER_THREADS
        self._loop = asyncio.get_running_loop()
        pairs = zip(self._servers, self._sockets, strict=True)
        await asyncio.gather(*(server.serve(sockets=[each]) for server, each in pairs))

    def _make_servers(self) -> tuple[HttpServer, HttpServer]:
        to_sites, to_app = News(), News()
        fleet = Gate(
            app=FleetApi(self._app),
            paths=FLEET_PATHS,
            arriving=to_sites,
            departing=to_app,
            hold_seconds=self._hold_seconds,
            max_envelope_bytes=_OBJECT_BYTES,
            on_stranger=lambda: self._on_stranger(AuthFailure.NODE_KEY),
        )
        runtime = Gate(
            app=self._app,
            paths=RUNTIME_PATHS,
            arriving=to_app,
            departing=to_sites,
            hold_seconds=_APP_HOLD_SECONDS,
            max_envelope_bytes=_OBJECT_BYTES,
        )
        # Flower's start-up and shut-down must run once: with the listener that has its app.
        return (
            HttpServer(_config(fleet, lifespan=False, tls=self._tls)),
            HttpServer(_config(runtime, lifespan=True, tls=None)),
        )


def _config(gate: Gate, *, lifespan: bool, tls: ssl.SSLContext | None) -> uvicorn.Config:
    config = uvicorn.Config(
        gate,
        lifespan="on" if lifespan else "off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    config.load()
    config.ssl = tls
    return config


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{address!r} must be host:port, such as 0.0.0.0:8443")
    return host.strip("[]"), int(port)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen at {host}:{port}: {error}") from error
    # Inherited by connections. Without it every answer of two segments waits 40 ms for the peer's
    # acknowledgement: the event loop sets it only where the socket names its protocol.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _port(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port
