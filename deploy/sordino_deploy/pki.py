"""Who is who in a federation: a small certificate authority, and keys made where they are used.

A private key never travels: its owner makes it and sends a request, the authority answers with a
certificate. What a certificate says is decided by whoever signs it; nothing but the public key is
taken from a request. It says what its owner is (a site, say), so that one kind of certificate does
not open another kind's door. Keys are written with mode 0600 and never overwritten.

Signing keys (Ed25519) and what trusts them are `sordino_protocols.signing`.
"""

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sordino_protocols.errors import AuthenticationError, InputError, NotFoundError
from sordino_protocols.files import read_secret, write_public, write_secret
from sordino_protocols.signing import check_name, load_public_key

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


class Role(StrEnum):
    """What the owner of a certificate is; its organizational unit."""

    SERVER = "server"
    SITE = "site"
    SUBMITTER = "submitter"
    OPERATOR = "operator"


_CLOCK_SKEW = dt.timedelta(minutes=5)
_LARGEST_REQUEST_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates. `certificate` is public, `key` is never shown by `repr`."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()!r})"

    def pem(self) -> bytes:
        """The certificate as its file has it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def create_authority(directory: Path, *, name: str) -> Authority:
    """Make an authority (EC P-384, ten years): `ca.key` and the certificate `ca.crt`.

    Raises:
        InputError: one of the files is there already, or the name cannot name one.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    authority = sign_authority(key, _subject(check_name(name)), days=AUTHORITY_DAYS)
    _write_pair(directory / "ca.key", _pem(key), directory / "ca.crt", authority.pem())
    return authority


def sign_authority(key: ec.EllipticCurvePrivateKey, subject: x509.Name, *, days: int) -> Authority:
    """An authority with this key under this name, from now on; nothing is written."""
    builder = (
        _builder(subject, subject, key.public_key(), days=days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return Authority(builder.sign(key, hashes.SHA384()), key)


def load_authority(directory: Path) -> Authority:
    """Read what `create_authority` made.

    Raises:
        NotFoundError: a file is absent.
        InputError: others may read the key, or the files are no authority's.
    """
    key = load_key(directory / "ca.key")
    path = directory / "ca.crt"
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise InputError(f"{path}: expected a certificate in PEM") from None
    if certificate.public_key() != key.public_key():
        raise InputError(f"{path}: is not the certificate of ca.key")
    return Authority(certificate, key)


def create_request(directory: Path, name: str) -> bytes:
    """Make a TLS key (EC P-256), `<name>.key`, and a request for its certificate.

    Returns:
        the request in PEM, also written to `<name>.csr`: all that the authority needs to see.

    Raises:
        InputError: one of the files is there already, or the name cannot name one.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    request = sign_own_request(key, name)
    _write_pair(directory / f"{name}.key", _pem(key), directory / f"{name}.csr", request)
    return request


def sign_own_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """A request, in PEM, for a certificate of this key under this name.

    Raises:
        InputError: the name cannot name a key's owner.
    """
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_subject(check_name(name)))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def sign_request(
    authority: Authority,
    request: bytes,
    *,
    name: str,
    role: Role,
    hosts: Sequence[str] = (),
    days: int = CERTIFICATE_DAYS,
) -> bytes:
    """Certify the key of a request.

    Args:
        authority: who signs.
        request: PEM, from anybody; only its key is believed.
        name: whom the signer knows to have sent it; the request must ask for the same name.
        role: what that is; a server's certificate serves, all others connect, none does both.
        hosts: DNS names and IP addresses of a server.
        days: how long it is valid.

    Returns:
        the certificate in PEM.

    Raises:
        AuthenticationError: the request is not signed by its own key, or asks for another name.
        InputError: it is no request for an EC key, or `hosts` do not fit the role.
    """
    if (role is Role.SERVER) != bool(hosts):
        raise InputError("a server's certificate needs hosts, a client's has none")
    key = requested_key(request, name)
    builder = (
        _builder(_subject(name, role), authority.certificate.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_usage(role)]), critical=False)
        .add_extension(_authority_id(authority), critical=False)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_host(each) for each in hosts])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(authority.key, hashes.SHA384())
    return certificate.public_bytes(serialization.Encoding.PEM)


def issue_server(
    authority: Authority, directory: Path, *, name: str = "server", hosts: Sequence[str] = ()
) -> Path:
    """Make a server's `<name>.key` and `<name>.crt`, for loopback and `hosts`, in one place.

    Returns:
        the certificate's path.

    Raises:
        InputError: a file is there already, or a name or host is malformed.
    """
    wanted = tuple(dict.fromkeys((*LOOPBACK_HOSTS, *hosts)))
    return _issue(authority, directory, name, role=Role.SERVER, hosts=wanted)


def issue_client(
    authority: Authority, directory: Path, *, name: str, role: Role = Role.SUBMITTER
) -> Path:
    """Make a client's `<name>.key` and `<name>.crt`; its common name is `name`.

    Returns:
        the certificate's path.

    Raises:
        InputError: a file is there already, or the name cannot name one.
    """
    return _issue(authority, directory, name, role=role, hosts=())


def check_hosts(hosts: Sequence[str]) -> None:
    """Return if all of these can name a server.

    Raises:
        InputError: one is neither a DNS name nor an IP address.
    """
    for host in hosts:
        _host(host)


def certificate_hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and addresses that a server's certificate speaks for; none for a client's."""
    kind = x509.SubjectAlternativeName
    try:
        names = certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in names)


def create_node_key(directory: Path, name: str) -> Path:
    """Make the key with which a site's link joins the federation (EC P-384, as Flower asks).

    Writes `<name>.node.key` (OpenSSH, 0600) and `<name>.node.openssh` (public, OpenSSH), which the
    operator registers.

    Returns:
        the private key's path.

    Raises:
        InputError: one of the files is there already, or the name cannot name one.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    path = directory / f"{check_name(name)}.node.key"
    _write_pair(path, secret, directory / f"{name}.node.openssh", line + f" {name}\n".encode())
    return path


def trust(public_key: Path, directory: Path) -> None:
    """Put a checked `.pub` file among the trusted keys of `directory`.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no public key, or its name is trusted already.
    """
    load_public_key(public_key)
    write_public(directory / public_key.name, public_key.read_bytes())


def _issue(
    authority: Authority, directory: Path, name: str, *, role: Role, hosts: Sequence[str]
) -> Path:
    path = directory / f"{check_name(name)}.crt"
    if path.exists():
        raise InputError(f"{path}: exists already; move it away first")
    check_hosts(hosts)
    request = create_request(directory, name)
    write_public(path, sign_request(authority, request, name=name, role=role, hosts=hosts))
    return path


def requested_key(request: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The key of a request, once it is known to be its sender's own.

    Raises:
        AuthenticationError: the request is not signed by its own key, or asks for another name.
        InputError: it is no request for an EC key.
    """
    try:
        read = x509.load_pem_x509_csr(request[:_LARGEST_REQUEST_BYTES])
        key, is_own = read.public_key(), read.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        raise InputError("expected a certificate request in PEM") from None
    if not is_own:
        raise AuthenticationError("the request is not signed by the key it shows")
    if read.subject != _subject(name):
        raise AuthenticationError(f"the request does not ask for the name {name!r}")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size < 256:  # noqa: PLR2004
        raise InputError("expected an EC key of at least 256 bits in the request")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str, role: Role | None = None) -> x509.Name:
    named = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if role is not None:
        named.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value))
    return x509.Name(named)


def _usage(role: Role) -> x509.ObjectIdentifier:
    is_server = role is Role.SERVER
    return ExtendedKeyUsageOID.SERVER_AUTH if is_server else ExtendedKeyUsageOID.CLIENT_AUTH


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_id(authority: Authority) -> x509.AuthorityKeyIdentifier:
    own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if not all(part and part.isascii() and part.replace("-", "a").isalnum() for part in labels):
        raise InputError(f"host {host!r} is neither a DNS name nor an IP address")
    return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the private key of a certificate.

    Raises:
        NotFoundError: there is no such file.
        InputError: others may read it, or it holds no EC key in PEM.
    """
    pem = read_secret(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{path}: expected an unencrypted EC private key in PEM")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None


def _write_pair(secret: Path, key: bytes, public: Path, content: bytes) -> None:
    """Write both files or neither."""
    write_secret(secret, key)
    try:
        write_public(public, content)
    except InputError:
        secret.unlink()
        raise
