"""The link's keys: its node key, and TLS, whose files may be renewed.

One authority is trusted, and the site's certificate is shown where a server asks for it.

The files are looked at before each request, so that a certificate that was renewed is shown from
the next connection on. What must stay true: files that do not fit together change nothing.
"""

import datetime as dt
import ssl
from pathlib import Path

import httpx
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from sordino_protocols.certificates import not_after
from sordino_protocols.errors import InputError
from sordino_protocols.file_changes import FileChanges

# What a server says in TLS about a certificate of ours that it does not take.
_REFUSALS = {
    "CERTIFICATE_REQUIRED": "it asks for one; name link.certificate and link.private_key",
    "CERTIFICATE_REVOKED": "it was revoked",
    "CERTIFICATE_EXPIRED": "it has expired; renew it with: sordino site enroll",
    "CERTIFICATE_UNKNOWN": "it is no site's",
    "BAD_CERTIFICATE": "it is broken",
    "UNKNOWN_CA": "another authority signed it",
}

_log = structlog.get_logger(component="link")


class LinkTls:
    """A context to connect with.

    Attributes:
        context: for every connection, TLS 1.3; changes in place when the files do.
    """

    def __init__(
        self, authority: Path, certificate: Path | None = None, private_key: Path | None = None
    ) -> None:
        """Read the files.

        Args:
            authority: the one certificate authority to trust, PEM.
            certificate: the site's own, with its chain; None: none is shown.
            private_key: its key.

        Raises:
            InputError: a file cannot be read, or key and certificate are not a pair.
        """
        self._authority = authority
        self._pair = None if certificate is None else (certificate, private_key)
        files = [each for each in (authority, certificate, private_key) if each is not None]
        self._changes = FileChanges(lambda: files)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._load(self.context)

    def renew(self) -> None:
        """Use the files as they are now; kept as they were while they do not fit together."""
        if not self._changes.differ():
            return
        try:
            # A failed attempt leaves a context without a key: not the one that is in use.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            self._load(self.context)
        except InputError as error:
            _log.warning("certificate_kept", reason=str(error))
        else:
            _log.info("certificate_renewed")
        self._changes.take()

    def own_problem(self) -> str | None:
        """What is wrong with the site's own certificate: a server may just cut the connection."""
        if self._pair is None or not_after(self._pair[0]) > dt.datetime.now(dt.UTC):
            return None
        return f"{self._pair[0]}: has expired; renew it with: sordino site enroll"

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_verify_locations(cafile=self._authority)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{self._authority}: not a readable PEM certificate") from error
        if self._pair is None:
            return
        try:
            context.load_cert_chain(*self._pair)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{self._pair[0]}: not a PEM certificate with its key") from error


def certificate_problem(error: BaseException) -> str | None:
    """What is wrong with a certificate, in words, if that is why a request failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the server's certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            for alert, why in _REFUSALS.items():
                if (cause.reason or "").endswith(f"ALERT_{alert}"):
                    return f"the server does not take this site's certificate: {why}"
        cause = cause.__cause__ or cause.__context__
    return None


def describe_failure(error: httpx.TransportError) -> str:
    """What a request failed of, for a log.

    A server that takes this site's certificate no more ends the connection without a word: its
    event loop drops the alert that would say why.
    """
    name = type(error).__name__
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError):
        return (
            f"{name}: the server ended the connection; if it goes on, ask whether this site's"
            " certificate was revoked"
        )
    return name


def read_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the key with which a link signs what it asks.

    Raises:
        InputError: it cannot be read, or is no key that Flower takes.
    """
    try:
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: not a readable, unencrypted OpenSSH key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise InputError(f"{path}: a node key must be on the curve P-384 (ecdsa-sha2-nistp384)")
    return key
