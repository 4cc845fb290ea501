"""Certificates renewed, a site and a person revoked, while a run is under way: nothing restarts."""

import re
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from real_federation import Running, make_job, run_federation, until

from sordino_deploy.approving import approve, authority_directory, revoke
from sordino_deploy.newcomers import install_site, request_site
from sordino_deploy.server_setup import renew_server
from sordino_protocols.certificates import read_certificate
from sordino_protocols.errors import AuthenticationError

pytestmark = pytest.mark.system

STAYS, LEAVES = "cleveland", "hungarian"
SUBMITTER = "scientist"
ROUNDS = 48
# Cut off before it could ask again, or told that its key is not known any more.
SAID_BY_A_LINK = re.compile(r"certificate was revoked|does not accept this site's key")


def connect(running: Running, address: str, name: str) -> tuple[bytes, bytes]:
    """The certificate, DER, that a listener shows to a site, and the first byte that it says."""
    link = running.federation.layout.site_config(name).link
    assert link.certificate is not None
    context = ssl.create_default_context(cafile=link.ca_certificate)
    context.load_cert_chain(link.certificate, link.private_key)
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.sendall(b"GET /health HTTP/1.0\r\nHost: x\r\n\r\n")
        shown = secure.getpeercert(binary_form=True) or b""
        return shown, secure.recv(1)


def serves(running: Running, certificate: Path) -> bool:
    """Whether both listeners show this certificate."""
    config, wanted = running.server_config, read_certificate(certificate)
    addresses = config.server.public, config.gateway.address
    shown = [connect(running, address, STAYS)[0] for address in addresses]
    return [x509.load_der_x509_certificate(each) for each in shown] == [wanted] * len(addresses)


def renew_site(running: Running, name: str) -> None:
    config = running.federation.layout.site_config(name)
    server = running.server_config
    authority = authority_directory(server)
    install_site(approve(request_site(config), server, authority=authority), config)


def test_a_run_goes_on_while_certificates_change_and_a_site_is_shut_out(tmp_path: Path) -> None:
    with run_federation(tmp_path, (STAYS, LEAVES)) as running:
        server, connection = running.server_config, running.connection
        logs, authority = running.federation.layout.logs, authority_directory(server)
        run_id = connection.submit(make_job(rounds=ROUNDS, quorum=1))
        rounds = (each for each in connection.watch(run_id) if each["event"] == "round")
        assert next(rounds)["participants"] == [STAYS, LEAVES]

        renewed = renew_server(server, authority=authority)
        until(lambda: serves(running, renewed))
        renew_site(running, STAYS)
        until(lambda: "certificate_renewed" in (logs / f"{STAYS}-link.log").read_text())
        assert connection.sites() == {STAYS: True, LEAVES: True}

        revoke(LEAVES, server, authority=authority)
        until(lambda: connection.sites() == {STAYS: True})
        until(lambda: is_refused_by_tls(running, LEAVES))
        until(lambda: SAID_BY_A_LINK.search((logs / f"{LEAVES}-link.log").read_text()) is not None)
        for name in (f"{STAYS}-link", f"{STAYS}-vault", "server"):
            assert running.supervisor.is_running(running.children[name])
        later = next(each for each in rounds if each["rejections"] == {LEAVES: "revoked"})
        assert later["participants"] == [STAYS]
        assert connection.show(run_id)["state"] == "training"

        revoke(SUBMITTER, server, authority=authority)
        until(lambda: is_turned_away(running))


def is_refused_by_tls(running: Running, name: str) -> bool:
    try:
        _, said = connect(running, running.server_config.server.public, name)
    except OSError:
        return True
    return not said


def is_turned_away(running: Running) -> bool:
    try:
        running.connection.sites()
    except AuthenticationError:
        return True
    return False
