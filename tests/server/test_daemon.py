"""The whole daemon in this process: it comes up and goes, and leaves nothing behind."""

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_federation import descendants, get, until
from server_host import make_federation

from sordino_protocols.errors import InputError
from sordino_server.config import ServerConfig, load_config
from sordino_server.daemon import run_server
from sordino_server.ports import PORTS, read_ports

pytestmark = pytest.mark.system


@pytest.fixture
def config(tmp_path: Path) -> Iterator[ServerConfig]:
    federation = make_federation(tmp_path / "federation", ("a",))
    yield load_config(tmp_path / "federation" / "server" / "server.toml")
    federation.close()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    threads, processes = set(threading.enumerate()), descendants(os.getpid())
    yield
    # A thread pool's threads end by themselves, soon after they were told to.
    until(lambda: not [each for each in set(threading.enumerate()) - threads if each.is_alive()])
    assert descendants(os.getpid()) == processes


def test_serves_until_it_is_told_to_stop(config: ServerConfig) -> None:
    stop = threading.Event()
    # What a server that was killed left: not ours, and not true.
    config.server.state.mkdir(mode=0o700)
    (config.server.state / PORTS).write_text('{"public": 1}')
    thread = threading.Thread(target=run_server, args=(config, stop))
    thread.start()
    try:
        until(lambda: read_ports(config.server.state) not in (None, {"public": 1}))
        ports = read_ports(config.server.state)
        assert ports is not None
        assert set(ports) == {"public", "admin", "gateway", "metrics", "page"}
        assert 'sordino_runs{state="done"} 0.0' in get(f"127.0.0.1:{ports['metrics']}", "/metrics")
        _says_that_it_is_ready(f"127.0.0.1:{ports['metrics']}")
        assert "a is not connected" in get(f"127.0.0.1:{ports['page']}", "/")
    finally:
        stop.set()
        thread.join()
    assert read_ports(config.server.state) is None
    for port in ports.values():
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def _says_that_it_is_ready(address: str) -> None:
    assert json.loads(get(address, "/livez")) == {"live": True}
    body = json.loads(get(address, "/readyz"))
    assert body["ready"], body
    assert set(body["checks"]) >= {
        "state_writable", "database", "clock", "certificate", "superlink", "superexec",
    }  # fmt: skip
    assert all(each["ok"] and each["detail"] for each in body["checks"].values())


def test_nobody_else_may_look_into_its_state(config: ServerConfig) -> None:
    stop = threading.Event()
    stop.set()
    run_server(config, stop)
    assert stat.S_IMODE(config.server.state.stat().st_mode) == 0o700


@pytest.mark.parametrize("section", ["metrics", "page", "gateway", "public"])
def test_a_start_that_fails_half_way_leaves_nothing_behind(
    config: ServerConfig, section: str
) -> None:
    assert config.metrics is not None
    assert config.page is not None
    address = {
        "metrics": config.metrics.address,
        "page": config.page.address,
        "gateway": config.gateway.address,
        "public": config.server.public,
    }[section]
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))), pytest.raises(InputError, match=address):
        run_server(config, threading.Event())
    assert read_ports(config.server.state) is None


def test_a_site_with_half_its_keys_stops_the_start(config: ServerConfig) -> None:
    (config.server.nodes / "a.pub").unlink()
    with pytest.raises(InputError, match=r"nodes/a\.pub: missing"):
        run_server(config, threading.Event())
