from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import make_node_key
from server_host import Host, server_host

from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.signing import save_keypair
from sordino_server.registry import EnrolledSite, enrol, enrolled_sites


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with server_host(tmp_path / "federation") as running:
        yield running


def enrolled(host: Host) -> list[EnrolledSite]:
    return enrolled_sites(host.config.server.sites, host.config.server.nodes)


def names(host: Host) -> list[str]:
    return [node.name for node in host.superlink.nodes()]


def test_a_site_with_both_keys_is_enrolled(host: Host) -> None:
    assert [site.name for site in enrolled(host)] == ["a", "b"]
    key = (host.config.server.nodes / "a.pub").read_bytes()
    assert enrolled(host)[0] == EnrolledSite("a", key)


@pytest.mark.parametrize("directory", ["sites", "nodes"])
def test_a_site_with_one_key_only_is_an_error_that_names_the_other(
    host: Host, directory: str
) -> None:
    missing: Path = getattr(host.config.server, directory) / "b.pub"
    missing.unlink()
    with pytest.raises(InputError) as raised:
        enrolled(host)
    assert str(missing) in str(raised.value)


@pytest.mark.parametrize("directory", ["sites", "nodes"])
def test_a_missing_directory_is_an_error(host: Host, directory: str, tmp_path: Path) -> None:
    directories = {name: getattr(host.config.server, name) for name in ("sites", "nodes")}
    with pytest.raises((NotFoundError, InputError)) as raised:
        enrolled_sites(**(directories | {directory: tmp_path / "nowhere"}))
    assert "nowhere" in str(raised.value)


def test_a_name_that_no_site_can_have_is_an_error(host: Host) -> None:
    make_node_key(host.directory / "key")
    (host.config.server.nodes / "..b.pub").write_bytes(b"")
    with pytest.raises(InputError):
        enrolled(host)


def test_enrolled_sites_are_let_in_once(host: Host) -> None:
    enrol(host.superlink, enrolled(host))
    nodes = host.superlink.nodes()
    enrol(host.superlink, enrolled(host))
    assert host.superlink.nodes() == nodes
    assert [(node.name, node.is_online) for node in nodes] == [("a", False), ("b", False)]


def test_a_site_that_is_no_longer_enrolled_is_shut_out(host: Host) -> None:
    enrol(host.superlink, enrolled(host))
    for directory in (host.config.server.sites, host.config.server.nodes):
        (directory / "b.pub").unlink()
    enrol(host.superlink, enrolled(host))
    assert names(host) == ["a"]


def test_a_new_site_is_let_in_beside_the_others(host: Host) -> None:
    enrol(host.superlink, enrolled(host))
    save_keypair(host.directory / "new", "c")
    (host.config.server.sites / "c.pub").write_bytes(
        (host.directory / "new" / "c.pub").read_bytes()
    )
    (host.config.server.nodes / "c.pub").write_bytes(make_node_key(host.directory / "key"))
    enrol(host.superlink, enrolled(host))
    assert names(host) == ["a", "b", "c"]


def test_another_key_under_a_known_name_is_an_error(host: Host) -> None:
    enrol(host.superlink, enrolled(host))
    (host.config.server.nodes / "b.pub").write_bytes(make_node_key(host.directory / "key"))
    with pytest.raises(InputError, match="'b' is registered with another key"):
        enrol(host.superlink, enrolled(host))


def test_a_file_that_is_no_key_is_an_error(host: Host) -> None:
    (host.config.server.nodes / "b.pub").write_bytes(b"no key")
    with pytest.raises(InputError, match="OpenSSH"):
        enrol(host.superlink, enrolled(host))
