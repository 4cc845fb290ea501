"""`sordino site run`: both processes of a site, restarted when one dies, gone when told to stop."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sordino.demo_data import hospitals
from sordino_client.config import load_config
from sordino_client.self_test_record import (
    SelfTestRecord,
    fingerprint,
    is_tested,
    record_path,
    write_record,
)
from sordino_deploy.local import LocalFederation

pytestmark = pytest.mark.system

SORDINO = Path(sys.executable).with_name("sordino")
WAIT_SECONDS = 600.0


def running(module: str, config: Path) -> list[int]:
    """Processes that run a part of this site."""
    return [pid for pid, line in command_lines() if module in line and str(config) in line]


def vaults(config: Path) -> list[int]:
    """Processes that run the vault of this site."""
    return running("vault_process", config)


def said(log: Path) -> list[str]:
    """The events that a process logged, each a line of JSON; the last line may be under way."""
    whole, _, _ = log.read_text().rpartition("\n")
    return [json.loads(line)["event"] for line in whole.splitlines()]


def command_lines() -> list[tuple[int, str]]:
    lines = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            line = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        lines.append((int(each.name), line))
    return lines


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does; fail if it does not."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        select.select([], [], [], 0.1)


def status(config: Path) -> dict[str, object] | None:
    done = subprocess.run(
        [str(SORDINO), "site", "status", "--config", str(config), "--output", "json"],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def hang_up_until_ready(runner: subprocess.Popen[bytes], config: Path) -> bool:
    for _ in range(20):
        runner.send_signal(signal.SIGHUP)
    return status(config) is not None


def test_a_vault_that_dies_comes_back_and_both_end_when_told(tmp_path: Path) -> None:
    data = hospitals(tmp_path / "data")
    federation = LocalFederation(tmp_path / "federation", data.sites[:1])
    federation.prepare()
    config = federation.layout.site("cleveland") / "site.toml"
    logs, own = config.parent / "state" / "logs", tmp_path / "runner.log"
    command = [str(SORDINO), "site", "run", "--config", str(config)]
    with (
        own.open("wb") as stderr,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as runner,
    ):
        try:
            until(lambda: status(config) is not None)
            # Nobody had tested the code at this site: that came first.
            assert is_tested(load_config(config))
            assert "self_test" in said(logs / "self-test.log")
            [first], [link] = vaults(config), running("link_process", config)
            # A hang-up goes on to both, and ends neither.
            runner.send_signal(signal.SIGHUP)
            until(lambda: "rules_reloaded" in said(logs / "vault.log"))
            until(lambda: "reloaded" in said(logs / "link.log"))
            assert (vaults(config), running("link_process", config)) == ([first], [link])
            os.kill(first, signal.SIGKILL)
            until(lambda: vaults(config) not in ([], [first]))
            # Nor does one that comes while the vault starts.
            [second] = vaults(config)
            until(lambda: hang_up_until_ready(runner, config))
            assert (vaults(config), running("link_process", config)) == ([second], [link])
            known = status(config)
            assert known is not None
            assert known["site"] == "cleveland"
        finally:
            runner.send_signal(signal.SIGTERM)
            assert runner.wait(WAIT_SECONDS) == 128 + signal.SIGTERM
    assert [line for _, line in command_lines() if str(config) in line] == []
    assert said(own).count("restarting") == 1
    federation.close()


def test_code_that_failed_its_self_test_is_not_run(tmp_path: Path) -> None:
    data = hospitals(tmp_path / "data")
    federation = LocalFederation(tmp_path / "federation", data.sites[:1])
    federation.prepare()
    site = federation.layout.site_config("cleveland")
    outcome = SelfTestRecord(fingerprint(site.training), ("empty batch",), "2026-01-02", 1.0)
    write_record(record_path(site), outcome)
    done = subprocess.run(
        [str(SORDINO), "site", "run", "--config", str(site.directory / "site.toml")],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    federation.close()
    assert done.returncode == 9
    assert "empty batch" in done.stderr
    assert not (site.site.state / "logs" / "vault.log").exists()


def test_without_a_vault_the_status_says_how_to_start_one(tmp_path: Path) -> None:
    data = hospitals(tmp_path / "data")
    federation = LocalFederation(tmp_path / "federation", data.sites[:1])
    federation.prepare()
    config = federation.layout.site("cleveland") / "site.toml"
    done = subprocess.run(
        [str(SORDINO), "site", "status", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    federation.close()
    assert done.returncode == 7
    assert "sordino site run" in done.stderr
