"""A real Prometheus and a real Alertmanager that watch a federation on this machine, for tests.

They read the very files of `deploy/prometheus`, with other addresses and shorter waits: a second
between scrapes, and a second instead of every `for`. No expression is changed.
"""

import json
import os
import re
import shutil
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from alert_rules import ALERTS, DEPLOY
from real_federation import Running, get, until

from sordino_deploy.processes import free_ports

_PACKAGES = {"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Series:
    """One answer of Prometheus: labels, and values with their times."""

    labels: Labels
    points: tuple[tuple[float, float], ...]

    @property
    def values(self) -> list[float]:
        """Without their times."""
        return [value for _, value in self.points]


@dataclass(frozen=True, slots=True)
class Inbox:
    """What Alertmanager sent, by receiver: each alert once for every message it was in."""

    received: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    def fired(self, receiver: str) -> list[Labels]:
        """Labels of the alerts that a receiver was told are firing."""
        return [
            {str(key): str(value) for key, value in labels.items()}
            for name, alert in self.received
            if name == receiver and alert["status"] == "firing"
            if isinstance(labels := alert["labels"], dict)
        ]


@dataclass(frozen=True, slots=True)
class Monitoring:
    """A Prometheus that scrapes, and where its alerts arrive."""

    address: str
    inbox: Inbox

    def at(self, expression: str, time: float | None = None) -> list[Series]:
        """An expression's value now, or then."""
        asked = {"query": expression} | ({} if time is None else {"time": str(time)})
        return [Series(each["metric"], (_point(each["value"]),)) for each in self._ask("", asked)]

    def over(self, expression: str, begin: float, end: float, step: float = 1.0) -> list[Series]:
        """An expression's values in a stretch of time."""
        asked = {"query": expression, "start": str(begin), "end": str(end), "step": str(step)}
        return [
            Series(each["metric"], tuple(map(_point, each["values"])))
            for each in self._ask("_range", asked)
        ]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        return {each.labels["alertname"] for each in self.at('ALERTS{alertstate="firing"}')}

    def _ask(self, kind: str, asked: Mapping[str, str]) -> list[dict[str, dict[str, str]]]:
        answer = json.loads(
            get(self.address, f"/api/v1/query{kind}?{urllib.parse.urlencode(asked)}")
        )
        assert answer["status"] == "success", answer
        result: list[dict[str, dict[str, str]]] = answer["data"]["result"]
        return result


@contextmanager
def watched(running: Running, directory: Path) -> Iterator[Monitoring]:
    """Watch a federation from now on; ends with the federation's supervisor."""
    for program, package in _PACKAGES.items():
        if shutil.which(program) is None:
            pytest.skip(f"needs the system package {package}")
    directory.mkdir()
    prometheus_port, alertmanager_port = free_ports(2)
    with _inbox() as (inbox, inbox_port):
        _write_alertmanager(directory, inbox_port)
        _write_prometheus(directory, running, alertmanager_port)
        address = f"127.0.0.1:{prometheus_port}"
        _start(
            running,
            "prometheus-alertmanager",
            f"--config.file={directory}/alertmanager.yml",
            f"--storage.path={directory}/alertmanager",
            f"--web.listen-address=127.0.0.1:{alertmanager_port}",
            "--cluster.listen-address=",
            log=directory / "alertmanager.log",
        )
        _start(
            running,
            "prometheus",
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/prometheus",
            f"--web.listen-address={address}",
            log=directory / "prometheus.log",
        )
        until(lambda: _is_ready(address))
        until(lambda: _is_ready(f"127.0.0.1:{alertmanager_port}"))
        yield Monitoring(address, inbox)


def _point(pair: object) -> tuple[float, float]:
    assert isinstance(pair, list)
    return float(pair[0]), float(pair[1])


def _is_ready(address: str) -> bool:
    try:
        return bool(get(address, "/-/ready"))
    except OSError:
        return False


def _start(running: Running, program: str, *options: str, log: Path) -> None:
    env = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    running.children[program] = running.supervisor.start(
        program, [program, *options], env=env, log=log
    )


def _write_prometheus(directory: Path, running: Running, alertmanager_port: int) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    server, sites = config["scrape_configs"]
    metrics = running.server_config.metrics
    assert metrics is not None
    server["static_configs"] = [{"targets": [metrics.address]}]
    sites["static_configs"] = [
        {
            "targets": [running.federation.layout.site_config(name).link.metrics],
            "labels": {"site": name},
        }
        for name in running.names
    ]
    managers = config["alerting"]["alertmanagers"][0]
    managers["static_configs"] = [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    rules = re.sub(r"(?m)^(\s+for:) .*$", r"\1 1s", ALERTS.read_text())
    (directory / "alerts.yml").write_text(rules)


def _write_alertmanager(directory: Path, inbox_port: int) -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "alertmanager.yml").read_text())
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "1s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        receiver["webhook_configs"] = [{"url": f"http://127.0.0.1:{inbox_port}/{receiver['name']}"}]
    (directory / "alertmanager.yml").write_text(yaml.safe_dump(config))


@contextmanager
def _inbox() -> Iterator[tuple[Inbox, int]]:
    inbox = Inbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            inbox.received.extend((self.path.strip("/"), each) for each in body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield inbox, int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
