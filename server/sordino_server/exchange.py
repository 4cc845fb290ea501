"""Envelopes to sites and answers back, over a Flower grid.

A strategy sends to a cohort and then polls until it has what it needs or its deadline has come; no
call waits for all. Flower's own `send_and_receive` does, and sleeps seconds between looks. What
must stay true: an answer is believed to come from a site because of the envelope's signature, never
because of anything here.
"""

import datetime as dt
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from flwr.app import Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.superlink.grid import HttpGrid

from sordino_protocols import flower, limits
from sordino_protocols.errors import InputError, NotFoundError, PeerError
from sordino_server import runtime


class AnswerError(StrEnum):
    """Why a site's answer is none."""

    UNREACHABLE = "unreachable"
    """The site is not connected, or its link was started anew and has lost the message."""
    FAILED = "failed"
    """The site could not answer, and does not say why."""
    LATE = "late"
    """The time for an answer is over."""
    MALFORMED = "malformed"
    """The answer is not one of ours."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one site said, or why it said nothing: exactly one of `envelope` and `error` is there.

    Attributes:
        site: the site that was asked.
        envelope: its answer, unread and untrusted.
        error: why there is none.
    """

    site: str
    envelope: bytes | None = None
    error: AnswerError | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    site: str
    node_id: int


@dataclass(frozen=True, slots=True)
class _Announced:
    """A reply that the server knows of, whose envelope may still be on its way up."""

    site: str
    message_id: str
    object_id: str


@dataclass(frozen=True, slots=True)
class Pending:
    """The answers that one `send` still waits for. A value: `poll` returns the next one.

    Attributes:
        asked: message id to whom it was sent.
        announced: replies without their envelope yet.
        unreachable: sites that were not connected when we sent.
        sent_at: Unix time at which it was sent.
        expires_at: Unix time after which nothing is waited for.
    """

    asked: Mapping[str, _Asked]
    announced: tuple[_Announced, ...]
    unreachable: tuple[str, ...]
    sent_at: float
    expires_at: float

    @property
    def sites(self) -> frozenset[str]:
        """Sites that have not answered yet."""
        return frozenset(
            [each.site for each in self.asked.values()]
            + [each.site for each in self.announced]
            + list(self.unreachable)
        )


class Exchange:
    """Sends to sites by name and collects their answers."""

    def __init__(self, grid: Grid, poll_seconds: float = 0.05, look_seconds: float = 2.0) -> None:
        """Use a grid.

        Args:
            grid: Flower's, of a running server app, or `LocalGrid`.
            poll_seconds: how long a poll without news takes at least.
            look_seconds: how often it is looked, while a site is silent, whether its link was
                started anew: a query for the SuperLink.
        """
        self._grid = grid
        self._poll_seconds = poll_seconds
        self._known: dict[str, int] = {}
        self._look_seconds = look_seconds
        self._looked_at = time.monotonic()

    def nodes(self) -> dict[str, int]:
        """The connected sites: registered name to Flower's node id."""
        self._known = {info.name: info.node_id for info in self._grid.get_nodes() if info.name}
        return dict(self._known)

    def send(
        self, envelopes: Mapping[str, bytes], *, message_type: str, ttl_seconds: float
    ) -> Pending:
        """Send each site its envelope. One that several sites share travels up once.

        Args:
            envelopes: site name to envelope.
            message_type: Flower's: `train`, `evaluate` or `query`, with `.name` after it if wanted.
            ttl_seconds: how long an answer is waited for; the server drops the message after that.

        Returns:
            What to poll. Sites that are not connected are in it, and answer `UNREACHABLE`.

        Raises:
            InputError: an envelope is too large.
        """
        for site, envelope in envelopes.items():
            if len(envelope) > limits.MAX_ENVELOPE_BYTES:
                raise InputError(
                    f"the envelope for {site!r} has {len(envelope)} bytes; "
                    f"at most {limits.MAX_ENVELOPE_BYTES}"
                )
        # A site that left since we looked last is found out by the SuperLink: no look is needed.
        nodes = self._known if envelopes.keys() <= self._known.keys() else self.nodes()
        asked = [_Asked(site, nodes[site]) for site in envelopes if site in nodes]
        records = {envelope: flower.to_record(envelope) for envelope in set(envelopes.values())}
        now = time.time()
        messages = [
            make_message(
                metadata=self._metadata(each.node_id, message_type, now, ttl_seconds),
                content=records[envelopes[each.site]],
            )
            for each in asked
        ]
        ids = _push(self._grid, messages)
        sent = {key: each for key, each in zip(ids, asked, strict=True) if key}
        reached = {each.site for each in sent.values()}
        return Pending(
            asked=sent,
            announced=(),
            unreachable=tuple(site for site in envelopes if site not in reached),
            sent_at=now,
            expires_at=now + ttl_seconds,
        )

    def poll(self, pending: Pending) -> tuple[list[Answer], Pending]:
        """Collect what has come. Waits a moment when nothing has, never longer than 1 s.

        Returns:
            New answers, each site's exactly once, and what is still waited for.
        """
        asked_at = time.monotonic()
        answers = [Answer(site, error=AnswerError.UNREACHABLE) for site in pending.unreachable]
        pending = replace(pending, unreachable=())
        if isinstance(self._grid, HttpGrid):
            more, pending = _pull_over_http(self._grid, pending)
        else:
            more, pending = _pull(self._grid, pending)
        answers += more
        if not answers and pending.sites and self._is_time_to_look():
            answers, pending = self._lost(pending)
        if not answers and pending.sites:
            time.sleep(max(0.0, self._poll_seconds - (time.monotonic() - asked_at)))
        return answers, pending

    def _is_time_to_look(self) -> bool:
        now = time.monotonic()
        is_time = now - self._looked_at >= self._look_seconds
        if is_time:
            self._looked_at = now
        return is_time

    def _lost(self, pending: Pending) -> tuple[list[Answer], Pending]:
        """Sites whose link was started anew since they were asked; see `AnswerError.UNREACHABLE`.

        A link takes a message before it has answered it, and Flower hands none out twice. It may
        also have died after it announced its answer, and before all of that was up.
        """
        joined = {info.name: _unix(info.last_activated_at) for info in self._grid.get_nodes()}
        lost = {site for site in pending.sites if joined.get(site, 0.0) > pending.sent_at}
        left = replace(
            pending,
            asked={key: each for key, each in pending.asked.items() if each.site not in lost},
            announced=tuple(each for each in pending.announced if each.site not in lost),
        )
        return [Answer(site, error=AnswerError.UNREACHABLE) for site in sorted(lost)], left

    def _metadata(
        self, node_id: int, message_type: str, created_at: float, ttl_seconds: float
    ) -> Metadata:
        # Spelled out: the short form of Flower's messages reads a global of the process.
        return Metadata(
            run_id=self._grid.run.run_id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=node_id,
            reply_to_message_id="",
            group_id="",
            created_at=created_at,
            ttl=ttl_seconds,
            message_type=message_type,
        )


def _push(grid: Grid, messages: list[Message]) -> list[str]:
    """Hand messages over; an empty id for one that was not taken."""
    if not messages:
        return []
    if isinstance(grid, HttpGrid):
        return runtime.push(grid, messages)
    return list(grid.push_messages(messages))


def _pull(grid: Grid, pending: Pending) -> tuple[list[Answer], Pending]:
    """Collect through Flower's own interface: any grid."""
    if not pending.asked:
        return [], pending
    answers: dict[str, Answer] = {}
    for reply in grid.pull_messages(list(pending.asked)):
        key = reply.metadata.reply_to_message_id
        answers[key] = _read(reply, pending.asked[key])
    return list(answers.values()), _without(pending, answers)


def _read(reply: Message, asked: _Asked) -> Answer:
    if reply.has_error():
        return Answer(asked.site, error=_error(reply.error.code))
    if reply.metadata.src_node_id != asked.node_id:
        return Answer(asked.site, error=AnswerError.MALFORMED)
    try:
        return Answer(asked.site, flower.from_record(reply.content))
    except PeerError:
        return Answer(asked.site, error=AnswerError.MALFORMED)


def _pull_over_http(grid: HttpGrid, pending: Pending) -> tuple[list[Answer], Pending]:
    """Collect with the fewest requests, and never wait for a reply that is still on its way up."""
    failures, pending = _pull_announcements(grid, pending)
    answers: list[Answer] = []
    still: list[_Announced] = []
    for each in pending.announced:
        answer = _pull_envelope(grid, each, is_late=time.time() > pending.expires_at)
        if answer is None:
            still.append(each)
        else:
            answers.append(answer)
    return failures + answers, replace(pending, announced=tuple(still))


def _pull_announcements(grid: HttpGrid, pending: Pending) -> tuple[list[Answer], Pending]:
    if not pending.asked:
        return [], pending
    failures: dict[str, Answer] = {}
    announced: dict[str, _Announced] = {}
    for reply in runtime.pull(grid, list(pending.asked)):
        asked = pending.asked[reply.reply_to]
        if reply.error is not None:
            failures[reply.reply_to] = Answer(asked.site, error=_error(reply.error))
        elif reply.envelope_id is None or reply.sender != asked.node_id:
            failures[reply.reply_to] = Answer(asked.site, error=AnswerError.MALFORMED)
        else:
            announced[reply.reply_to] = _Announced(asked.site, reply.message_id, reply.envelope_id)
    pending = _without(pending, [*failures, *announced])
    return list(failures.values()), replace(
        pending, announced=(*pending.announced, *announced.values())
    )


def _pull_envelope(grid: HttpGrid, announced: _Announced, *, is_late: bool) -> Answer | None:
    """The envelope of a reply; None while it is on its way up."""
    try:
        envelope = runtime.pull_envelope(grid, announced.message_id, announced.object_id)
    except NotFoundError:
        return Answer(announced.site, error=AnswerError.LATE)
    except PeerError:
        return Answer(announced.site, error=AnswerError.MALFORMED)
    if envelope is not None:
        return Answer(announced.site, envelope)
    return Answer(announced.site, error=AnswerError.LATE) if is_late else None


def _without(pending: Pending, keys: Iterable[str]) -> Pending:
    gone = set(keys)
    left = {key: asked for key, asked in pending.asked.items() if key not in gone}
    return replace(pending, asked=left)


def _unix(stamp: str) -> float:
    """Unix time of an ISO 8601 stamp; 0 for an empty one."""
    return dt.datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def _error(code: int) -> AnswerError:
    match code:
        case ErrorCode.NODE_UNAVAILABLE:
            return AnswerError.UNREACHABLE
        case ErrorCode.MESSAGE_UNAVAILABLE | ErrorCode.REPLY_MESSAGE_UNAVAILABLE:
            return AnswerError.LATE
        case _:
            return AnswerError.FAILED
