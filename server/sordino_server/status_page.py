"""The server's status page: plain HTML for whoever looks after the federation, read-only.

Works without scripts, by reloading; with them it is live: the page holds a stream open, hears when
something changed, and fetches itself again. What must stay true: only GET and HEAD are answered, a
page loads nothing from elsewhere, and whatever comes from a job or a site is escaped.
"""

import asyncio
import hashlib
import ipaddress
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from importlib.resources import files

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sordino_protocols.errors import IntegrityError, NotFoundError, ViolationError
from sordino_server.page_facts import PageFacts
from sordino_server.page_reader import PageReader
from sordino_server.runs import LogEntry

LOOK_SECONDS = 1.0
"""How often the state is read while somebody watches; what is younger is shown again."""

_MOST_WATCHERS = 24
_WATCHED_SECONDS = 15.0  # a line now and then: proxies close streams that say nothing
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SAID = frozenset({"at", "event", "round", "rounds", "state"})
_DIGEST = re.compile("[0-9a-f]{64}")
_ASSETS = {"status.css": "text/css", "status.js": "text/javascript"}


class StatusPage:
    """The page as an ASGI application."""

    def __init__(self, reader: PageReader, *, certificate: Callable[[str], bytes]) -> None:
        """Prepare the page.

        Args:
            reader: of what is shown.
            certificate: the content of a run's certificate; raises what `quarantine.artifact` does.
        """
        self._reader = reader
        self._certificate = certificate
        self._lock = threading.Lock()
        self._read_at = -LOOK_SECONDS
        self._facts: PageFacts | None = None
        self._closing = threading.Event()
        self._watchers = 0
        self._templates = _templates()
        self._assets = {name: _asset(name) for name in _ASSETS}
        self.app: ASGIApp = Starlette(
            routes=[
                Route("/", self._overview, methods=["GET"]),
                Route("/events", self._events, methods=["GET"]),
                Route("/runs/{run_id}", self._run, methods=["GET"]),
                Route("/runs/{run_id}/certificate.json", self._certify, methods=["GET"]),
                Route("/assets/{name}", self._asset, methods=["GET"]),
            ],
            middleware=[Middleware(_Guarded)],
        )

    def close(self) -> None:
        """End the streams that are open, so that the server can end."""
        self._closing.set()

    def _overview(self, _: Request) -> Response:
        return _html(self._render())

    def _run(self, request: Request) -> Response:
        run_id = request.path_params["run_id"]
        try:
            run, log = self._reader.run(run_id), self._reader.log(run_id)
        except NotFoundError:
            return PlainTextResponse("no such run\n", status_code=404)
        facts = self._current()
        return _html(
            self._templates.get_template("run.html.j2").render(page=facts, run=run, log=log)
        )

    def _certify(self, request: Request) -> Response:
        try:
            content = self._certificate(request.path_params["run_id"])
        except NotFoundError:
            return PlainTextResponse("no certificate\n", status_code=404)
        except (ViolationError, IntegrityError) as error:
            return PlainTextResponse(f"{error}\n", status_code=403)
        return Response(content, media_type="application/json")

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._assets:
            return PlainTextResponse("not found\n", status_code=404)
        return Response(self._assets[name], media_type=_ASSETS[name])

    async def _events(self, _: Request) -> Response:
        if self._watchers >= _MOST_WATCHERS:
            # The page falls back to asking now and then.
            return PlainTextResponse("too many watch already\n", status_code=503)
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[str]:
        """A line whenever the page would read differently."""
        self._watchers += 1
        try:
            shown, said_at = "", time.monotonic()
            while not self._closing.is_set():
                digest = hashlib.sha256(
                    (await run_in_threadpool(self._render)).encode()
                ).hexdigest()
                if digest != shown:
                    yield f"data: {digest[:16]}\n\n"
                    shown, said_at = digest, time.monotonic()
                elif time.monotonic() - said_at > _WATCHED_SECONDS:
                    yield ": nothing new\n\n"
                    said_at = time.monotonic()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._watchers -= 1

    def _render(self) -> str:
        return self._templates.get_template("status.html.j2").render(page=self._current())

    def _current(self) -> PageFacts:
        """The facts; read once for all who ask within a second."""
        with self._lock:
            if self._facts is None or time.monotonic() - self._read_at >= LOOK_SECONDS:
                self._facts = self._reader.read()
                self._read_at = time.monotonic()
            return self._facts


class _Guarded:
    """Says who may read a page, and what a page may do, on every answer.

    The `Host` is checked so that a web site elsewhere cannot have a browser on this host read the
    page under the web site's own name: it is served as `localhost` and under addresses, to a proxy
    as well.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(key.lower().encode(), value.encode()) for key, value in _HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        if not _is_known(_name(scope)):
            text = "this page is not served under that name\n"
            await PlainTextResponse(text, status_code=421)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def _name(scope: Scope) -> str:
    host = next((value for key, value in scope["headers"] if key == b"host"), b"")
    name: str = host.decode("latin-1")
    return name.rpartition("]")[0].removeprefix("[") if "]" in name else name.partition(":")[0]


def _is_known(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True


def _html(text: str) -> Response:
    return Response(text, media_type="text/html")


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sordino_server", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["more"] = _more
    return environment


def _more(entry: LogEntry) -> str:
    """What an entry of a run's log says beside when and what, in words."""
    facts = {key: _in_words(value) for key, value in entry.items() if key not in _SAID}
    return "; ".join(f"{key.replace('_', ' ')} {text}" for key, text in facts.items() if text)


def _in_words(value: object) -> str:
    match value:
        case float():
            return f"{value:.3g}"
        case list():
            return ", ".join(map(_in_words, value))
        case dict():
            return ", ".join(f"{key} {_in_words(each)}" for key, each in value.items())
        case str() if _DIGEST.fullmatch(value):
            return f"{value[:12]}…"
        case _:
            return str(value)


def _asset(name: str) -> bytes:
    return (files("sordino_server") / "page" / name).read_bytes()
