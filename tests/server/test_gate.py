"""Held polls: answered by news, by the time being up, and never on behalf of somebody who left."""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from sordino_server.gate import Gate, News, Role

PATHS = {("POST", "/poll"): Role.POLL, ("POST", "/push"): Role.PUSH}


class Store:
    """An application with one queue: a poll takes an item, a push adds one."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.looked = asyncio.Event()
        self.looks = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        if scope["path"] == "/push":
            self.items.append(body)
            body = b""
        else:
            assert body == b"whose"
            self.looks += 1
            self.looked.set()
            body = self.items.pop() if self.items else b""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def gate(store: Store, *, hold_seconds: float) -> Gate:
    news = News()
    return Gate(
        app=store,
        paths=PATHS,
        arriving=news,
        departing=news,
        hold_seconds=hold_seconds,
        max_envelope_bytes=100,
    )


async def ask(asked: Gate, path: str, body: bytes, gone: asyncio.Event | None = None) -> bytes:
    """One request; the asker leaves when `gone` is set. Returns the body of the answer."""
    gone = gone or asyncio.Event()
    inbox: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    outbox: list[Message] = []

    async def receive() -> Message:
        if inbox:
            return inbox.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        outbox.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "headers": [],
    }
    await asked(scope, receive, send)
    return b"".join(each.get("body", b"") for each in outbox)


def test_a_held_poll_is_answered_by_a_push() -> None:
    async def scenario() -> bytes:
        store = Store()
        asked = gate(store, hold_seconds=60)
        poll = asyncio.create_task(ask(asked, "/poll", b"whose"))
        await store.looked.wait()
        await ask(asked, "/push", b"news")
        return await poll

    assert asyncio.run(scenario()) == b"news"


def test_a_poll_without_news_is_answered_with_nothing() -> None:
    async def scenario() -> bytes:
        return await ask(gate(Store(), hold_seconds=0.01), "/poll", b"whose")

    assert asyncio.run(scenario()) == b""


def test_a_burst_of_pushes_wakes_a_poll_once() -> None:
    async def scenario() -> int:
        store = Store()
        asked = gate(store, hold_seconds=60)
        poll = asyncio.create_task(ask(asked, "/poll", b"whose"))
        await store.looked.wait()
        await asyncio.gather(*(ask(asked, "/push", b"news") for _ in range(5)))
        await poll
        return store.looks

    assert asyncio.run(scenario()) == 2


def test_nothing_is_taken_for_somebody_who_left() -> None:
    async def scenario() -> list[bytes]:
        store, gone = Store(), asyncio.Event()
        asked = gate(store, hold_seconds=60)
        poll = asyncio.create_task(ask(asked, "/poll", b"whose", gone))
        await store.looked.wait()
        gone.set()
        async with asyncio.timeout(10):
            await poll
        await ask(asked, "/push", b"for another")
        return store.items

    assert asyncio.run(scenario()) == [b"for another"]
