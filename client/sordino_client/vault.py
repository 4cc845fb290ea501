"""The process with the data and without a network: answers sealed requests on a Unix socket.

Started by `vault_process`, which leaves the network before this module is imported. The ledger is
opened and verified before a record is read. Whoever may open the socket is the link; what the link
says is trusted no more than what the network says.
"""

import datetime as dt
import json
import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import structlog

from sordino_client.admitted import AdmittedRuns
from sordino_client.config import SiteConfig, TrainingSection
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.data.storage import Spill
from sordino_client.data.table import split
from sordino_client.ledger import Ledger
from sordino_client.mechanisms import Engine, SiteDataset
from sordino_client.metrics import ReleaseClass, SiteMetrics
from sordino_client.outbox import Outbox, write_durably
from sordino_client.policy import load_policy
from sordino_client.site import Site, SiteState, SiteTrust
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_client.vault_client import MESSAGE_SIZE_OPTIONS
from sordino_protocols.daemons import wait_until_told
from sordino_protocols.errors import InputError, IntegrityError
from sordino_protocols.signing import TrustStore, load_public_key, load_signer, load_trust
from sordino_protocols.site_pb2 import (
    MetricsReply,
    MetricsRequest,
    Sealed,
    StatusReply,
    StatusRequest,
)
from sordino_protocols.site_pb2_grpc import VaultServicer, add_VaultServicer_to_server

_SPLIT_KEY_BYTES = 32
_WORKERS = 4


def run_vault(config: SiteConfig, stop: threading.Event, *, network_cut_off: bool) -> None:
    """Serve until `stop` is set.

    Raises:
        InputError: policy, data set or key files are wrong; names the file and the fix.
        IntegrityError: the ledger does not hold together; nothing is served.
    """
    log = structlog.get_logger(component="vault", site=config.site.name)
    service = _open_service(config, network_cut_off=network_cut_off)
    server = grpc.server(ThreadPoolExecutor(_WORKERS), options=MESSAGE_SIZE_OPTIONS)
    add_VaultServicer_to_server(service, server)  # type: ignore[no-untyped-call]  # generated
    config.site.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    config.site.socket.unlink(missing_ok=True)
    _bind(server, config.site.socket)
    server.start()
    config.site.socket.chmod(0o660)
    log.info("ready", network_cut_off=network_cut_off)
    wait_until_told(stop)
    server.stop(grace=5).wait()
    log.info("stopped")


def _bind(server: grpc.Server, socket: Path) -> None:
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError:
        raise InputError(
            f"{socket}: no socket can be made here; site.socket must be a path of at most 107 bytes"
            " in a directory that the vault may write to"
        ) from None


class VaultService(VaultServicer):
    """`sordino.site.v1.Vault`."""

    def __init__(
        self,
        site: Site,
        metrics: SiteMetrics,
        *,
        name: str,
        datasets: Mapping[str, SiteDataset],
        network_cut_off: bool,
    ) -> None:
        self._site = site
        self._metrics = metrics
        self._name = name
        self._datasets = datasets
        self._network_cut_off = network_cut_off

    def Answer(self, request: Sealed, _: grpc.ServicerContext) -> Sealed:  # noqa: N802
        """Answer one envelope with one envelope."""
        return Sealed(envelope=self._site.answer(request.envelope))

    def Status(self, _: StatusRequest, __: grpc.ServicerContext) -> StatusReply:  # noqa: N802
        """Public facts: data sets by schema, budgets, the ledger's head."""
        facts = {
            "site": self._name,
            "network_cut_off": self._network_cut_off,
            "datasets": {
                name: {
                    "schema_sha256": each.schema.digest(),
                    "order_of_magnitude": each.schema.dataset.order_of_magnitude,
                    "feature_count": each.schema.feature_count,
                }
                for name, each in self._datasets.items()
            },
            **self._site.status(),
        }
        return StatusReply(json=json.dumps(facts))

    def Metrics(self, _: MetricsRequest, __: grpc.ServicerContext) -> MetricsReply:  # noqa: N802
        """Metrics that may leave the vault; never those of the class `local`."""
        return MetricsReply(text=self._metrics.text((ReleaseClass.PUBLIC, ReleaseClass.DP)))


def _open_service(config: SiteConfig, *, network_cut_off: bool) -> VaultService:
    section = config.site
    section.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    ledger = Ledger(config.ledger_path, now=lambda: dt.datetime.now(dt.UTC))
    server_key = load_public_key(section.server_key)
    metrics = SiteMetrics()
    datasets = _load_datasets(
        section.datasets, section.state / "split.key", spill=Spill(section.state)
    )
    site = Site(
        load_signer(section.signing_key, section.name),
        SiteTrust(
            server=TrustStore({section.server_key.stem: server_key}),
            submitters=load_trust(section.submitters),
        ),
        policy=load_policy(section.policy),
        datasets=datasets,
        state=SiteState(
            ledger, Outbox(section.state / "outbox"), AdmittedRuns(section.state / "runs")
        ),
        engine=_engine(config.training),
        metrics=metrics,
        network_cut_off=network_cut_off,
    )
    metrics.watch_ledger(lambda: ledger.length)
    metrics.watch_budgets(site.balances)
    return VaultService(
        site,
        metrics,
        name=section.name,
        datasets=datasets,
        network_cut_off=network_cut_off,
    )


def _engine(section: TrainingSection) -> Engine:
    """How this site computes.

    Raises:
        InputError: the device is not there.
    """
    performance = Performance(device=section.device, compile=section.compile)
    return Engine(SecureNoise(), performance)


def _load_datasets(directory: Path, key_file: Path, *, spill: Spill) -> dict[str, SiteDataset]:
    key = split_key(key_file)
    loaded: dict[str, SiteDataset] = {}
    for path in sorted(directory.glob("*.toml")):
        file = read_dataset(path)
        facts = file.public.dataset
        if facts.name in loaded:
            raise InputError(f"{path}: data set {facts.name!r} is declared twice in {directory}")
        training, heldout = split(
            load_table(file, spill=spill), fraction=facts.holdout_fraction, key=key, spill=spill
        )
        loaded[facts.name] = SiteDataset(file.public, training, heldout)
    return loaded


def split_key(path: Path) -> bytes:
    """The secret that decides which records are held out; made once, kept for ever.

    Raises:
        IntegrityError: the file is not what was written.
    """
    if not path.exists():
        write_durably(path, secrets.token_bytes(_SPLIT_KEY_BYTES))
    key = path.read_bytes()
    if len(key) != _SPLIT_KEY_BYTES:
        raise IntegrityError(f"{path}: expected {_SPLIT_KEY_BYTES} bytes; restore it from a backup")
    return key
