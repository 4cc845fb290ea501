"""What changes at a running server when an operator changes files."""

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from server_host import Host, server_host

from sordino_client.config import load_config
from sordino_deploy.approving import approve, authority_directory, revoke
from sordino_deploy.newcomers import init_site, request_site
from sordino_server.membership import Membership
from sordino_server.registry import enrol, enrolled_sites


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with server_host(tmp_path / "federation") as running:
        section = running.config.server
        enrol(running.superlink, enrolled_sites(section.sites, section.nodes))
        yield running


def names(host: Host) -> list[str]:
    return [node.name for node in host.superlink.nodes()]


def let_in(host: Host, name: str) -> None:
    site = load_config(init_site(host.directory.parent / name, name))
    approve(request_site(site), host.config, authority=authority_directory(host.config))


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        Event().wait(0.1)


def test_members_come_and_go_while_it_runs(host: Host) -> None:
    membership = Membership(host.config, host.superlink)
    membership.start()
    try:
        let_in(host, "c")
        until(lambda: names(host) == ["a", "b", "c"])
        revoke("a", host.config, authority=authority_directory(host.config))
        until(lambda: names(host) == ["b", "c"])
        assert membership.problem is None
    finally:
        membership.stop()


def test_a_disk_that_is_full_for_a_while_loses_no_revocation(host: Host) -> None:
    seen: list[list[str]] = []

    def stumble_first() -> None:
        seen.append(names(host))
        if len(seen) == 1:
            raise OSError(errno.ENOSPC, "no space left")

    membership = Membership(host.config, host.superlink, on_change=stumble_first)
    membership.start()
    try:
        revoke("a", host.config, authority=authority_directory(host.config))
        until(lambda: len(seen) > 1)
        let_in(host, "c")
        until(lambda: seen[-1] == ["b", "c"])
    finally:
        membership.stop()


def test_what_is_told_to_apply_is_applied_at_once(host: Host) -> None:
    membership = Membership(host.config, host.superlink)
    let_in(host, "c")
    membership.apply()
    assert names(host) == ["a", "b", "c"]


def test_half_a_site_stays_as_it_was_and_is_said(host: Host) -> None:
    membership = Membership(host.config, host.superlink)
    (host.config.server.sites / "a.pub").unlink()
    revoke("b", host.config, authority=authority_directory(host.config))
    membership.apply()
    assert names(host) == ["a"]
    assert "site 'a' has one of its two keys only" in str(membership.problem)


def test_a_broken_certificate_is_said_until_it_is_mended(host: Host) -> None:
    membership = Membership(host.config, host.superlink)
    path = host.config.server.certificate
    good = path.read_bytes()
    path.write_text("half a cert")
    membership.apply()
    assert str(path) in str(membership.problem)
    path.write_bytes(good)
    membership.apply()
    assert membership.problem is None


def test_one_broken_key_stops_no_other_change(host: Host) -> None:
    membership = Membership(host.config, host.superlink)
    let_in(host, "c")
    (host.config.server.nodes / "b.pub").write_bytes(b"no key")
    membership.apply()
    assert names(host) == ["a", "b", "c"]
    assert "OpenSSH" in str(membership.problem)
