"""The server's readiness: each check says no when what it checks is broken."""

import socket
from pathlib import Path

from server_host import server_host

from sordino_protocols.health import Check
from sordino_server.health import server_checks


def find(checks: tuple[Check, ...], name: str) -> Check:
    return next(each for each in checks if each.name == name)


def test_a_superlink_that_serves_nobody_is_not_ready_and_each_check_says_why(
    tmp_path: Path,
) -> None:
    with server_host(tmp_path / "federation") as host:
        found = server_checks(host.config, host.superlink, lambda: None).evaluate()
        assert {each.name for each in found if each.is_ok} == {
            "state_writable",
            "database",
            "clock",
            "certificate",
            "members",
            "migrations",
        }
        assert "does not answer" in find(found, "superlink").detail
        assert "superexec.log" in find(found, "superexec").detail


def test_a_port_that_accepts_and_is_silent_fails_in_time(tmp_path: Path) -> None:
    with server_host(tmp_path / "federation") as host, socket.create_server(("127.0.0.1", 0)) as it:
        host.superlink._listeners.admin_port = it.getsockname()[1]
        found = server_checks(host.config, host.superlink, lambda: None).evaluate()
        assert not find(found, "superlink").is_ok
