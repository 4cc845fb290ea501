"""A site's place in the federation: the one adapter to Flower's Fleet client.

Uses the requests of Flower's own client and none of its loop: that loop fetches an app bundle (code
pushed by the server), ends the process on a rejection, and waits seconds where milliseconds do.
What must stay true here: a bundle or a run's description is never asked for, no payload is logged,
and no answer of the server can end this process.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import structlog
from flwr.app import Error, Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from sordino_client.link_tls import LinkTls, certificate_problem, describe_failure, read_node_key
from sordino_client.server_answers import ServerAnswers
from sordino_protocols import flower
from sordino_protocols.errors import AuthenticationError, PeerError, UnreachableError

HEARTBEAT_SECONDS = 10.0
"""What we promise the server: the least that Flower takes.

It calls a site offline after twice that without a sign of life, and so long turns away a new link
with the key of one that was killed.
"""

_HEARTBEATS_PER_PROMISE = 3
_ACTIVATION_SECONDS = 90.0  # an old link's promise lasts 20 s, Flower's own SuperNode's 60 s
_REQUEST_SECONDS = 120.0
_RETRY_FIRST_SECONDS = 0.05
_RETRY_LAST_SECONDS = 5.0

_RequestT = TypeVar("_RequestT")
_ResponseT = TypeVar("_ResponseT")

_log = structlog.get_logger(component="link")


class RunEndedError(PeerError):
    """The run that a message belongs to is over: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """How a site reaches its server.

    Attributes:
        server_address: `host:port` of the server's public listener.
        ca_certificate: the certificate authority that signed the server's certificate, PEM; no
            other authority is trusted.
        node_key: this site's key, EC P-384 in OpenSSH format, unencrypted.
        certificate: this site's TLS certificate, PEM; None where the server asks for none.
        private_key: its key.
    """

    server_address: str
    ca_certificate: Path
    node_key: Path
    certificate: Path | None = None
    private_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message from the server.

    Attributes:
        envelope: what it carries, unread and untrusted.
        run_id: Flower's number of the run.
        sender: Flower's number of the sending node.
        expires_at: Unix time after which nobody waits for the answer, seconds.
        message: Flower's message without its content, which an answer refers to.
    """

    envelope: bytes
    run_id: int
    sender: int
    expires_at: float
    message: Message


class Fleet:
    """An activated node. Made by `join`; one thread at a time may use it."""

    def __init__(self, requests: "_Requests", node: Node) -> None:
        self._requests = requests
        self._node = node

    def pull(self) -> Inbound | None:
        """Take the next message, if there is one; None as well when we were asked to stop.

        Waits out a server that is away. Costs one request when there is nothing, three for a
        message. A message taken is not handed out again.

        Raises:
            AuthenticationError: the server does not accept this site's key.
            PeerError: the message is malformed; it was answered with an error code.
        """
        client = self._requests.client
        request = PullMessagesRequest(node=self._node)
        try:
            response = self._requests.send(client.PullMessages, request)
            if not response.messages_list:
                return None
            message = message_from_proto(response.messages_list[0])
            return self._fetch(message, response.message_object_trees[0])
        except (RunEndedError, UnreachableError):
            return None  # nobody waits for an answer any more, or we were asked to stop

    def push(self, inbound: Inbound, envelope: bytes) -> bool:
        """Answer a message. False when nobody waits any more: run over, or time is up.

        Raises:
            AuthenticationError: the server does not accept this site's key.
            PeerError: the server refuses the answer.
        """
        reply = Message(flower.to_record(envelope), reply_to=inbound.message)
        return self._push(reply, until=inbound.expires_at)

    def push_failure(self, inbound: Inbound) -> bool:
        """Answer that this site failed, without a word why. Otherwise as `push`."""
        return self._push(_failure(inbound.message), until=inbound.expires_at)

    def _fetch(self, message: Message, tree: ObjectTree) -> Inbound:
        metadata = message.metadata
        expires_at = metadata.created_at + metadata.ttl
        try:
            content = self._pull_object(metadata.run_id, flower.envelope_id(tree), until=expires_at)
            envelope = flower.from_object(content)
        except RunEndedError:
            raise
        except PeerError:
            self._push(_failure(message), until=expires_at)
            raise
        received = ConfirmMessageReceivedRequest(
            node=self._node, run_id=metadata.run_id, message_object_id=metadata.message_id
        )
        confirm = self._requests.client.ConfirmMessageReceived
        self._requests.send(confirm, received, until=expires_at)
        return Inbound(
            envelope=envelope,
            run_id=metadata.run_id,
            sender=metadata.src_node_id,
            expires_at=expires_at,
            message=message,
        )

    def _pull_object(self, run_id: int, object_id: str, *, until: float) -> bytes:
        """Fetch one object; the server announces a message before its objects are there."""
        request = PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
        pull = self._requests.client.PullObject
        for delay in _delays():
            response: PullObjectResponse = self._requests.send(pull, request, until=until)
            if not response.object_found:
                raise PeerError("the server announced a message whose content is not there")
            if response.object_available:
                return response.object_content
            self._requests.wait(delay, until=until)
        raise AssertionError("delays never end")

    def _push(self, reply: Message, *, until: float) -> bool:
        try:
            with no_object_id_recompute():  # a hash of the whole envelope each time, otherwise
                reply.metadata.__dict__["_message_id"] = reply.object_id
                self._push_object(reply, until=until)
        except (RunEndedError, UnreachableError) as error:
            _log.warning("answer_dropped", run_id=reply.metadata.run_id, reason=str(error))
            return False
        return True

    def _push_object(self, reply: Message, *, until: float) -> None:
        client = self._requests.client
        tree = get_object_tree(reply)
        request = PushMessagesRequest(
            node=self._node,
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree],
            clientapp_runtime_list=[0.0],
        )
        response = self._requests.send(client.PushMessages, request, until=until)
        # Of a reply's three objects the receiver asks for this one alone; an error has none.
        object_id = flower.envelope_id(tree) if reply.has_content() else tree.object_id
        if object_id in response.objects_to_push:
            push = PushObjectRequest(
                node=self._node,
                run_id=reply.metadata.run_id,
                object_id=object_id,
                object_content=get_all_nested_objects(reply)[object_id].deflate(),
                session_id=response.session_id,
            )
            self._requests.send(client.PushObject, push, until=until)


@contextmanager
def join(
    settings: FleetSettings, stop: threading.Event, *, answers: ServerAnswers | None = None
) -> Iterator[Fleet]:
    """Activate this site's node, keep its heartbeat, and sign it off at the end.

    Waits for a server that is away, until `stop` is set. A link that was killed leaves a promise
    behind (20 s) during which the server turns a second one away: that too is waited out.

    Args:
        settings: how to reach the server.
        stop: set to give up.
        answers: told of every answer of the server; None where nobody wants to know.

    Raises:
        InputError: the key or the certificate cannot be used.
        AuthenticationError: the server turned this key away for 90 s.
        UnreachableError: asked to stop before the server answered.
    """
    key = read_node_key(settings.node_key)
    tls = LinkTls(settings.ca_certificate, settings.certificate, settings.private_key)
    client = FleetHttpClient(
        f"https://{settings.server_address}",
        interceptors=[NodeAuthHttpInterceptor(key, key.public_key()), answers or ServerAnswers()],
        verify=tls.context,
        timeout=_REQUEST_SECONDS,
    )
    with client:
        requests = _Requests(client, stop, tls)
        node = Node(node_id=_activate(requests, public_key_to_bytes(key.public_key())))
        _log.info("joined", server=settings.server_address)
        heartbeat = _Heartbeat(client, node)
        heartbeat.start()
        try:
            yield Fleet(requests, node)
        finally:
            heartbeat.stop()
            _sign_off(client, node)


class _Requests:
    """Sends a request until it is answered, refused, too late, or we are asked to stop."""

    def __init__(self, client: FleetHttpClient, stop: threading.Event, tls: LinkTls) -> None:
        self.client = client
        self.stop = stop
        self._tls = tls

    def send(
        self,
        method: Callable[[_RequestT], _ResponseT],
        request: _RequestT,
        *,
        until: float = math.inf,
    ) -> _ResponseT:
        """Send with bounded back-off.

        Raises:
            AuthenticationError: the server refused the key, or its certificate is not trusted.
            RunEndedError: the run is over.
            PeerError: the server refused the request for another reason.
            UnreachableError: no answer until `until` (Unix time), or asked to stop.
        """
        for delay in _delays():
            self._tls.renew()
            try:
                return method(request)
            except httpx.HTTPStatusError as error:
                _raise_for(error.response.status_code)
                reason = f"status {error.response.status_code}"
            except httpx.TransportError as error:
                self._raise_for_certificate(error)
                reason = describe_failure(error)
            _log.warning("server_unreachable", reason=reason, retry_seconds=round(delay, 2))
            self.wait(delay, until=until)
        raise AssertionError("delays never end")

    def _raise_for_certificate(self, error: httpx.TransportError) -> None:
        problem = certificate_problem(error) or self._tls.own_problem()
        if problem is not None:
            raise AuthenticationError(problem) from error

    def wait(self, seconds: float, *, until: float) -> None:
        """Wait, unless that is too late or we are asked to stop: then raise UnreachableError."""
        if time.time() + seconds > until:
            raise UnreachableError("the server did not answer in time")
        if self.stop.wait(seconds):
            raise UnreachableError("asked to stop before the server answered")


class _Heartbeat:
    """Tells the server, from a thread of its own, that this site is there.

    Failures are only logged: the next pull finds out what is wrong.
    """

    def __init__(self, client: FleetHttpClient, node: Node) -> None:
        self._client = client
        self._request = SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_SECONDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS / _HEARTBEATS_PER_PROMISE):
            try:
                self._client.SendNodeHeartbeat(self._request)
            except (httpx.HTTPError, RuntimeError) as error:
                _log.warning("heartbeat_failed", reason=type(error).__name__)


def _activate(requests: _Requests, public_key: bytes) -> int:
    request = ActivateNodeRequest(public_key=public_key, heartbeat_interval=HEARTBEAT_SECONDS)
    give_up_at = time.monotonic() + _ACTIVATION_SECONDS
    while True:
        try:
            return requests.send(requests.client.ActivateNode, request).node_id
        except PeerError as error:
            # The server answers alike for a key it does not know and for one still in use.
            if time.monotonic() > give_up_at:
                raise AuthenticationError(
                    "the server turned this site's key away: it is not registered there, or "
                    "another link is running with it"
                ) from error
            _log.info("activation_refused", retry_seconds=1.0)
            requests.wait(1.0, until=math.inf)


def _sign_off(client: FleetHttpClient, node: Node) -> None:
    try:
        client.DeactivateNode(DeactivateNodeRequest(node_id=node.node_id))
    except (httpx.HTTPError, RuntimeError) as error:
        _log.info("sign_off_failed", reason=type(error).__name__)


def _failure(message: Message) -> Message:
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION), reply_to=message)


def _raise_for(status: int) -> None:
    """Raise for what a repetition cannot change; return for what it can."""
    if status == httpx.codes.UNAUTHORIZED:
        raise AuthenticationError(
            "the server does not accept this site's key (unregistered since it joined, or the "
            "clocks differ by more than 5 s)"
        )
    if status == httpx.codes.FORBIDDEN:
        raise RunEndedError("the run is over")
    if status < httpx.codes.INTERNAL_SERVER_ERROR and status != httpx.codes.TOO_MANY_REQUESTS:
        raise PeerError(f"the server refused the request with status {status}")


def _delays() -> Iterator[float]:
    """Back-off without end: doubling from 50 ms to 5 s, each up to half as long again."""
    delay = _RETRY_FIRST_SECONDS
    while True:
        yield delay * (1 + random.random() / 2)  # noqa: S311 - spreads retries, guards nothing
        delay = min(2 * delay, _RETRY_LAST_SECONDS)
