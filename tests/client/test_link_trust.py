"""Whom a link connects to: one authority's server, under the name that it was called by."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from handshakes import shake_hands

from sordino_client.link_tls import LinkTls, read_node_key
from sordino_deploy import pki
from sordino_protocols.errors import InputError


@pytest.fixture
def authority(tmp_path: Path) -> pki.Authority:
    return pki.create_authority(tmp_path / "ca", name="authority")


def certify(
    authority: pki.Authority,
    directory: Path,
    *,
    name: str,
    role: pki.Role,
    hosts: tuple[str, ...] = (),
    days: int = 30,
) -> Path:
    """A certificate, with its key beside it."""
    request = pki.create_request(directory, name)
    path = directory / f"{name}.crt"
    pem = pki.sign_request(authority, request, name=name, role=role, hosts=hosts, days=days)
    path.write_bytes(pem)
    return path


def served(
    authority: pki.Authority,
    directory: Path,
    *,
    name: str = "fl.example.org",
    role: pki.Role = pki.Role.SERVER,
    days: int = 30,
) -> ssl.SSLContext:
    """A server's context that shows such a certificate."""
    hosts = (name,) if role is pki.Role.SERVER else ()
    certificate = certify(authority, directory, name="it", role=role, hosts=hosts, days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context


def test_a_server_is_believed_under_its_own_name_only(
    tmp_path: Path, authority: pki.Authority
) -> None:
    link = LinkTls(tmp_path / "ca" / "ca.crt")
    server = served(authority, tmp_path / "s")
    shake_hands(link.context, server, name="fl.example.org")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(link.context, server, name="evil.example.org")


def test_a_server_of_another_authority_is_not_believed(
    tmp_path: Path, authority: pki.Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = pki.create_authority(tmp_path / "other", name="authority")
    # Even if the whole machine believes it.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other" / "ca.crt"))
    link = LinkTls(tmp_path / "ca" / "ca.crt")
    assert authority.certificate.subject == other.certificate.subject
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(link.context, served(other, tmp_path / "s"), name="fl.example.org")


def test_a_sites_certificate_serves_nobody(tmp_path: Path, authority: pki.Authority) -> None:
    link = LinkTls(tmp_path / "ca" / "ca.crt")
    link.context.check_hostname = False  # it names no host; what it is for is looked at before
    site = served(authority, tmp_path / "s", role=pki.Role.SITE)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate purpose"):
        shake_hands(link.context, site, name="va")


def test_a_server_whose_certificate_has_ended_is_not_believed(
    tmp_path: Path, authority: pki.Authority
) -> None:
    link = LinkTls(tmp_path / "ca" / "ca.crt")
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shake_hands(link.context, served(authority, tmp_path / "s", days=0), name="fl.example.org")


def test_an_older_tls_is_not_spoken(tmp_path: Path, authority: pki.Authority) -> None:
    link = LinkTls(tmp_path / "ca" / "ca.crt")
    server = served(authority, tmp_path / "s")
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        shake_hands(link.context, server, name="fl.example.org")


@pytest.mark.parametrize(("days", "is_over"), [(0, True), (1, False)])
def test_an_own_certificate_that_has_ended_is_said(
    tmp_path: Path, authority: pki.Authority, *, days: int, is_over: bool
) -> None:
    path = certify(authority, tmp_path, name="va", role=pki.Role.SITE, days=days)
    problem = LinkTls(tmp_path / "ca" / "ca.crt", path, path.with_suffix(".key")).own_problem()
    assert (problem is not None) == is_over
    if problem is not None:
        assert problem == f"{path}: has expired; renew it with: sordino site enroll"
    assert LinkTls(tmp_path / "ca" / "ca.crt").own_problem() is None


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_a_node_key_of_another_kind_is_refused(
    tmp_path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
) -> None:
    path = tmp_path / "va.node.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with pytest.raises(InputError, match="must be on the curve P-384"):
        read_node_key(path)
