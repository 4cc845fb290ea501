import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import httpx
import pytest

from sordino_client.link_tls import LinkTls, certificate_problem
from sordino_deploy import issued, pki
from sordino_protocols.certificates import read_certificate
from sordino_protocols.errors import InputError


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.create_authority(tmp_path / "ca", name="authority")
    return tmp_path / "ca"


def issue(authority: Path, name: str, role: pki.Role = pki.Role.SITE) -> Path:
    """A certificate for the key `<name>.key`, which is made if it is not there."""
    key = authority.parent / f"{name}.key"
    if not key.exists():
        pki.create_request(authority.parent, name)
    request = pki.sign_own_request(pki.load_key(key), name)
    hosts = ["127.0.0.1"] if role is pki.Role.SERVER else []
    pem = issued.certify(authority, request, name=name, role=role, hosts=hosts)
    key.with_suffix(".crt").write_bytes(pem)
    return key.with_suffix(".crt")


def shown_serials(tls: LinkTls, authority: Path, *, between: Sequence[bool]) -> list[int]:
    """What a server sees of the link's certificate at each of some connections."""
    server = issue(authority, "server", pki.Role.SERVER)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server, server.with_suffix(".key"))
    accepting.load_verify_locations(authority / issued.CERTIFICATE)
    accepting.verify_mode = ssl.CERT_REQUIRED
    serials = []
    for is_renewed in between:
        if is_renewed:
            issue(authority, "va")
        tls.renew()
        near, far = socket.socketpair()

        def connect(near: socket.socket = near) -> None:
            with tls.context.wrap_socket(near, server_hostname="127.0.0.1") as secure:
                secure.recv(1)

        thread = Thread(target=connect)
        thread.start()
        with accepting.wrap_socket(far, server_side=True) as secure:
            serials.append(int(secure.getpeercert()["serialNumber"], 16))  # type: ignore[index, arg-type]
            secure.sendall(b"x")
        thread.join()
    return serials


def link_tls(authority: Path) -> LinkTls:
    certificate = issue(authority, "va")
    return LinkTls(authority / issued.CERTIFICATE, certificate, certificate.with_suffix(".key"))


def test_a_renewed_certificate_is_shown_from_the_next_connection_on(authority: Path) -> None:
    tls = link_tls(authority)
    first, again, renewed = shown_serials(tls, authority, between=[False, False, True])
    assert first == again != renewed
    assert renewed == read_certificate(authority.parent / "va.crt").serial_number


def test_files_that_do_not_fit_change_nothing(authority: Path) -> None:
    tls = link_tls(authority)
    before = read_certificate(authority.parent / "va.crt").serial_number
    other = issue(authority, "vb")
    (authority.parent / "va.crt").write_bytes(other.read_bytes())
    assert shown_serials(tls, authority, between=[False]) == [before]
    (authority.parent / "va.key").write_bytes((authority.parent / "vb.key").read_bytes())
    assert shown_serials(tls, authority, between=[False]) == [read_certificate(other).serial_number]


def test_files_that_are_none_stop_the_start(authority: Path, tmp_path: Path) -> None:
    certificate = issue(authority, "va")
    with pytest.raises(InputError, match="nowhere"):
        LinkTls(tmp_path / "nowhere")
    with pytest.raises(InputError, match="with its key"):
        LinkTls(authority / issued.CERTIFICATE, certificate, authority / "ca.key")


@pytest.mark.parametrize(
    ("alert", "why"),
    [
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "it was revoked"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "sordino site enroll"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "link.certificate"),
        ("TLSV1_ALERT_UNKNOWN_CA", "another authority"),
    ],
)
def test_what_a_server_says_of_our_certificate_is_put_in_words(alert: str, why: str) -> None:
    cause = ssl.SSLError(1, "alert")
    cause.reason = alert
    error = httpx.ReadError("x")
    error.__cause__ = cause
    assert why in str(certificate_problem(error))


def test_other_troubles_are_no_problem_of_a_certificate() -> None:
    assert certificate_problem(httpx.ConnectError("refused")) is None
    assert certificate_problem(httpx.ReadError("x", request=None)) is None
