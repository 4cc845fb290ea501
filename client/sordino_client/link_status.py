"""What a link says about itself over HTTP: `/metrics`, `/livez`, `/readyz`.

Metrics are the link's own few, which know nothing of records, and the text that the vault hands
over, which it has filtered to the release classes `public` and `dp`. All of the link's own are of
the class `public`. None is the time that the vault took to answer: that depends on the records.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from sordino_client.link_health import LinkHealth
from sordino_client.vault_client import VaultClient
from sordino_protocols.errors import InputError
from sordino_protocols.health import is_ready, readiness
from sordino_protocols.metrics import make_counter, make_gauge

_JSON = "application/json"
RESULTS = ("answered", "failed", "malformed", "dropped")
"""What becomes of a message: answered, the vault failed, not one of ours, or nobody waits."""


class LinkCounters:
    """The link's own metrics, in a registry of their own.

    Attributes:
        registry: where they are collected.
        connected: 1 while the server knows this site is there.
        messages: messages by what became of them.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connected = make_gauge("sordino_link_connected", self.registry)
        self.messages = make_counter("sordino_link_messages_total", self.registry)
        self.vault_up = make_gauge("sordino_link_vault_up", self.registry)
        for result in RESULTS:
            self.messages.labels(result=result)

    def is_connected(self) -> bool:
        """Whether this site's node is active at the server."""
        return self.registry.get_sample_value("sordino_link_connected") == 1


@contextmanager
def serve_status(
    address: str | None, counters: LinkCounters, vault: VaultClient, health: LinkHealth
) -> Iterator[str | None]:
    """Serve the status while the context lasts; yields the address it is served at.

    Args:
        address: `host:port`; port 0 picks a free one; None serves nothing and yields None.
        counters: the link's own metrics.
        vault: whose metrics are added.
        health: what readiness is.

    Raises:
        InputError: the address cannot be served at.
    """
    if address is None:
        yield None
        return
    server = _bind(address, _Pages(counters, vault, health))
    thread = Thread(target=server.serve_forever, name="status", daemon=True)
    thread.start()
    try:
        yield f"{server.server_address[0]!s}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _bind(address: str, of_link: "_Pages") -> ThreadingHTTPServer:
    host, _, port = address.rpartition(":")

    class Handler(_StatusHandler):
        pages = of_link

    try:
        return ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"metrics_address {address!r}: expected a free host:port") from error


class _Pages:
    """The three pages: status, content type, body."""

    def __init__(self, counters: LinkCounters, vault: VaultClient, health: LinkHealth) -> None:
        self._counters = counters
        self._vault = vault
        self._health = health

    def page(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        match path.partition("?")[0]:
            case "/metrics":
                return self._metrics()
            case "/livez":
                return HTTPStatus.OK, _JSON, b'{"live": true}'
            case "/readyz":
                return self._ready()
            case _:
                return HTTPStatus.NOT_FOUND, _JSON, b'{"error": "not found"}'

    def _metrics(self) -> tuple[HTTPStatus, str, bytes]:
        theirs = self._vault.metrics()
        self._counters.vault_up.set(0 if theirs is None else 1)
        text = generate_latest(self._counters.registry) + (theirs or "").encode()
        return HTTPStatus.OK, CONTENT_TYPE_PLAIN_0_0_4, text

    def _ready(self) -> tuple[HTTPStatus, str, bytes]:
        checks = self._health.evaluate()
        status = HTTPStatus.OK if is_ready(checks) else HTTPStatus.SERVICE_UNAVAILABLE
        return status, _JSON, readiness(checks)


class _StatusHandler(BaseHTTPRequestHandler):
    pages: _Pages

    def do_GET(self) -> None:
        status, content_type, body = self.pages.page(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing: a scrape is no event."""
