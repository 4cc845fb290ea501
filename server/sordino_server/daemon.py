"""The server's daemon: SuperLink, queue, gateway and metrics in one process.

What must stay true: whatever was started is stopped, in reverse order, also when a later part does
not come up; and `ports.json` is there only while everything serves.
"""

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack

import structlog
from prometheus_client import start_http_server

from sordino_protocols.daemons import wait_until_told
from sordino_protocols.errors import InputError
from sordino_server.config import ServerConfig
from sordino_server.gateway import serve_gateway
from sordino_server.metrics import server_registry
from sordino_server.ports import PORTS
from sordino_server.queue import Queue
from sordino_server.registry import enrol, enrolled_sites
from sordino_server.runs import Runs, write_whole
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
    runs = Runs(config.runs_directory)
    with ExitStack() as started:
        started.callback(log.info, "stopped")
        superlink = _start_superlink(config)
        started.callback(superlink.stop)
        enrol(superlink, sites)
        queue = Queue(config, superlink, runs)
        gateway, gateway_port = serve_gateway(config, superlink, queue, runs)
        started.callback(lambda: gateway.stop(grace=2).wait())
        ports = {
            "public": superlink.public_port,
            "admin": superlink.admin_port,
            "gateway": gateway_port,
        }
        if config.metrics is not None:
            address = config.metrics.address
            ports["metrics"], stop_metrics = _serve_metrics(address, superlink, runs)
            started.callback(stop_metrics)
        queue.start()
        started.callback(queue.stop)
        write_whole(ports_file, json.dumps(ports).encode())
        started.callback(ports_file.unlink)
        log.info("ready", **ports)
        wait_until_told(stop)


def _start_superlink(config: ServerConfig) -> SuperLink:
    section = config.server
    superlink = SuperLink(
        SuperLinkSettings(
            directory=section.state / "superlink",
            public_address=section.public,
            certificate=section.certificate,
            private_key=section.private_key,
            admin_port=section.admin_port,
        )
    )
    superlink.start()
    return superlink


def _serve_metrics(
    address: str, superlink: SuperLink, runs: Runs
) -> tuple[int, Callable[[], None]]:
    """Serve Prometheus; returns the port, and what stops it."""
    host, _, port = address.rpartition(":")
    registry = server_registry(superlink, runs)
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=registry)
    except (OSError, OverflowError):
        raise InputError(f"the metrics cannot be served at {address}: is it taken?") from None

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return int(server.server_port), end
