import datetime as dt
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from flwr.cli.supernode.register import try_load_public_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, uses_nist_ec_curve

from sordino_deploy import issued
from sordino_deploy.pki import (
    Authority,
    Role,
    create_authority,
    create_node_key,
    create_request,
    issue_client,
    issue_server,
    load_authority,
    sign_own_request,
    sign_request,
    trust,
)
from sordino_protocols.certificates import read_certificate
from sordino_protocols.errors import AuthenticationError, InputError, NotFoundError
from sordino_protocols.revocations import revoked_serials
from sordino_protocols.signing import load_signer, load_trust, save_keypair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return create_authority(tmp_path / "ca", name="sordino-ca")


def common_name(der: bytes) -> str:
    subject = x509.load_der_x509_certificate(der).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def handshake(authority_file: Path, server: Path, client: Path | None, *, host: str) -> str | None:
    """The client's name as the server saw it, or what went wrong, over a real TLS connection."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server, server.with_suffix(".key"))
    accepting.load_verify_locations(authority_file)
    accepting.verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
    connecting = ssl.create_default_context(cafile=str(authority_file))
    if client:
        connecting.load_cert_chain(client, client.with_suffix(".key"))
    near, far = socket.socketpair()
    seen: list[str | None] = []

    def serve() -> None:
        try:
            with accepting.wrap_socket(far, server_side=True) as secure:
                der = secure.getpeercert(binary_form=True)
                seen.append(common_name(der) if der else None)
                secure.sendall(b"x")
        except OSError as error:
            seen.append(f"server: {error}")
            far.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with connecting.wrap_socket(near, server_hostname=host) as secure:
            secure.recv(1)
    except OSError as error:
        near.close()
        seen.insert(0, f"client: {error}")
    thread.join()
    return seen[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "fl.example.org", "10.0.0.7"])
def test_a_server_is_believed_under_each_of_its_names(
    tmp_path: Path, authority: Authority, host: str
) -> None:
    server = issue_server(authority, tmp_path, hosts=["fl.example.org", "10.0.0.7", "localhost"])
    client = issue_client(authority, tmp_path, name="ann")
    assert handshake(tmp_path / "ca" / "ca.crt", server, client, host=host) == "ann"


def test_strangers_are_not_believed(tmp_path: Path, authority: Authority) -> None:
    server = issue_server(authority, tmp_path)
    own, client = tmp_path / "ca" / "ca.crt", issue_client(authority, tmp_path, name="ann")
    assert "client: " in str(handshake(own, server, None, host="fl.example.org"))
    other = create_authority(tmp_path / "other", name="other-ca")
    imposter = issue_server(other, tmp_path / "other", name="imposter")
    assert "client: " in str(handshake(own, imposter, None, host="localhost"))
    mallory = issue_client(other, tmp_path / "other", name="ann")
    assert handshake(own, server, mallory, host="localhost") != "ann"
    # A server's certificate does not connect, a client's does not serve.
    assert handshake(own, server, server, host="localhost") != "server"
    assert "client: " in str(handshake(own, client, None, host="localhost"))


def test_a_request_made_at_a_site_is_certified_without_its_key(
    tmp_path: Path, authority: Authority
) -> None:
    request = create_request(tmp_path / "site", "va")
    assert b"PRIVATE" not in request
    pem = sign_request(authority, request, name="va", role=Role.SITE)
    (tmp_path / "site" / "va.crt").write_bytes(pem)
    server = issue_server(authority, tmp_path)
    client = tmp_path / "site" / "va.crt"
    assert handshake(tmp_path / "ca" / "ca.crt", server, client, host="localhost") == "va"


def crafted(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str) -> bytes:
    """A request that asks for more than it should get."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bank.com")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def test_nothing_but_the_key_is_taken_from_a_request(authority: Authority) -> None:
    request = crafted(ec.generate_private_key(ec.SECP256R1()), "va")
    pem = sign_request(authority, request, name="va", role=Role.SITE, days=7)
    certificate = x509.load_pem_x509_certificate(pem)
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectAlternativeName)
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime <= dt.timedelta(days=7, minutes=5)


def test_requests_that_do_not_hold_together_are_refused(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    request = crafted(key, "va")
    with pytest.raises(AuthenticationError, match="does not ask for the name 'cleveland'"):
        sign_request(authority, request, name="cleveland", role=Role.SITE)
    der = x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(der.replace(b"bank.com", b"bonk.com"))
    with pytest.raises(AuthenticationError, match="not signed by the key"):
        sign_request(
            authority,
            forged.public_bytes(serialization.Encoding.PEM),
            name="va",
            role=Role.SITE,
        )
    for bad in (b"", b"garbage", b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n"):
        with pytest.raises(InputError, match="certificate request"):
            sign_request(authority, bad, name="va", role=Role.SITE)
    for weak in (
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP192R1()),
    ):
        with pytest.raises(InputError, match="EC key"):
            sign_request(authority, crafted(weak, "va"), name="va", role=Role.SITE)
    for role, hosts in ((Role.SERVER, ()), (Role.SITE, ("localhost",))):
        with pytest.raises(InputError, match="hosts"):
            sign_request(authority, request, name="va", role=role, hosts=hosts)


@pytest.mark.parametrize("host", ["", "a b", "a..b", "exa_mple", "*.example.org", "bücher.de"])
def test_refuses_hosts_that_are_none(tmp_path: Path, authority: Authority, host: str) -> None:
    with pytest.raises(InputError, match="neither a DNS name nor an IP address"):
        issue_server(authority, tmp_path, hosts=[host])
    assert not (tmp_path / "server.key").exists()


def test_an_authority_is_read_back(tmp_path: Path, authority: Authority) -> None:
    assert load_authority(tmp_path / "ca").certificate == authority.certificate
    assert "CN=sordino-ca" in repr(authority)
    create_authority(tmp_path / "other", name="x")
    (tmp_path / "ca" / "ca.crt").write_bytes((tmp_path / "other" / "ca.crt").read_bytes())
    with pytest.raises(InputError, match=r"not the certificate of ca\.key"):
        load_authority(tmp_path / "ca")
    (tmp_path / "ca" / "ca.key").chmod(0o640)
    with pytest.raises(InputError, match=r"mode 0640\); fix: chmod 600"):
        load_authority(tmp_path / "ca")
    with pytest.raises(NotFoundError):
        load_authority(tmp_path / "gone")


def test_every_private_key_is_private_and_stays(tmp_path: Path, authority: Authority) -> None:
    issue_server(authority, tmp_path)
    issue_client(authority, tmp_path, name="ann")
    create_request(tmp_path, "va")
    create_node_key(tmp_path, "va")
    save_keypair(tmp_path, "job")
    keys = sorted(tmp_path.rglob("*.key"))
    assert len(keys) == 6
    before = [(path.read_bytes(), path.stat().st_mode & 0o777) for path in keys]
    assert {mode for _, mode in before} == {0o600}
    for again in (
        lambda: create_authority(tmp_path / "ca", name="x"),
        lambda: issue_server(authority, tmp_path),
        lambda: issue_client(authority, tmp_path, name="ann"),
        lambda: create_request(tmp_path, "va"),
        lambda: create_node_key(tmp_path, "va"),
    ):
        with pytest.raises(InputError, match="exists already"):
            again()
    assert [(path.read_bytes(), path.stat().st_mode & 0o777) for path in keys] == before


def test_flower_takes_the_node_key(tmp_path: Path) -> None:
    path = create_node_key(tmp_path, "va")
    private = serialization.load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert uses_nist_ec_curve(private.public_key())
    assert private.curve.name == "secp384r1"
    registered = try_load_public_key(tmp_path / "va.node.openssh")
    assert registered == public_key_to_bytes(private.public_key())


def test_trusting_a_key_makes_its_signatures_hold(tmp_path: Path) -> None:
    signer = save_keypair(tmp_path / "keys", "va")
    trust(tmp_path / "keys" / "va.pub", tmp_path / "trusted")
    load_trust(tmp_path / "trusted").verify("va", b"x", signer.sign(b"x"))
    with pytest.raises(InputError, match="exists already"):
        trust(tmp_path / "keys" / "va.pub", tmp_path / "trusted")
    (tmp_path / "bad.pub").write_text("nonsense")
    with pytest.raises(InputError, match=r"bad\.pub"):
        trust(tmp_path / "bad.pub", tmp_path / "trusted")
    assert isinstance(
        load_signer(tmp_path / "keys" / "va.key", "va").key, ed25519.Ed25519PrivateKey
    )


def test_a_certificate_serves_or_connects_and_never_both(
    tmp_path: Path, authority: Authority
) -> None:
    kind = x509.ExtendedKeyUsage
    for path, usage in (
        (issue_server(authority, tmp_path), ExtendedKeyUsageOID.SERVER_AUTH),
        (issue_client(authority, tmp_path, name="va"), ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        read = read_certificate(path)
        assert list(read.extensions.get_extension_for_class(kind).value) == [usage]


def test_an_authority_makes_no_other_authority(authority: Authority) -> None:
    limits = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert (limits.value.ca, limits.value.path_length) == (True, 0)


def test_an_endless_request_is_not_read(authority: Authority) -> None:
    request = sign_own_request(ec.generate_private_key(ec.SECP256R1()), "va")
    sign_request(authority, b"x\n" * 10 + request, name="va", role=Role.SITE)
    with pytest.raises(InputError, match="expected a certificate request"):
        sign_request(authority, b"x\n" * 10_000 + request, name="va", role=Role.SITE)


def test_one_revocation_forgets_no_other(tmp_path: Path, authority: Authority) -> None:
    directory, taken = tmp_path / "ca", set[int]()
    for name in ("va", "vb"):
        key = ec.generate_private_key(ec.SECP256R1())
        issued.certify(directory, sign_own_request(key, name), name=name, role=Role.SITE)
        taken |= {each.serial for each in issued.revoke(directory, name)}
        assert revoked_serials(directory / "ca.crt") == taken
    assert len(taken) == 2
    after = authority.certificate.not_valid_after_utc
    assert {each.state(after) for each in issued.issued(directory)} == {"revoked"}


def test_a_certificate_past_its_day_is_listed_as_expired(
    tmp_path: Path, authority: Authority
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    issued.certify(tmp_path / "ca", sign_own_request(key, "va"), name="va", role=Role.SITE, days=2)
    (listed,) = issued.issued(tmp_path / "ca")
    assert listed.state(listed.not_after - dt.timedelta(seconds=1)) == "valid"
    assert listed.state(listed.not_after) == "expired"
    assert listed.not_after < authority.certificate.not_valid_after_utc
