"""Which certificates count no more, although their time is not over.

An authority's list is an X.509 revocation list (RFC 5280) in a file beside the authority's own
certificate: `ca.crl` beside `ca.crt`. No such file means that nothing was revoked. What must stay
true: a list that its authority did not sign is an error, never an empty list.
"""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sordino_protocols.certificates import read_certificate
from sordino_protocols.errors import InputError, IntegrityError


def list_path(authority: Path) -> Path:
    """Where the list of the authority with this certificate lies."""
    return authority.with_suffix(".crl")


def revoked_serials(authority: Path) -> frozenset[int]:
    """Serial numbers of the certificates that the authority revoked.

    Args:
        authority: the authority's certificate; its list lies beside it.

    Raises:
        NotFoundError: there is no such certificate.
        InputError: a file cannot be read, or is not what its name says.
        IntegrityError: the list is not signed by the authority.
    """
    issuer = read_certificate(authority)
    path = list_path(authority)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        revoked = x509.load_pem_x509_crl(content)
    except ValueError:
        raise InputError(f"{path}: expected a revocation list in PEM") from None
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not revoked.is_signature_valid(key):
        raise IntegrityError(f"{path}: is not signed by the authority of {authority}")
    return frozenset(each.serial_number for each in revoked)
