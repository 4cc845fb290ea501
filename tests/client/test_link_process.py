"""The link as a process: SIGHUP has it read its log's level again, and never ends it."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loopback import make_node_key
from one_site import OneSite

from sordino_deploy import pki
from sordino_deploy.processes import free_port

WAIT_SECONDS = 120


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A site whose server is away."""
    site = OneSite(tmp_path)
    site.prepare()
    pki.create_authority(tmp_path / "pki", name="test")
    make_node_key(tmp_path / "node.openssh")
    path = tmp_path / "site.toml"
    text, _, _ = path.read_text().partition("[link]")
    path.write_text(
        f'{text}[link]\nserver = "127.0.0.1:{free_port()}"\nca_certificate = "pki/ca.crt"\n'
        'node_key = "node.openssh"\n[log]\nlevel = "info"\n'
    )
    return path


@contextmanager
def link(config: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sordino_client.link_process", str(config)],
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = threading.Timer(WAIT_SECONDS, process.kill)
    patience.start()
    with process:
        try:
            yield process
        finally:
            patience.cancel()
            process.kill()


def until(process: subprocess.Popen[str], event: str) -> dict[str, object]:
    """The next line of this event; every line before it is one of ours as well."""
    assert process.stderr is not None
    for text in process.stderr:
        line: dict[str, object] = json.loads(text)
        assert line["component"] == "link", line
        if line["event"] == event:
            return line
    pytest.fail(f"it ended before it said {event}")


def test_a_hangup_reloads_and_never_ends_the_link(config: Path) -> None:
    with link(config) as process:
        assert until(process, "server_unreachable")["level"] == "warning"
        process.send_signal(signal.SIGHUP)
        until(process, "reloaded")
        whole = config.read_text()
        config.write_text(whole.replace("[log]", "[lug]"))
        process.send_signal(signal.SIGHUP)
        assert "lug" in str(until(process, "kept_the_old_configuration")["reason"])
        config.write_text(whole)
        for _ in range(20):
            process.send_signal(signal.SIGHUP)
        until(process, "reloaded")
        process.send_signal(signal.SIGTERM)
        until(process, "stopped")
        process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0
