"""What an authority signed, and what it took back.

Beside the authority's own files lie `issued/`, every certificate that it ever signed, and `ca.crl`,
its revocation list (RFC 5280). What must stay true: a certificate is on record before anybody gets
it, because only what is on record can be revoked.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sordino_deploy.authorities import is_same_authority
from sordino_deploy.pki import (
    AUTHORITY_DAYS,
    CERTIFICATE_DAYS,
    Authority,
    Role,
    load_authority,
    requested_key,
    sign_authority,
    sign_request,
)
from sordino_protocols.certificates import common_name, fingerprint, read_certificate, role
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import replace_public, write_public
from sordino_protocols.revocations import list_path, revoked_serials

CERTIFICATE = "ca.crt"
_ISSUED = "issued"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate on record.

    Attributes:
        name: whom it names.
        role: what that is.
        serial: its serial number.
        not_after: when it expires.
        fingerprint: SHA-256 of the certificate.
        is_revoked: whether it was taken back.
    """

    name: str
    role: str
    serial: int
    not_after: dt.datetime
    fingerprint: str
    is_revoked: bool

    def state(self, now: dt.datetime) -> str:
        """One of "valid", "expired" and "revoked"."""
        if self.is_revoked:
            return "revoked"
        return "valid" if now < self.not_after else "expired"


def certify(
    directory: Path,
    request: bytes,
    *,
    name: str,
    role: Role,
    hosts: Sequence[str] = (),
    days: int = CERTIFICATE_DAYS,
) -> bytes:
    """Sign a request, and put the certificate on record; see `pki.sign_request`.

    Args:
        directory: the authority's.
        request: PEM.
        name: whom the signer knows to have sent it.
        role: what that is.
        hosts: of a server.
        days: how long it is valid.

    Returns:
        the certificate in PEM.

    Raises:
        AuthenticationError: the request does not hold together.
        InputError: it is no request, its key was revoked, or the authority's files are none.
        NotFoundError: there is no authority in the directory.
    """
    authority = load_authority(directory)
    _require_unrevoked(directory, request, name)
    pem = sign_request(authority, request, name=name, role=role, hosts=hosts, days=days)
    record(directory, pem)
    return pem


def record(directory: Path, certificate: bytes) -> None:
    """Put a certificate, PEM, on record with the authority that signed it."""
    read = x509.load_pem_x509_certificate(certificate)
    path = directory / _ISSUED / f"{common_name(read)}-{read.serial_number:x}.crt"
    write_public(path, certificate)


def issued(directory: Path) -> list[Issued]:
    """Every certificate on record, by name, the oldest of a name first.

    Raises:
        NotFoundError: there is no authority in the directory.
        InputError: a file is no certificate.
        IntegrityError: the revocation list is not the authority's.
    """
    revoked = revoked_serials(directory / CERTIFICATE)
    certificates = _on_record(directory)
    certificates.sort(key=lambda each: (common_name(each), each.not_valid_before_utc))
    return [
        Issued(
            name=common_name(each),
            role=role(each),
            serial=each.serial_number,
            not_after=each.not_valid_after_utc,
            fingerprint=fingerprint(each),
            is_revoked=each.serial_number in revoked,
        )
        for each in certificates
    ]


def revoke(directory: Path, name: str) -> list[Issued]:
    """Take back every certificate of a name that still counts; on disk when this returns.

    Returns:
        those that were taken back now.

    Raises:
        NotFoundError: nobody of that name has a certificate that counts.
        InputError: the authority's files are none.
        IntegrityError: the revocation list is not the authority's.
    """
    authority = load_authority(directory)
    counting = [each for each in issued(directory) if each.name == name and not each.is_revoked]
    if not counting:
        raise NotFoundError(f"no certificate of {name!r} counts; see: sordino pki list")
    before = revoked_serials(directory / CERTIFICATE)
    serials = before | {each.serial for each in counting}
    replace_public(list_path(directory / CERTIFICATE), sign_list(authority, serials))
    return counting


def renew_authority(directory: Path, *, days: int = AUTHORITY_DAYS) -> Authority:
    """Give an authority a new certificate of the same name and key, and sign its list anew.

    What it signed counts as before: it is checked by name and key. Whoever trusts the authority
    needs the new certificate by the last day of the old one; see `publish`.

    Args:
        directory: the authority's.
        days: how long it counts from now on.

    Raises:
        NotFoundError: there is no authority in the directory.
        InputError: its files are none, or it would count for no longer than it does.
        IntegrityError: the revocation list is not the authority's.
    """
    old = load_authority(directory)
    renewed = sign_authority(old.key, old.certificate.subject, days=days)
    ends, before = (each.certificate.not_valid_after_utc for each in (renewed, old))
    if ends <= before:
        raise InputError(f"the authority counts until {before:%Y-%m-%d} already; name more days")
    path = directory / CERTIFICATE
    revoked = list_path(path)
    if revoked.exists():
        # First: the longer list is good beside either certificate.
        replace_public(revoked, sign_list(renewed, revoked_serials(path)))
    replace_public(path, renewed.pem())
    return renewed


def publish(directory: Path, certificate: Path) -> None:
    """Copy an authority's certificate and revocation list to where a daemon looks for them.

    Args:
        directory: the authority's.
        certificate: where the daemon has the authority's certificate; the list goes beside it.

    Raises:
        InputError: the daemon knows another authority; a renewed one is the same.
    """
    own = directory / CERTIFICATE
    if certificate.exists() and not is_same_authority(
        read_certificate(certificate), read_certificate(own)
    ):
        raise InputError(f"{certificate}: is not the certificate of the authority in {directory}")
    for source, target in ((own, certificate), (list_path(own), list_path(certificate))):
        is_same = target.exists() and target.resolve() == source.resolve()
        if source.exists() and not is_same:
            replace_public(target, source.read_bytes())


def _require_unrevoked(directory: Path, request: bytes, name: str) -> None:
    """A key that was revoked is in somebody else's hands, perhaps: it never gets a new paper."""
    key = requested_key(request, name)
    revoked = revoked_serials(directory / CERTIFICATE)
    for each in _on_record(directory):
        if each.serial_number in revoked and each.public_key() == key:
            raise InputError(f"the key that {name!r} shows was revoked; new keys are needed")


def _on_record(directory: Path) -> list[x509.Certificate]:
    return [read_certificate(path) for path in (directory / _ISSUED).glob("*.crt")]


def sign_list(authority: Authority, serials: frozenset[int]) -> bytes:
    """The revocation list of an authority, PEM, which counts as long as the authority does."""
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        # It is replaced when something is revoked, not when time has passed.
        .next_update(authority.certificate.not_valid_after_utc)
    )
    for serial in sorted(serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    signed = builder.sign(authority.key, hashes.SHA384())
    return signed.public_bytes(serialization.Encoding.PEM)
