"""Who calls at the gateway: whom the authority named in the certificate, unless it took it back."""

from pathlib import Path

import grpc
from cryptography import x509

from sordino_protocols.certificates import common_name, role
from sordino_server.auth_failures import AuthFailure, AuthFailures
from sordino_server.trust import LiveRevocations

_ROLES = ("submitter", "operator", "")  # authorities of others do not say what an owner is


class Callers:
    """Knows the callers of a gateway whose clients all show a certificate.

    Attributes:
        failures: counts those who are turned away.
    """

    def __init__(self, authority: Path, failures: AuthFailures) -> None:
        """Believe an authority.

        Args:
            authority: its certificate; its revocation list lies beside it.
            failures: counts the calls of those whose certificate was revoked.

        Raises:
            InputError: the certificate or the list cannot be read.
            IntegrityError: the list is not the authority's.
        """
        self._revocations = LiveRevocations(authority)
        self.failures = failures

    def name(self, context: grpc.ServicerContext) -> str:
        """The caller's name; ends the call of somebody whose certificate counts no more."""
        certificate = _certificate(context)
        if certificate is None or role(certificate) not in _ROLES:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this certificate is for something else")
        if self._revocations.is_revoked(certificate.serial_number):
            self.failures.count(AuthFailure.REVOKED)
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this certificate was revoked")
        return common_name(certificate)


def _certificate(context: grpc.ServicerContext) -> x509.Certificate | None:
    # A list of byte strings, whatever the stubs say.
    shown: object = context.auth_context().get("x509_pem_cert")
    match shown:
        case [bytes(pem), *_]:
            return x509.load_pem_x509_certificate(pem)
        case _:
            return None
