"""Flower's Fleet API, as sites need it, without the application around it.

Flower's own application passes each request through ten layers and a hundred routes: half the time
of a request. Here its handlers are called directly, after its own check of who asks, and only those
of a site's eight requests exist: no other request can reach anything, whatever it is called.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from fastapi import FastAPI, HTTPException, Request
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.error import FlowerError
from flwr.supercore.error.catalog import API_ERROR_MAP
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from flwr.superlink.servicer.fleet import fleet_handlers as handlers
from google.protobuf.message import DecodeError, Message
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PREFIX = "/v1/fleet/"

_PROTOBUF = "application/protobuf"

_RequestT = TypeVar("_RequestT", bound=Message)
_Authenticate = Callable[[Message], None]
_Serve = Callable[[bytes, _Authenticate, LinkState], Message]


def _route(
    request_type: type[_RequestT], handle: Callable[[_RequestT, LinkState], Message]
) -> _Serve:
    """Read the request, check who asks, and only then handle it."""

    def serve(body: bytes, authenticate: _Authenticate, state: LinkState) -> Message:
        request = request_type()
        request.ParseFromString(body)
        authenticate(request)
        return handle(request, state)

    return serve


def _pull_messages(request: PullMessagesRequest, state: LinkState) -> Message:
    return handlers.pull_messages(request, state, state.object_store)


def _confirm(request: ConfirmMessageReceivedRequest, state: LinkState) -> Message:
    return handlers.confirm_message_received(request, state, state.object_store)


_ROUTES: Mapping[str, _Serve] = {
    PREFIX + "activate-node": _route(ActivateNodeRequest, handlers.activate_node),
    PREFIX + "deactivate-node": _route(DeactivateNodeRequest, handlers.deactivate_node),
    PREFIX + "send-node-heartbeat": _route(SendNodeHeartbeatRequest, handlers.send_node_heartbeat),
    PREFIX + "pull-messages": _route(PullMessagesRequest, _pull_messages),
    PREFIX + "pull-object": _route(PullObjectRequest, handlers.pull_object),
    PREFIX + "confirm-message-received": _route(ConfirmMessageReceivedRequest, _confirm),
    PREFIX + "push-messages": _route(PushMessagesRequest, handlers.push_messages),
    PREFIX + "push-object": _route(PushObjectRequest, handlers.push_object),
}


class FleetApi:
    """An ASGI application: a site's eight requests and `/health`."""

    def __init__(self, app: FastAPI) -> None:
        """Serve from the state of Flower's application, whose lifespan is run elsewhere."""
        self._app = app
        self._state: LinkState = app.state.linkstate_factory.state()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. What Flower's handlers raise unforeseen becomes a bare 500."""
        request = Request({**scope, "app": self._app, "state": {}}, receive)
        if scope["path"] == "/health":
            response = Response()
        elif (serve := _ROUTES.get(scope["path"])) is None:
            response = Response(status_code=404)
        else:
            body = await request.body()
            response = await run_in_threadpool(self._respond, serve, request, body)
        await response(scope, receive, send)

    def _respond(self, serve: _Serve, request: Request, body: bytes) -> Response:
        def authenticate(message: Message) -> None:
            request.state.protobuf_request = message
            authenticate_node(request)

        try:
            reply = serve(body, authenticate, self._state)
        except DecodeError:
            return Response(status_code=400)
        except HTTPException as error:
            return Response(status_code=error.status_code)
        except FlowerError as error:
            return Response(status_code=API_ERROR_MAP[error.code].http_status_code)
        return Response(reply.SerializeToString(), media_type=_PROTOBUF)
