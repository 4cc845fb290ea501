"""TLS of the listener for sites, renewed while it serves.

A context of OpenSSL cannot forget a revocation list or an authority, so each reading of the files
makes a new one, and connections that come afterwards use it. What must stay true: a set of files
that does not fit together changes nothing, and where an authority of clients is named, nobody gets
past the handshake without a certificate of a site that counts.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from sordino_protocols.certificates import role
from sordino_protocols.errors import InputError
from sordino_protocols.revocations import list_path, revoked_serials
from sordino_server.auth_failures import AuthFailure

_SITE_ROLES = ("site", "")  # authorities of others do not say what a certificate's owner is
_REVOKED = 23  # OpenSSL's X509_V_ERR_CERT_REVOKED


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a listener shows, and whom it lets in.

    Attributes:
        certificate: the server's certificate, PEM, with the whole chain.
        private_key: its key, PEM.
        client_ca: whose certificates clients must show; None: they need none.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None

    def paths(self) -> list[Path]:
        """Every file that is read, whether it is there or not."""
        clients = [] if self.client_ca is None else [self.client_ca, list_path(self.client_ca)]
        return [self.certificate, self.private_key, *clients]


class RenewableTls(ssl.SSLContext):
    """A context to listen with, whose files can be read again. Made by `listen_with`.

    To the event loop it is any context; each connection is made by the newest.
    """

    _files: TlsFiles
    _current: "_Context"
    _on_failure: Callable[[AuthFailure], None]

    def reload(self) -> None:
        """Read the files again; connections that are there already stay.

        Raises:
            InputError: they cannot be used, and nothing was changed.
            IntegrityError: the revocation list is not the authority's, and nothing was changed.
        """
        self._current = _make_context(self._files, self._on_failure)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the library's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection with the newest files."""
        return self._current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def listen_with(
    files: TlsFiles, on_failure: Callable[[AuthFailure], None] = lambda _: None
) -> RenewableTls:
    """A context for a listener, TLS 1.3.

    Args:
        files: what to show and whom to let in.
        on_failure: told of every client whose certificate does not let it in.

    Raises:
        InputError: the files cannot be used.
        IntegrityError: the revocation list is not the authority's.
    """
    context = RenewableTls(ssl.PROTOCOL_TLS_SERVER)
    context._files, context._on_failure = files, on_failure  # noqa: SLF001 - SSLContext is made by __new__
    context.reload()
    return context


class _Handshake(ssl.SSLObject):
    """A connection whose client must be a site, if clients must show a certificate at all."""

    def do_handshake(self) -> None:
        context = self.context
        if not isinstance(context, _Context):
            raise TypeError("made by another context")
        try:
            super().do_handshake()
            self._require_site(context)
        except ssl.SSLError as error:
            failure = _failure(error)
            if failure is not None:
                context.on_failure(failure)
            raise

    def _require_site(self, context: ssl.SSLContext) -> None:
        if context.verify_mode is not ssl.CERT_REQUIRED:
            return
        shown = self.getpeercert(binary_form=True)
        if shown is None or role(x509.load_der_x509_certificate(shown)) not in _SITE_ROLES:
            raise _NoSiteError


class _NoSiteError(ssl.SSLError):
    """The certificate counts, and is somebody else's than a site's."""


def _failure(error: ssl.SSLError) -> AuthFailure | None:
    """What was wrong with a client's certificate; None if it was something else."""
    match error:
        case ssl.SSLCertVerificationError(verify_code=code) if code == _REVOKED:
            return AuthFailure.REVOKED
        case ssl.SSLCertVerificationError() | _NoSiteError():
            return AuthFailure.SITE_CERTIFICATE
        case _ if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return AuthFailure.SITE_CERTIFICATE
        case _:
            return None


class _Context(ssl.SSLContext):
    on_failure: Callable[[AuthFailure], None]
    sslobject_class = _Handshake


def _make_context(files: TlsFiles, on_failure: Callable[[AuthFailure], None]) -> _Context:
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.on_failure = on_failure
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(files.certificate, files.private_key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"{files.certificate} and {files.private_key}: not a PEM certificate and its key"
        ) from error
    if files.client_ca is not None:
        _require_clients(context, files.client_ca)
    return context


def _require_clients(context: ssl.SSLContext, authority: Path) -> None:
    revoked_serials(authority)  # says in words what OpenSSL says in numbers
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cafile=authority)
        if list_path(authority).exists():
            context.load_verify_locations(cafile=list_path(authority))
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{authority}: cannot be used to check clients") from error
