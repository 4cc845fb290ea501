"""The server's daemon: SuperLink, queue, gateway and what watches them, in one process.

What must stay true: whatever was started is stopped, in reverse order, also when a later part does
not come up; and `ports.json` is there only while everything serves.
"""

import datetime as dt
import json
import threading
from contextlib import ExitStack
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from sordino_protocols.certificates import not_after
from sordino_protocols.daemons import wait_until_told
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.health import Checks
from sordino_protocols.host_metrics import CertificateCollector, ReadyCollector
from sordino_server.auth_failures import AuthFailures
from sordino_server.config import ServerConfig
from sordino_server.contradictions import ContradictionReader, Contradictions
from sordino_server.decisions import Decisions, open_decisions
from sordino_server.gateway import serve_gateway
from sordino_server.health import server_checks
from sordino_server.membership import Membership
from sordino_server.metrics import server_registry
from sordino_server.monitoring import monitoring_app
from sordino_server.page_reader import PageReader, Sources
from sordino_server.plain_http import serve_http
from sordino_server.ports import PORTS
from sordino_server.quarantine import artifact
from sordino_server.quarantine_watch import QuarantineWatch
from sordino_server.queue import Queue
from sordino_server.registry import enrol, enrolled_sites
from sordino_server.reload import Reloader
from sordino_server.runs import CERTIFICATE, Runs
from sordino_server.state_location import HEADS, open_state, runs_in
from sordino_server.status_page import StatusPage
from sordino_server.storage import write_whole
from sordino_server.superlink import SuperLink, SuperLinkSettings


def run_server(config: ServerConfig, stop: threading.Event) -> None:
    """Serve until `stop` is set. The ports in use are written to `ports.json` in the state folder.

    Raises:
        InputError: a key, certificate or address cannot be used.
        NotFoundError: a directory of keys is missing.
        UnreachableError: a listener did not come up.
    """
    log = structlog.get_logger(component="server")
    section = config.server
    sites = enrolled_sites(section.sites, section.nodes)
    section.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    ports_file = section.state / PORTS
    ports_file.unlink(missing_ok=True)  # left by a server that was killed
    state = open_state(config)
    runs = runs_in(state)
    with ExitStack() as started:
        started.callback(log.info, "stopped")
        failures = AuthFailures()
        superlink = _start_superlink(config, failures)
        started.callback(superlink.stop)
        enrol(superlink, sites)
        decisions = open_decisions(config.audit_log_path)
        note_members = partial(_note_members, decisions, superlink)
        note_members()
        membership = Membership(config, superlink, on_change=note_members)
        queue = Queue(config, superlink, runs)
        gateway, gateway_port = serve_gateway(
            config, superlink, queue, runs, auth_failures=failures
        )
        started.callback(lambda: gateway.stop(grace=2).wait())
        ports = {
            "public": superlink.public_port,
            "admin": superlink.admin_port,
            "gateway": gateway_port,
        }
        contradictions = ContradictionReader(state.within(HEADS), config.audit_log_path).read
        registry = server_registry(
            superlink, runs, contradictions=contradictions, auth_failures=failures
        )
        checks = server_checks(config, superlink, lambda: membership.problem)
        page = _status_page(config, superlink, runs, contradictions, checks)
        ports |= _serve_watchers(config, page, started, registry=registry, checks=checks)
        queue.start()
        started.callback(queue.stop)
        membership.start()
        started.callback(membership.stop)
        quarantines = QuarantineWatch(runs, config.audit_log_path)
        quarantines.start()
        started.callback(quarantines.stop)
        write_whole(ports_file, json.dumps(ports).encode())
        started.callback(ports_file.unlink)
        log.info("ready", **ports)
        reloader = Reloader(config, decisions, membership.apply)
        wait_until_told(stop, on_hangup=reloader.reload)


def _note_members(decisions: Decisions, superlink: SuperLink) -> None:
    decisions.members(each.name for each in superlink.nodes())


def _start_superlink(config: ServerConfig, failures: AuthFailures) -> SuperLink:
    section = config.server
    superlink = SuperLink(
        SuperLinkSettings(
            directory=section.state / "superlink",
            public_address=section.public,
            certificate=section.certificate,
            private_key=section.private_key,
            admin_port=section.admin_port,
            client_ca=section.client_ca,
        ),
        on_stranger=failures.count,
    )
    superlink.start()
    return superlink


def _serve_watchers(
    config: ServerConfig,
    page: StatusPage,
    started: ExitStack,
    *,
    registry: CollectorRegistry,
    checks: Checks,
) -> dict[str, int]:
    """Serve metrics, health and the status page, each if it is configured; returns their ports."""
    registry.register(ReadyCollector(checks.evaluate))
    registry.register(
        CertificateCollector({"server": config.server.certificate, "ca": config.gateway.client_ca})
    )
    ports = {}
    if config.metrics is not None:
        monitoring = monitoring_app(registry, checks)
        served = serve_http(monitoring, config.metrics.address, key="metrics.address")
        started.callback(served.stop)
        ports["metrics"] = served.port
    if config.page is not None:
        served = serve_http(page.app, config.page.address, key="page.address")
        started.callback(served.stop)
        started.callback(page.close)
        ports["page"] = served.port
    return ports


def _status_page(
    config: ServerConfig,
    superlink: SuperLink,
    runs: Runs,
    contradictions: Contradictions,
    checks: Checks,
) -> StatusPage:
    sources = Sources(
        nodes=superlink.nodes,
        contradictions=contradictions,
        evaluate=checks.evaluate,
        certificate_ends=lambda: _certificate_ends(config),
        now=lambda: dt.datetime.now(dt.UTC),
    )
    reader = PageReader(config.server.name, runs, sources)
    return StatusPage(reader, certificate=lambda run_id: artifact(runs.get(run_id), CERTIFICATE))


def _certificate_ends(config: ServerConfig) -> dt.datetime | None:
    try:
        return not_after(config.server.certificate)
    except (InputError, NotFoundError):
        return None
