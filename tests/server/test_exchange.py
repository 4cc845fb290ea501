"""Sending to sites and collecting answers, over a grid in memory."""

import datetime as dt
from collections.abc import Callable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo

from sordino_protocols import limits
from sordino_protocols.errors import InputError, PeerError, UnreachableError
from sordino_server.exchange import Answer, AnswerError, Exchange
from sordino_server.local_grid import LocalGrid


def echo(envelope: bytes) -> bytes:
    return envelope[::-1]


def raising(error: Exception) -> Callable[[bytes], bytes]:
    def site(envelope: bytes) -> bytes:
        del envelope
        raise error

    return site


def test_each_site_answers_its_own_envelope() -> None:
    over = Exchange(LocalGrid({"a": echo, "b": echo}), poll_seconds=0)
    pending = over.send({"a": b"12", "b": b"34"}, message_type="train", ttl_seconds=60)
    assert pending.sites == {"a", "b"}
    answers, pending = over.poll(pending)
    assert {each.site: each.envelope for each in answers} == {"a": b"21", "b": b"43"}
    assert not pending.sites
    assert over.poll(pending) == ([], pending)


def test_answers_are_taken_as_they_come() -> None:
    slow: list[bytes | None] = [None, None, b"late but there"]
    grid = LocalGrid({"quick": echo, "slow": lambda _: slow.pop(0)})
    over = Exchange(grid, poll_seconds=0)
    pending = over.send({"quick": b"1", "slow": b"2"}, message_type="query", ttl_seconds=60)
    answers, pending = over.poll(pending)
    assert [each.site for each in answers] == ["quick"]
    assert pending.sites == {"slow"}
    answers, pending = over.poll(pending)
    assert answers == []
    assert pending.sites == {"slow"}
    answers, pending = over.poll(pending)
    assert answers == [Answer("slow", b"late but there")]


@pytest.mark.parametrize(
    ("site", "error"),
    [
        (raising(UnreachableError("away")), AnswerError.UNREACHABLE),
        (raising(PeerError("holds a record")), AnswerError.FAILED),
    ],
)
def test_a_site_that_fails_is_told_apart_without_its_words(
    site: Callable[[bytes], bytes], error: AnswerError
) -> None:
    over = Exchange(LocalGrid({"a": site}), poll_seconds=0)
    pending = over.send({"a": b""}, message_type="train", ttl_seconds=60)
    answers, pending = over.poll(pending)
    assert answers == [Answer("a", error=error)]
    assert not pending.sites


def test_a_bug_of_a_site_is_not_mistaken_for_a_refusal() -> None:
    over = Exchange(LocalGrid({"a": raising(ZeroDivisionError())}), poll_seconds=0)
    pending = over.send({"a": b""}, message_type="train", ttl_seconds=60)
    with pytest.raises(ZeroDivisionError):
        over.poll(pending)


def test_a_site_that_is_not_connected_answers_at_once() -> None:
    over = Exchange(LocalGrid({"a": echo}), poll_seconds=0)
    pending = over.send({"a": b"1", "away": b"2"}, message_type="train", ttl_seconds=60)
    answers, pending = over.poll(pending)
    assert Answer("away", error=AnswerError.UNREACHABLE) in answers
    assert not pending.sites


def test_a_silent_site_is_late_once_its_time_is_up() -> None:
    now = [0.0]
    grid = LocalGrid({"silent": lambda _: None}, clock=lambda: now[0])
    over = Exchange(grid, poll_seconds=0)
    pending = over.send({"silent": b""}, message_type="train", ttl_seconds=5)
    answers, pending = over.poll(pending)
    assert answers == []
    now[0] = 1e12
    answers, pending = over.poll(pending)
    assert answers == [Answer("silent", error=AnswerError.LATE)]


class Rejoining(LocalGrid):
    """A grid whose sites joined at the times that a test sets, Unix seconds."""

    joined: dict[str, float]

    def get_nodes(self) -> list[NodeInfo]:
        nodes = list(super().get_nodes())
        for node in nodes:
            at = dt.datetime.fromtimestamp(self.joined[node.name], dt.UTC)
            node.last_activated_at = at.isoformat()
        return nodes


def test_a_site_whose_link_was_started_anew_has_lost_the_message() -> None:
    grid = Rejoining({"stays": lambda _: None, "returns": lambda _: None})
    grid.joined = {"stays": 0.0, "returns": 0.0}
    over = Exchange(grid, poll_seconds=0, look_seconds=0)
    envelopes = {"stays": b"1", "returns": b"2"}
    pending = over.send(envelopes, message_type="query", ttl_seconds=60)
    answers, pending = over.poll(pending)
    assert answers == []
    grid.joined["returns"] = pending.sent_at + 1
    answers, pending = over.poll(pending)
    assert answers == [Answer("returns", error=AnswerError.UNREACHABLE)]
    assert pending.sites == {"stays"}


def test_an_answer_that_is_not_ours_is_malformed() -> None:
    class Odd(LocalGrid):
        def pull_messages(self, message_ids: object) -> list[Message]:
            assert isinstance(message_ids, list)
            content = RecordDict({"theirs": ConfigRecord({"envelope": b"x"})})
            return [Message(content, reply_to=self._sent[each]) for each in message_ids]

    over = Exchange(Odd({"a": echo}), poll_seconds=0)
    pending = over.send({"a": b""}, message_type="train", ttl_seconds=60)
    answers, _ = over.poll(pending)
    assert answers == [Answer("a", error=AnswerError.MALFORMED)]


def test_an_answer_from_another_node_is_malformed() -> None:
    class Swapped(LocalGrid):
        def pull_messages(self, message_ids: object) -> list[Message]:
            assert isinstance(message_ids, list)
            replies = list(super().pull_messages(message_ids))
            for each in replies:
                each.metadata.__dict__["_src_node_id"] = 99
            return replies

    over = Exchange(Swapped({"a": echo}), poll_seconds=0)
    pending = over.send({"a": b""}, message_type="train", ttl_seconds=60)
    answers, _ = over.poll(pending)
    assert answers == [Answer("a", error=AnswerError.MALFORMED)]


def test_refuses_an_envelope_that_the_server_cannot_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ENVELOPE_BYTES", 8)
    over = Exchange(LocalGrid({"a": echo}))
    over.send({"a": bytes(8)}, message_type="train", ttl_seconds=60)
    with pytest.raises(InputError, match="9 bytes"):
        over.send({"a": bytes(9)}, message_type="train", ttl_seconds=60)


def test_the_grid_gives_the_error_code_of_a_message_it_does_not_know() -> None:
    grid = LocalGrid({"a": echo})
    (reply,) = grid.pull_messages(["unknown"])
    assert reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    assert reply.metadata.reply_to_message_id == "unknown"


def test_a_message_to_a_node_that_left_is_unreachable() -> None:
    grid = LocalGrid({"a": echo})
    message = grid.create_message(RecordDict(), "train", 77, "")
    (reply,) = grid.send_and_receive([message])
    assert reply.error.code == ErrorCode.NODE_UNAVAILABLE
