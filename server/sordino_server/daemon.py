"""The server's daemon: SuperLink, queue, gateway and metrics in one process."""

import json
import threading

import structlog
from prometheus_client import start_http_server

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
        UnreachableError: a listener did not come up.
    """
    log = structlog.get_logger(component="server")
    section = config.server
    sites = enrolled_sites(section.sites, section.nodes)
    runs = Runs(config.runs_directory)
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
    queue = Queue(config, superlink, runs)
    try:
        enrol(superlink, sites)
        gateway, gateway_port = serve_gateway(config, superlink, queue, runs)
        ports = {
            "public": superlink.public_port,
            "admin": superlink.admin_port,
            "gateway": gateway_port,
        }
        if config.metrics is not None:
            ports["metrics"] = _serve_metrics(config.metrics.address, superlink, runs)
        write_whole(section.state / PORTS, json.dumps(ports).encode())
        queue.start()
        log.info("ready", **ports)
        stop.wait()
        gateway.stop(grace=2).wait()
        queue.stop()
    finally:
        superlink.stop()
        (section.state / PORTS).unlink(missing_ok=True)
        log.info("stopped")


def _serve_metrics(address: str, superlink: SuperLink, runs: Runs) -> int:
    host, _, port = address.rpartition(":")
    server, _ = start_http_server(int(port), addr=host, registry=server_registry(superlink, runs))
    return int(server.server_port)
