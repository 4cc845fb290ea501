"""Flower's SuperLink inside the server's daemon: the adapter to it, with `superlink_app`.

One application, two listeners: the public one (TLS) passes what a site may ask, the admin one
(loopback) what the server's own app asks. Administration (registering a site, starting a run) is a
function call in this process; Flower's Control API, which has no authentication, is served nowhere.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.constant import (
    HEARTBEAT_PATIENCE,
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
from flwr.proto.node_pb2 import NodeInfo
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.auth.typing import AccountInfo
from flwr.supercore.constant import NodeStatus
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.servicer.control import control_handlers

from sordino_protocols.errors import InputError, NotFoundError
from sordino_server.auth_failures import AuthFailure
from sordino_server.listeners import LOOPBACK, Listeners, ListenerSettings
from sordino_server.superexec import SuperExec, SuperExecSettings, make_secret
from sordino_server.superlink_app import make_app, quiet_flower
from sordino_server.superlink_database import (
    compact,
    drop_leftovers,
    look_for_dead_apps_rarely,
    wait_for_writers,
)
from sordino_server.tls import TlsFiles

_ACCOUNT = AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)

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
        last_seen: its last sign of life; None before the first.
    """

    name: str
    node_id: int
    is_online: bool
    last_online: str
    last_seen: dt.datetime | None = None


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
        client_ca: whose certificates sites must show to connect; None: none.
    """

    directory: Path
    public_address: str
    certificate: Path
    private_key: Path
    admin_port: int = 0
    hold_seconds: float = 2.0
    client_ca: Path | None = None


class SuperLink:
    """A SuperLink in this process, on threads of its own.

    Not restartable: after `stop`, make another one on the same directory; runs, sites and messages
    are in its database.
    """

    def __init__(
        self,
        settings: SuperLinkSettings,
        *,
        on_stranger: Callable[[AuthFailure], None] = lambda _: None,
    ) -> None:
        """Open database and sockets.

        Args:
            settings: what it needs.
            on_stranger: told what was wrong when a caller for a site turned out to be none.
        """
        quiet_flower()
        directory = settings.directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        secret_file = directory / "superexec.secret"
        database = directory / "superlink.db"
        compact(database)
        app = make_app(database, make_secret(secret_file))
        self._state: LinkState = app.state.linkstate_factory.state()
        wait_for_writers(self._state)
        look_for_dead_apps_rarely(self._state)
        drop_leftovers(self._state)
        self._listeners = Listeners(
            app,
            ListenerSettings(
                public_address=settings.public_address,
                admin_port=settings.admin_port,
                tls=TlsFiles(settings.certificate, settings.private_key, settings.client_ca),
                hold_seconds=settings.hold_seconds,
            ),
            on_stranger=on_stranger,
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

    def renew_tls(self) -> None:
        """Read the public listener's certificates again; see `Listeners.renew_tls`."""
        self._listeners.renew_tls()

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
                last_seen=_last_seen(info),
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

    def drop_messages(self, run_id: int) -> None:
        """Delete what is left of a run that is over: asked of sites that were away, come too late.

        Flower does so when it is asked about the run, which here nobody does any more.
        """
        self._state.cleanup_run(run_id)

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

    def is_orphaned(self, run_id: int) -> bool:
        """Whether a run has been taken, and no process of this server works on it.

        So it is as well in the moment between taking a run and starting its app. Flower finds out
        by itself, from a heartbeat that stays away: half a minute to a whole one later.

        Raises:
            NotFoundError: no such run.
        """
        if self.run_status(run_id) not in {RunStatus.STARTING, RunStatus.RUNNING}:
            return False
        tasks = [self._state.get_task_by_token(token) for token in self._superexec.app_tokens()]
        return all(task is None or task.run_id != run_id for task in tasks)


def _last_seen(info: NodeInfo) -> dt.datetime | None:
    """Flower keeps until when a node counts as online: its last sign of life, and some patience."""
    if not info.HasField("online_until"):
        return None
    seconds = info.online_until - HEARTBEAT_PATIENCE * info.heartbeat_interval
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC)


def _read_key(public_key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_ssh_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError("a site's key must be in OpenSSH format") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise InputError("a site's key must be on the curve P-384 (ecdsa-sha2-nistp384)")
    return key
