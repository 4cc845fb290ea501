"""X.509 certificates as files: who they name, until when they count.

For whoever watches a certificate: metrics, readiness checks, listings. Whom to believe is decided
by TLS, by a certificate authority and by `revocations`, not here.
"""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from sordino_protocols.errors import InputError, NotFoundError


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a PEM file; of a chain the first, which is its owner's.

    Raises:
        NotFoundError: there is no such file.
        InputError: it cannot be read, or holds no certificate in PEM.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such certificate") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: expected a certificate in PEM") from None


def not_after(path: Path) -> dt.datetime:
    """When the certificate in a PEM file expires, UTC.

    Raises:
        NotFoundError: there is no such file.
        InputError: it cannot be read, or holds no certificate in PEM.
    """
    return read_certificate(path).not_valid_after_utc


def common_name(certificate: x509.Certificate) -> str:
    """Whom a certificate names; empty where it names nobody."""
    return _subject(certificate, NameOID.COMMON_NAME)


def role(certificate: x509.Certificate) -> str:
    """What its authority lets its owner be, such as "site"; empty where that is not said."""
    return _subject(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, in the form that people compare: `aabb:ccdd:…`."""
    return spell_fingerprint(certificate.fingerprint(hashes.SHA256()))


def spell_fingerprint(digest: bytes) -> str:
    """A digest in groups of four hexadecimal digits, to be read aloud."""
    return digest.hex(":", 2)


def _subject(certificate: x509.Certificate, attribute: x509.ObjectIdentifier) -> str:
    found = certificate.subject.get_attributes_for_oid(attribute)
    return str(found[0].value) if found else ""
