"""The process with the data and without a network: answers sealed requests on a Unix socket.

Started by `vault_process`, which leaves the network before this module is imported. The ledger is
opened and verified before a record is read. Whoever may open the socket is the link; what the link
says is trusted no more than what the network says.
"""

import datetime as dt
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from sordino_client.admin_service import AdminService
from sordino_client.admission import SiteState
from sordino_client.admitted import AdmittedRuns
from sordino_client.approval_desk import ApprovalDesk
from sordino_client.approvals import Approvals
from sordino_client.config import SiteConfig, TrainingSection
from sordino_client.continuity import open_ledger
from sordino_client.data.loading import load_datasets
from sordino_client.data.remote_tables import RemoteTables
from sordino_client.data.storage import Spill
from sordino_client.ledger_location import ledger_location
from sordino_client.mechanisms import Engine, SiteDataset
from sordino_client.metrics import ALL_CLASSES, OUTSIDE_CLASSES, SiteMetrics
from sordino_client.outbox import Outbox
from sordino_client.reader import Reader
from sordino_client.reload import Reloader, read_rules
from sordino_client.restarts import note_end, note_start, read_restarts
from sordino_client.retention import Retention
from sordino_client.self_test_record import is_tested
from sordino_client.site import Site
from sordino_client.synthesis.mask_keys import MaskKeys, load_mask_keys
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_client.vault_client import MESSAGE_SIZE_OPTIONS
from sordino_client.vault_health import vault_checks
from sordino_client.watching import LedgerWatch, watch_site
from sordino_client.witness import WitnessStore
from sordino_protocols.audit_log import AuditLog
from sordino_protocols.daemons import wait_until_told
from sordino_protocols.errors import InputError
from sordino_protocols.health import Checks, checks_facts
from sordino_protocols.signing import TrustStore, load_public_key, load_signer
from sordino_protocols.site_pb2 import (
    MetricsReply,
    MetricsRequest,
    Sealed,
    StatusReply,
    StatusRequest,
)
from sordino_protocols.site_pb2_grpc import (
    VaultServicer,
    add_AdminServicer_to_server,
    add_VaultServicer_to_server,
)

_WORKERS = 4
_TURN_SECONDS = 0.5
_LONGEST_SOCKET_PATH = 107


def run_vault(
    config: SiteConfig,
    stop: threading.Event,
    *,
    network_cut_off: bool,
    reader: Reader | None = None,
) -> None:
    """Serve until `stop` is set.

    Args:
        config: of the site.
        stop: set when the vault shall end.
        network_cut_off: whether this process is.
        reader: reads sources that this process cannot reach; gone before anything is served.

    Raises:
        InputError: policy, data set or key files are wrong; names the file and the fix.
        IntegrityError: the ledger does not hold together; nothing is served.
    """
    log = structlog.get_logger(component="vault", site=config.site.name)
    config.site.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    note_start(config.site.state)
    remote = None if reader is None else RemoteTables(reader, stop=stop)
    services = _open_services(config, network_cut_off=network_cut_off, remote=remote)
    server = grpc.server(ThreadPoolExecutor(_WORKERS), options=MESSAGE_SIZE_OPTIONS)
    add_VaultServicer_to_server(services.vault, server)  # type: ignore[no-untyped-call]  # generated
    admin = grpc.server(ThreadPoolExecutor(1))
    add_AdminServicer_to_server(services.admin, admin)  # type: ignore[no-untyped-call]  # generated
    _start(server, config.site.socket, key="site.socket")
    if has_admin := _has_admin_socket(config):
        _start(admin, config.admin_socket, key="site.admin_socket")
    else:
        log.warning("no_admin_socket", help="name a shorter path as site.admin_socket")
    services.retention.start(stop)
    log.info("ready", network_cut_off=network_cut_off)
    wait_until_told(stop, on_hangup=services.reloader.reload)
    if has_admin:
        admin.stop(grace=1).wait()
    server.stop(grace=5).wait()
    note_end(config.site.state)
    log.info("stopped")


def _has_admin_socket(config: SiteConfig) -> bool:
    """Nobody chose the default path: a state directory that is deep must not stop the vault."""
    is_short = len(os.fsencode(config.admin_socket)) <= _LONGEST_SOCKET_PATH
    return is_short or config.site.admin_socket is not None


def _start(server: grpc.Server, socket: Path, *, key: str) -> None:
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError:
        raise InputError(
            f"{socket}: no socket can be made here; {key} must be a path of at most"
            f" {_LONGEST_SOCKET_PATH} bytes in a directory that the vault may write to"
        ) from None
    server.start()
    socket.chmod(0o660)


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """What a vault is.

    Attributes:
        name: the site's.
        datasets: what it serves.
        network_cut_off: whether the kernel cut it off from every network.
    """

    name: str
    datasets: Mapping[str, SiteDataset]
    network_cut_off: bool


class VaultService(VaultServicer):
    """`sordino.site.v1.Vault`."""

    def __init__(
        self,
        site: Site,
        metrics: SiteMetrics,
        facts: VaultFacts,
        desk: ApprovalDesk,
        reloader: Reloader,
        *,
        checks: Checks,
    ) -> None:
        self._site = site
        self._metrics = metrics
        self._facts = facts
        self._desk = desk
        self._reloader = reloader
        self._checks = checks
        self._turn = threading.Lock()

    def Answer(self, request: Sealed, call: grpc.ServicerContext) -> Sealed:  # noqa: N802
        """Answer one envelope with one envelope, one after the other."""
        while not self._turn.acquire(timeout=_TURN_SECONDS):
            # Whoever asked has given up, and will ask again: a thread that waits serves nobody.
            if not call.is_active():
                return Sealed()
        try:
            return Sealed(envelope=self._site.answer(request.envelope))
        finally:
            self._turn.release()

    def Status(self, _: StatusRequest, __: grpc.ServicerContext) -> StatusReply:  # noqa: N802
        """Public facts: data sets by schema, budgets, the ledger's head, what people must do."""
        facts = {
            "site": self._facts.name,
            "network_cut_off": self._facts.network_cut_off,
            "datasets": {
                name: {
                    "lineage": each.schema.lineage,
                    "schema_sha256": each.schema.digest(),
                    "order_of_magnitude": each.schema.dataset.order_of_magnitude,
                    "feature_count": each.schema.feature_count,
                }
                for name, each in self._facts.datasets.items()
            },
            "approvals_waiting": self._desk.waiting(),
            "rules_problem": self._reloader.problem,
            "checks": checks_facts(self._checks.evaluate()),
            **self._site.status(),
        }
        return StatusReply(json=json.dumps(facts))

    def Metrics(self, _: MetricsRequest, __: grpc.ServicerContext) -> MetricsReply:  # noqa: N802
        """Metrics that may leave the vault; never those of the class `local`."""
        return MetricsReply(text=self._metrics.text(OUTSIDE_CLASSES))


@dataclass(frozen=True, slots=True)
class _Services:
    """What a vault serves, and what it does when it is told to read its rules again."""

    vault: VaultService
    admin: AdminService
    reloader: Reloader
    retention: Retention


def _open_services(
    config: SiteConfig, *, network_cut_off: bool, remote: RemoteTables | None
) -> _Services:
    section, rules = config.site, read_rules(config)
    section.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    metrics, outbox = SiteMetrics(), Outbox(section.state / "outbox")
    ledger = open_ledger(ledger_location(config), outbox, now=_now, observe_fsync=metrics.fsynced)
    signer = load_signer(section.signing_key, section.name)
    server_key = load_public_key(section.server_key)
    datasets = load_datasets(
        section.datasets,
        section.state / "split.key",
        spill=Spill(section.state),
        remote=remote,
    )
    for name, each in datasets.items():
        ledger.link(dataset=name, lineage=each.schema.lineage)
    runs = AdmittedRuns(section.state / "runs")
    audit_log = AuditLog(config.audit_log_path, now=_now)
    approvals = Approvals(section.state / "approvals", site=section.name, now=_now)
    state = SiteState(ledger, outbox, runs, approvals, audit_log, WitnessStore(config.witness_path))
    site = Site(
        signer,
        TrustStore({section.server_key.stem: server_key}),
        rules,
        datasets=datasets,
        state=state,
        engine=_engine(config.training, metrics),
        metrics=metrics,
        network_cut_off=network_cut_off,
        now=_now,
        masks=_mask_keys(config),
    )
    if ledger.halted is not None:
        site.note_halted(ledger.halted)
    reloader = Reloader(config, site, audit_log)
    desk = ApprovalDesk(approvals, runs, ledger, datasets, audit_log, lambda: site.rules)
    watch = LedgerWatch(ledger)
    watch_site(metrics, state, desk, site, name=section.name, watch=watch, datasets=datasets)
    metrics.watch("sordino_self_test_success", lambda: is_tested(config))
    metrics.watch("sordino_trainer_restarts_total", lambda: read_restarts(section.state))
    facts = VaultFacts(section.name, datasets, network_cut_off)
    checks = vault_checks(config, site, watch, reloader, network_cut_off=network_cut_off)
    return _Services(
        VaultService(site, metrics, facts, desk, reloader, checks=checks),
        AdminService(desk, site=section.name, local_metrics=lambda: metrics.text(ALL_CLASSES)),
        reloader,
        Retention(outbox, state.witness, ledger, keep_days=section.keep_releases_days),
    )


def _mask_keys(config: SiteConfig) -> MaskKeys | None:
    """The keys with which this site takes part in sums; None where it takes part in none.

    Raises:
        NotFoundError: a file or the directory is absent.
        InputError: a key file is wrong.
    """
    if config.site.mask_key is None:
        return None
    return load_mask_keys(config.site.mask_key, config.peers, site=config.site.name)


def _engine(section: TrainingSection, metrics: SiteMetrics) -> Engine:
    """How this site computes.

    Raises:
        InputError: the device is not there.
    """
    performance = Performance(device=section.device, compile=section.compile)
    return Engine(SecureNoise(), performance, metrics.tallied)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
