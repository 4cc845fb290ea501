"""What may be asked on which listener, and polls that wait for news.

Flower serves sites, apps and administrators from one application, and its administration knows no
authentication. Here that application is reachable through gates only: a gate passes the few paths
on its list, spelled exactly so, and answers 404 to all else before Flower sees it. What must stay
true: `/v1/control` is on no list, and neither is anything that hands out an app bundle.

A gate also holds a poll that found nothing until the other side pushed something. Flower's parties
poll; held polls cost two requests instead of hundreds, and an answer is noticed at once.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SMALL_BYTES = 16 * 1024 * 1024  # of a request that carries no envelope
_STRANGER = frozenset({401, 403})
_SETTLE_SECONDS = 0.005  # pushes come in bursts: wake once, after the last


class Role(Enum):
    """What a request on a gate's list does to polls."""

    PLAIN = auto()
    POLL = auto()
    """Held while there is nothing."""
    PUSH = auto()
    """Wakes the other side's polls."""
    PUSH_ENVELOPE = auto()
    """A push that may be as large as an envelope."""


FLEET_PATHS: Mapping[tuple[str, str], Role] = {
    ("GET", "/health"): Role.PLAIN,
    ("POST", "/v1/fleet/activate-node"): Role.PLAIN,
    ("POST", "/v1/fleet/deactivate-node"): Role.PLAIN,
    ("POST", "/v1/fleet/send-node-heartbeat"): Role.PLAIN,
    ("POST", "/v1/fleet/pull-messages"): Role.POLL,
    ("POST", "/v1/fleet/pull-object"): Role.PLAIN,
    ("POST", "/v1/fleet/confirm-message-received"): Role.PLAIN,
    ("POST", "/v1/fleet/push-messages"): Role.PUSH,
    ("POST", "/v1/fleet/push-object"): Role.PUSH_ENVELOPE,
}
"""All that a site may ask. Not here: registering itself, a run's description, an app bundle."""

RUNTIME_PATHS: Mapping[tuple[str, str], Role] = {
    ("GET", "/health"): Role.PLAIN,
    ("POST", "/v1/runtime/acquire-task"): Role.PLAIN,
    ("POST", "/v1/runtime/send-task-heartbeat"): Role.PLAIN,
    ("POST", "/v1/runtime/pull-task-input"): Role.PLAIN,
    ("POST", "/v1/runtime/push-task-output"): Role.PLAIN,
    ("POST", "/v1/runtime/push-logs"): Role.PLAIN,
    ("POST", "/v1/runtime/get-nodes"): Role.PLAIN,
    ("POST", "/v1/runtime/pull-messages"): Role.POLL,
    ("POST", "/v1/runtime/pull-object"): Role.PLAIN,
    ("POST", "/v1/runtime/confirm-message-received"): Role.PLAIN,
    ("POST", "/v1/runtime/push-messages"): Role.PUSH,
    ("POST", "/v1/runtime/push-object"): Role.PUSH_ENVELOPE,
}
"""All that the server's own app and its launcher ask; each carries a token or the secret."""


class News:
    """Tells waiting polls that something was pushed. Belongs to one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._pushing = 0
        self._timer: asyncio.TimerHandle | None = None

    def next(self) -> asyncio.Event:
        """An event set at the next news. Take it before looking, or miss what came since."""
        return self._event

    def begin(self) -> None:
        """A push has begun."""
        self._pushing += 1

    def end(self) -> None:
        """A push has ended: wake the polls, unless more of the burst follows."""
        self._pushing -= 1
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._announce)

    def _announce(self) -> None:
        if self._pushing == 0:
            self._event.set()
            self._event = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Gate:
    """An ASGI application before Flower's: passes what is on the list and holds empty polls.

    Attributes:
        app: Flower's application.
        paths: what may be asked: method and exact path.
        arriving: news that polls on this gate wait for.
        departing: news that pushes on this gate make.
        hold_seconds: how long a poll is held at most.
        max_envelope_bytes: largest body of a request that carries an envelope.
        on_stranger: called when Flower did not believe who asked.
    """

    app: ASGIApp
    paths: Mapping[tuple[str, str], Role]
    arriving: News
    departing: News
    hold_seconds: float
    max_envelope_bytes: int
    on_stranger: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        send = self._noticing(send)
        role = self._role(scope)
        if role is None:
            await PlainTextResponse("not found", status_code=404)(scope, receive, send)
            return
        limit = self.max_envelope_bytes if role is Role.PUSH_ENVELOPE else _SMALL_BYTES
        if not _is_within(scope, limit):
            await PlainTextResponse("too large", status_code=413)(scope, receive, send)
            return
        match role:
            case Role.PLAIN:
                await self.app(scope, receive, send)
            case Role.POLL:
                await self._poll(scope, receive, send)
            case Role.PUSH | Role.PUSH_ENVELOPE:
                await self._push(scope, receive, send)

    def _noticing(self, send: Send) -> Send:
        async def noticed(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in _STRANGER:
                self.on_stranger()
            await send(message)

        return noticed

    def _role(self, scope: Scope) -> Role | None:
        if scope["type"] != "http":
            return None
        path: str = scope["path"]
        # An encoded spelling decodes to a listed path and could be routed elsewhere: refused.
        if scope["raw_path"] != path.encode():
            return None
        return self.paths.get((scope["method"], path))

    async def _push(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.departing.begin()
        try:
            await self.app(scope, receive, send)
        finally:
            self.departing.end()

    async def _poll(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _body(receive)
        give_up_at = asyncio.get_running_loop().time() + self.hold_seconds
        while True:
            news = self.arriving.next()
            answer = await self._ask(scope, body)
            left = give_up_at - asyncio.get_running_loop().time()
            if not _is_empty(answer) or left <= 0:
                break
            if not await _wait(news, receive, left):
                return
        for each in answer:
            await send(each)

    async def _ask(self, scope: Scope, body: bytes) -> list[Message]:
        """Put a request to Flower; each time with a scope of its own, which Flower writes to."""
        answer: list[Message] = []
        gone = asyncio.Event()

        async def collect(message: Message) -> None:
            answer.append(message)

        async def replay() -> Message:
            if not gone.is_set():
                gone.set()
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError("nothing sets this event")

        await self.app({**scope, "state": dict(scope.get("state", {}))}, replay, collect)
        return answer


def _is_within(scope: Scope, limit: int) -> bool:
    """Whether a request declares a body within the limit; no body needs no declaration."""
    headers = {name.lower(): value for name, value in scope["headers"]}
    if b"transfer-encoding" in headers:
        return False
    declared = headers.get(b"content-length", b"0")
    return declared.isdigit() and int(declared) <= limit


def _is_empty(answer: list[Message]) -> bool:
    """Whether Flower said "nothing": a message without fields has no bytes."""
    status = next(each["status"] for each in answer if each["type"] == "http.response.start")
    return status == 200 and not any(each.get("body") for each in answer)  # noqa: PLR2004


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def _wait(news: asyncio.Event, receive: Receive, seconds: float) -> bool:
    """Wait for news or the time to be up. False when the asker went away meanwhile.

    Asking Flower on behalf of somebody who left would lose a message: Flower counts it delivered.
    """
    arrival = asyncio.create_task(news.wait())
    departure = asyncio.create_task(_departure(receive))
    try:
        await asyncio.wait(
            {arrival, departure}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        return not departure.done()
    finally:
        arrival.cancel()
        departure.cancel()


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
