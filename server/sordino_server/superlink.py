"""Flower's SuperLink inside the server's daemon: the one adapter to its internals.

One application, two listeners: the public one (TLS) passes what a site may ask, the admin one
(loopback) what the server's own app asks. Administration (registering a site, starting a run) is a
function call in this process; Flower's Control API, which has no authentication, is served nowhere.
Always: process isolation with a secret, node authentication, a database on disk, no installation of
what a bundle asks for.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fastapi import FastAPI
from flwr.common.constant import (
    ISOLATION_MODE_PROCESS,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    TRANSPORT_TYPE_GRPC_RERE,
)
from flwr.common.serde import user_config_to_proto
from flwr.proto.control_pb2 import (
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.fab_pb2 import Fab
from flwr.server.superlink.linkstate import LinkState
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.auth.typing import AccountInfo
from flwr.supercore.constant import NodeStatus
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.object_store.sql_object_store import SqlObjectStore
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.servicer.control import control_handlers
from sqlalchemy import event
from sqlalchemy.engine.interfaces import DBAPIConnection
from starlette.middleware.base import BaseHTTPMiddleware

from sordino_protocols.errors import InputError, NotFoundError
from sordino_server.listeners import LOOPBACK, Listeners, ListenerSettings
from sordino_server.superexec import SuperExec, SuperExecSettings, make_secret

_ACCOUNT = AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)
_BUSY_MILLISECONDS = 60_000
_CLEAN_SECONDS = 1.0
_NEEDED_LAYERS = (BaseHTTPMiddleware, ProtobufTranslationMiddleware)

_log = structlog.get_logger(component="server")


class RunStatus(StrEnum):
    """How far a run is, in Flower's eyes."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RegisteredNode:
    """A site as the SuperLink knows it.

    Attributes:
        name: the site's name.
        node_id: Flower's number for it.
        is_online: whether its heartbeat is alive.
        last_online: ISO 8601 time of when it last joined; empty before the first time.
    """

    name: str
    node_id: int
    is_online: bool
    last_online: str


@dataclass(frozen=True, slots=True)
class SuperLinkSettings:
    """What a SuperLink needs.

    Attributes:
        directory: its own folder: database, secret, unpacked bundles, SuperExec's log.
        public_address: `host:port` to serve sites at; port 0 picks a free one.
        certificate: the server's certificate, PEM, with the whole chain.
        private_key: its key, PEM.
        admin_port: port on loopback for the server's own app; 0 picks a free one.
        hold_seconds: how long a poll without news is held.
    """

    directory: Path
    public_address: str
    certificate: Path
    private_key: Path
    admin_port: int = 0
    hold_seconds: float = 2.0


class SuperLink:
    """A SuperLink in this process, on threads of its own.

    Not restartable: after `stop`, make another one on the same directory; runs, sites and messages
    are in its database.
    """

    def __init__(self, settings: SuperLinkSettings) -> None:
        _quiet_flower()
        directory = settings.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret_file = directory / "superexec.secret"
        app = _make_app(directory / "superlink.db", make_secret(secret_file))
        self._state: LinkState = app.state.linkstate_factory.state()
        _raise_busy_timeout(self._state)
        _clean_at_most_once_a_second(self._state)
        self._listeners = Listeners(
            app,
            ListenerSettings(
                public_address=settings.public_address,
                admin_port=settings.admin_port,
                certificate=settings.certificate,
                private_key=settings.private_key,
                hold_seconds=settings.hold_seconds,
            ),
        )
        self._superexec = SuperExec(
            SuperExecSettings(
                runtime_address=f"{LOOPBACK}:{self._listeners.admin_port}",
                secret_file=secret_file,
                flower_home=directory / "flower",
                log_file=directory / "superexec.log",
            )
        )

    @property
    def public_port(self) -> int:
        """Port of the listener for sites."""
        return self._listeners.public_port

    @property
    def admin_port(self) -> int:
        """Port, on loopback, of the listener for the server's own app."""
        return self._listeners.admin_port

    @property
    def superexec_pid(self) -> int | None:
        """Process id of SuperExec while it runs."""
        return self._superexec.pid

    def start(self) -> None:
        """Serve. Returns when both listeners accept connections.

        Raises:
            UnreachableError: they did not come up.
        """
        self._listeners.start()
        self._superexec.start()
        _log.info("superlink_started", port=self.public_port)

    def stop(self) -> None:
        """Stop SuperExec, running server apps and both listeners."""
        self._superexec.stop()
        self._listeners.stop()
        _log.info("superlink_stopped")

    def register_node(self, name: str, public_key: bytes) -> int:
        """Let a site in. Returns its node id; the same one when it is registered already.

        Args:
            name: the site's name.
            public_key: its key, EC P-384, in OpenSSH format.

        Raises:
            InputError: the key is unusable, or the name or key belongs to another site.
        """
        key = public_key_to_bytes(_read_key(public_key))
        known = {node.name: node for node in self.nodes()}
        holder = self._state.get_node_id_by_public_key(key)
        if name in known:
            if holder != known[name].node_id:
                raise InputError(f"site {name!r} is registered with another key")
            return known[name].node_id
        if holder is not None:
            raise InputError(f"the key given for site {name!r} belongs to another site")
        request = RegisterNodeRequest(public_key=key, name=name)
        try:
            return control_handlers.register_node(request, _ACCOUNT, self._state).node_id
        except FlowerError as error:
            raise InputError(f"site {name!r} cannot be registered: {error.code}") from error

    def unregister_node(self, name: str) -> None:
        """Shut a site out, at once and for good: its key cannot be registered again.

        Raises:
            NotFoundError: no such site.
        """
        node = next((each for each in self.nodes() if each.name == name), None)
        if node is None:
            raise NotFoundError(f"no site is registered as {name!r}")
        request = UnregisterNodeRequest(node_id=node.node_id)
        control_handlers.unregister_node(request, _ACCOUNT, self._state)

    def nodes(self) -> list[RegisteredNode]:
        """Every registered site, by name."""
        nodes = [
            RegisteredNode(
                name=info.name,
                node_id=info.node_id,
                is_online=info.status == NodeStatus.ONLINE,
                last_online=info.last_activated_at,
            )
            for info in self._state.get_node_info(owner_aids=[_ACCOUNT.flwr_aid])
            if info.status != NodeStatus.UNREGISTERED
        ]
        return sorted(nodes, key=lambda node: node.name)

    def start_run(self, fab: bytes, run_config: Mapping[str, str] | None = None) -> int:
        """Start a run; SuperExec picks it up within a fraction of a second. Returns its id.

        Args:
            fab: a bundle of `bundle.build_fab`.
            run_config: overrides of settings that the bundle names.

        Raises:
            InputError: Flower refuses the bundle or an override.
        """
        request = StartRunRequest(
            fab=Fab(content=fab), override_config=user_config_to_proto(dict(run_config or {}))
        )
        try:
            reply = control_handlers.start_run(
                request, _ACCOUNT, self._state, TRANSPORT_TYPE_GRPC_RERE
            )
        except FlowerError as error:
            raise InputError(f"the run cannot be started: {error.message}") from error
        if not reply.HasField("run_id"):
            raise InputError("the run cannot be started: the bundle is too large")
        return reply.run_id

    def stop_run(self, run_id: int) -> bool:
        """Stop a run: its app ends and its messages are dropped. False when it was over already.

        Raises:
            NotFoundError: no such run.
        """
        try:
            return control_handlers.stop_run(
                StopRunRequest(run_id=run_id), _ACCOUNT, self._state
            ).success
        except FlowerError as error:
            if error.code == ApiErrorCode.RUN_ALREADY_FINISHED:
                return False
            raise NotFoundError(f"no run {run_id}") from error

    def run_status(self, run_id: int) -> RunStatus:
        """How far a run is.

        Raises:
            NotFoundError: no such run.
        """
        runs = self._state.get_run_info(run_ids=[run_id])
        if not runs:
            raise NotFoundError(f"no run {run_id}")
        status = runs[0].status
        return RunStatus(status.sub_status or status.status)


class _WithoutData(logging.Filter):
    """Drops what a failed query carried from Flower's log: models, of any size."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict):
            record.msg = {"query": record.msg.get("query")}
        return True


def _quiet_flower() -> None:
    logger = logging.getLogger("flwr")
    logger.setLevel(logging.WARNING)
    if not any(isinstance(each, _WithoutData) for each in logger.filters):
        logger.addFilter(_WithoutData())


def _make_app(database: Path, secret: bytes) -> FastAPI:
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host=LOOPBACK,
        port=0,
        insecure=False,
        certificates=None,
        superexec_auth_secret=secret,
        authn_plugin=NoOpControlAuthnPlugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(database),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    app = create_app(config, SuperLinkLifespan)
    # Nine layers wrap every request; seven of them only look at paths that no gate lets through
    # (control) or that never come this way (fleet). They were a fifth of the server's time.
    app.user_middleware = [
        each
        for each in app.user_middleware
        if each.cls in _NEEDED_LAYERS  # type: ignore[comparison-overlap]  # Starlette types a factory
    ]
    return app


def _raise_busy_timeout(state: LinkState) -> None:
    """Wait a minute for the database instead of 5 s: a model of 400 MB takes seconds to write."""
    if not isinstance(state, SqlLinkState) or not isinstance(state.object_store, SqlObjectStore):
        raise InputError("the SuperLink's database must be a file")
    for engine in (state._engine, state.object_store._engine):  # noqa: SLF001 - no public way
        if engine is None:
            raise InputError("the SuperLink's database is not open")
        event.listen(engine, "connect", _set_busy_timeout)
        engine.dispose()  # connections made before this keep Flower's 5 s


def _clean_at_most_once_a_second(state: LinkState) -> None:
    """Flower looks for dead server apps, in a transaction of two updates, at nearly every request.

    That was a seventh of the server's time in a round. A second later is early enough: an app is
    dead when it has been silent for much longer than that.
    """
    if not isinstance(state, SqlLinkState):
        raise InputError("the SuperLink's database must be a file")
    clean = state._cleanup_expired_task_tokens  # noqa: SLF001 - held to by the contract test
    next_at = 0.0

    def clean_rarely() -> None:
        nonlocal next_at
        now = time.monotonic()
        if now >= next_at:
            next_at = now + _CLEAN_SECONDS
            clean()

    state._cleanup_expired_task_tokens = clean_rarely  # type: ignore[method-assign]  # noqa: SLF001


def _set_busy_timeout(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    cursor.close()


def _read_key(public_key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_ssh_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("a site's key must be in OpenSSH format") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise InputError("a site's key must be on the curve P-384 (ecdsa-sha2-nistp384)")
    return key
