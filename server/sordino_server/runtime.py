"""Flower's Runtime API with the fewest requests: the one adapter to the internals of its HTTP grid.

Every object of a message is a request each way. Of the three that ours have, only the one with the
envelope says anything that is not in the message's announcement, so that one alone travels.
Whoever reads our messages has to do as `sordino_client.fleet` does: ask for that object alone.
"""

from dataclasses import dataclass

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.runtime_pb2 import PullAppMessagesRequest, PushAppMessagesRequest
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

from sordino_protocols import flower
from sordino_protocols.errors import ExitCode, NotFoundError, PeerError, SordinoError


class GridLostError(SordinoError):
    """Flower takes nothing from this process any more: another attempt has to go on."""

    exit_code = ExitCode.UNREACHABLE


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server knows of a reply before its envelope is fetched.

    Attributes:
        reply_to: id of the message that it answers.
        message_id: its own id.
        sender: node id that it claims to come from.
        envelope_id: the object with its envelope; None when it is not one of ours.
        error: Flower's error code when it is an error, else None.
    """

    reply_to: str
    message_id: str
    sender: int
    envelope_id: str | None
    error: int | None


def push(grid: HttpGrid, messages: list[Message]) -> list[str]:
    """Send messages, each distinct envelope once. Returns their ids; empty for one refused.

    Raises:
        GridLostError: an envelope was not taken.
    """
    with no_object_id_recompute():  # a hash of every envelope each time, otherwise
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
        trees = [get_object_tree(message) for message in messages]
        request = PushAppMessagesRequest(
            messages_list=[message_to_proto(remove_content_from_message(m)) for m in messages],
            message_object_trees=trees,
        )
        client = _client(grid)
        response = client.PushMessages(request)
        wanted = {flower.envelope_id(tree) for tree in trees} & set(response.objects_to_push)
        for message in messages:
            for object_id, content in get_all_nested_objects(message).items():
                if object_id in wanted:
                    wanted.remove(object_id)
                    _push_object(grid, object_id, content.deflate(), response.session_id)
    return list(response.message_ids)


def pull(grid: HttpGrid, message_ids: list[str]) -> list[Reply]:
    """Replies to these messages that have come since the last call; each is returned once."""
    response = _client(grid).PullMessages(PullAppMessagesRequest(message_ids=message_ids))
    return [
        Reply(
            reply_to=message.metadata.reply_to_message_id,
            message_id=message.metadata.message_id,
            sender=message.metadata.src_node_id,
            envelope_id=_envelope_id(tree),
            error=message.error.code if message.HasField("error") else None,
        )
        for message, tree in zip(response.messages_list, response.message_object_trees, strict=True)
    ]


def pull_envelope(grid: HttpGrid, message_id: str, object_id: str) -> bytes | None:
    """Fetch a reply's envelope and have the server forget the reply; None if it is not up yet.

    Raises:
        NotFoundError: the server has given up waiting for it.
        PeerError: the object is not an envelope.
    """
    run_id = grid.run.run_id
    response = _client(grid).PullObject(
        PullObjectRequest(node=grid.node, run_id=run_id, object_id=object_id)
    )
    if not response.object_found:
        raise NotFoundError("the reply is gone")
    if not response.object_available:
        return None
    _client(grid).ConfirmMessageReceived(
        ConfirmMessageReceivedRequest(node=grid.node, run_id=run_id, message_object_id=message_id)
    )
    return flower.from_object(response.object_content)


def _client(grid: HttpGrid) -> RuntimeHttpClient:
    return grid._runtime_client  # noqa: SLF001 - held to by the contract test


def _push_object(grid: HttpGrid, object_id: str, content: bytes, session_id: str) -> None:
    response = _client(grid).PushObject(
        PushObjectRequest(
            node=grid.node,
            run_id=grid.run.run_id,
            object_id=object_id,
            object_content=content,
            session_id=session_id,
        )
    )
    if not response.stored:
        raise GridLostError("the SuperLink did not take an envelope")


def _envelope_id(tree: ObjectTree) -> str | None:
    try:
        return flower.envelope_id(tree)
    except PeerError:
        return None
