"""The process with the network and without data: carries envelopes between server and vault.

It reads no envelope, keeps no file, and imports neither torch nor pandas: what it could leak or be
talked into is little. The vault, on the other side of a Unix socket, decides everything. A server
that is away and a vault that restarts are both waited out; a message is kept until it is answered
or nobody waits for the answer any more.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from sordino_client.fleet import Fleet, FleetSettings, Inbound, join
from sordino_client.link_health import LinkHealth
from sordino_client.link_status import LinkCounters, serve_status
from sordino_client.server_answers import ServerAnswers
from sordino_client.vault_client import VaultClient, VaultFailedError
from sordino_protocols.errors import PeerError, UnreachableError
from sordino_protocols.host_metrics import CertificateCollector, ReadyCollector

IDLE_POLL_SECONDS = 1.0
"""How rarely a link asks when nothing has come for long and the server does not hold polls."""

_POLL_GROWTH = 1.1  # from 50 ms to the idle pace in 32 empty polls

_log = structlog.get_logger(component="link")


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a link needs to know.

    Attributes:
        site: this site's name, for logs and metrics.
        server_address: `host:port` of the server's public listener.
        ca_certificate: the only certificate authority to trust, PEM.
        node_key: this site's key, EC P-384 in OpenSSH format.
        vault_socket: the vault's Unix socket.
        poll_seconds: shortest time between two empty polls while messages are coming.
        certificate: this site's TLS certificate, PEM; None where the server asks for none.
        private_key: its key.
        metrics_address: `host:port` to serve `/metrics`, `/livez`, `/readyz`; None for not at all.
    """

    site: str
    server_address: str
    ca_certificate: Path
    node_key: Path
    vault_socket: Path
    poll_seconds: float = 0.05
    certificate: Path | None = None
    private_key: Path | None = None
    metrics_address: str | None = None


def run_link(settings: LinkSettings, stop: threading.Event) -> None:
    """Carry messages until `stop` is set. Returns within seconds of that.

    Raises:
        InputError: a key, certificate or address cannot be used.
        AuthenticationError: the server does not accept this site's key, or is not who it should be.
    """
    log = _log.bind(site=settings.site)
    counters, answers = LinkCounters(), ServerAnswers()
    fleet_settings = FleetSettings(
        server_address=settings.server_address,
        ca_certificate=settings.ca_certificate,
        node_key=settings.node_key,
        certificate=settings.certificate,
        private_key=settings.private_key,
    )
    with (
        VaultClient(settings.vault_socket) as vault,
        _served(settings, counters, vault, answers),
    ):
        try:
            with join(fleet_settings, stop, answers=answers) as fleet:
                counters.connected.set(1)
                _carry(fleet, vault, counters, poll_seconds=settings.poll_seconds, stop=stop)
        except UnreachableError:
            if not stop.is_set():
                raise
        finally:
            counters.connected.set(0)
    log.info("stopped")


@contextmanager
def _served(
    settings: LinkSettings, counters: LinkCounters, vault: VaultClient, answers: ServerAnswers
) -> Iterator[None]:
    """Serve metrics and health while the context lasts, if an address is configured."""
    certificates = {"ca": settings.ca_certificate}
    if settings.certificate is not None:
        certificates["site"] = settings.certificate
    health = LinkHealth(
        is_joined=counters.is_connected,
        vault_status=vault.status,
        answers=answers,
        certificates=certificates,
    )
    counters.registry.register(ReadyCollector(health.evaluate))
    counters.registry.register(CertificateCollector(certificates))
    with serve_status(settings.metrics_address, counters, vault, health):
        yield


def _carry(
    fleet: Fleet,
    vault: VaultClient,
    counters: LinkCounters,
    *,
    poll_seconds: float,
    stop: threading.Event,
) -> None:
    pace = poll_seconds
    while not stop.is_set():
        asked_at = time.monotonic()
        inbound = _pull(fleet, counters)
        if inbound is None:
            # A server that holds polls has made us wait already.
            stop.wait(max(0.0, pace - (time.monotonic() - asked_at)))
            pace = min(pace * _POLL_GROWTH, IDLE_POLL_SECONDS)
        else:
            _answer(fleet, vault, inbound, counters, stop=stop)
            pace = poll_seconds


def _pull(fleet: Fleet, counters: LinkCounters) -> Inbound | None:
    try:
        return fleet.pull()
    except PeerError as error:
        counters.messages.labels(result="malformed").inc()
        _log.warning("message_malformed", reason=str(error))
        return None


def _answer(
    fleet: Fleet,
    vault: VaultClient,
    inbound: Inbound,
    counters: LinkCounters,
    *,
    stop: threading.Event,
) -> None:
    log = _log.bind(run_id=inbound.run_id)
    try:
        envelope = vault.answer(inbound.envelope, expires_at=inbound.expires_at, stop=stop)
    except VaultFailedError as error:
        log.warning("vault_failed", code=error.code.name)
        counters.messages.labels(result="failed").inc()
        _push_failure(fleet, inbound)
        return
    except UnreachableError as error:
        log.warning("message_dropped", reason=str(error))
        counters.messages.labels(result="dropped").inc()
        return
    result = "answered" if _push(fleet, inbound, envelope) else "dropped"
    counters.messages.labels(result=result).inc()
    # Not how long it took: that depends on the records, and the link tells the outside.
    log.debug("message_carried", result=result)


def _push(fleet: Fleet, inbound: Inbound, envelope: bytes) -> bool:
    try:
        return fleet.push(inbound, envelope)
    except PeerError as error:
        _log.warning("answer_refused", run_id=inbound.run_id, reason=str(error))
        return False


def _push_failure(fleet: Fleet, inbound: Inbound) -> None:
    try:
        fleet.push_failure(inbound)
    except PeerError as error:
        _log.warning("answer_refused", run_id=inbound.run_id, reason=str(error))
