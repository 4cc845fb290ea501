"""A grid in memory, for tests and for a data scientist's dry run: a round costs milliseconds.

Everything between a strategy and a site is real but the network: messages are taken apart into
Flower's objects, become bytes, and are put together again; a missing, failing or late site gives
the error codes that the SuperLink gives.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run

from sordino_protocols import flower
from sordino_protocols.errors import SordinoError, UnreachableError

Answerer = Callable[[bytes], bytes | None]
"""A site: envelope in, envelope out; None never answers; see `LocalGrid` for what it may raise."""


class LocalGrid(Grid):
    """A grid whose sites are functions.

    A site that raises `UnreachableError` is not connected. One that raises another `SordinoError`
    has failed, and its words stay with it. Any other exception is a bug and comes out of
    `pull_messages`. A site that returns None is silent until its message's time is up.
    """

    def __init__(
        self,
        sites: Mapping[str, Answerer],
        *,
        run_id: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connect sites.

        Args:
            sites: name to site; node ids are 2, 3, … in this order.
            run_id: the run that messages belong to.
            clock: Unix time, seconds; messages are late by it.
        """
        self._run = Run.create_empty(run_id)
        self._clock = clock
        self._names = dict(enumerate(sites, start=2))
        self._sites = dict(sites)
        self._sent: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Set the run that messages belong to."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run that messages belong to."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message of this run, created now."""
        metadata = Metadata(
            run_id=self._run.run_id,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=dst_node_id,
            reply_to_message_id="",
            group_id=group_id,
            created_at=self._clock(),
            ttl=3600.0 if ttl is None else ttl,
            message_type=message_type,
        )
        return make_message(metadata=metadata, content=content)

    def get_node_ids(self) -> Iterable[int]:
        """The sites' node ids."""
        return list(self._names)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """The sites, by name."""
        return [NodeInfo(node_id=node_id, name=name) for node_id, name in self._names.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take messages; each gets the id that the SuperLink would give it."""
        ids = []
        for message in messages:
            arrived = _round_trip(message)
            self._sent[arrived.metadata.message_id] = arrived
            ids.append(arrived.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Have the sites answer, and return each answer once."""
        replies = []
        for message_id in message_ids:
            reply = self._reply(message_id)
            if reply is not None:
                self._sent.pop(message_id, None)
                replies.append(_round_trip(reply))
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send and collect at once; a silent site's answer is missing, whatever the timeout."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _reply(self, message_id: str) -> Message | None:
        message = self._sent.get(message_id)
        if message is None:
            return self._unknown(message_id)
        if self._clock() >= message.metadata.created_at + message.metadata.ttl:
            return _failure(message, ErrorCode.MESSAGE_UNAVAILABLE)
        name = self._names.get(message.metadata.dst_node_id)
        if name is None:
            return _failure(message, ErrorCode.NODE_UNAVAILABLE)
        return _answer(self._sites[name], message)

    def _unknown(self, message_id: str) -> Message:
        stub = self.create_message(RecordDict(), "query", SUPERLINK_NODE_ID, "")
        stub.metadata.__dict__["_message_id"] = message_id
        return _failure(stub, ErrorCode.MESSAGE_UNAVAILABLE)


def _answer(site: Answerer, message: Message) -> Message | None:
    try:
        envelope = site(flower.from_record(message.content))
    except UnreachableError:
        return _failure(message, ErrorCode.NODE_UNAVAILABLE)
    except SordinoError:
        return _failure(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
    if envelope is None:
        return None
    return Message(flower.to_record(envelope), reply_to=message)


def _failure(message: Message, code: int) -> Message:
    return Message(Error(code=code), reply_to=message)


def _round_trip(message: Message) -> Message:
    """Through bytes and back, as over the network."""
    message_id = message.object_id
    contents = {key: each.deflate() for key, each in get_all_nested_objects(message).items()}
    arrived = inflate_object_from_contents(message_id, contents)
    if not isinstance(arrived, Message):
        raise TypeError("a message must come back as a message")
    arrived.metadata.__dict__["_message_id"] = message_id
    return arrived
