"""TLS of the gateway, renewed while it serves: the newest files from the next connection on."""

import ssl
from pathlib import Path

import grpc
import structlog

from sordino_protocols.errors import InputError
from sordino_protocols.file_changes import FileChanges
from sordino_server.config import ServerConfig

_log = structlog.get_logger(component="server")


def gateway_credentials(config: ServerConfig) -> grpc.ServerCredentials:
    """What the gateway shows, and whose certificates it asks for.

    Raises:
        InputError: a file cannot be read, or key and certificate are not a pair.
    """
    files = _Files(config.server.certificate, config.server.private_key, config.gateway.client_ca)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        files.read_if_changed,  # type: ignore[arg-type]  # the stub forgets None: nothing has changed
        require_client_authentication=True,
    )


class _Files:
    def __init__(self, certificate: Path, private_key: Path, authority: Path) -> None:
        self._certificate = certificate
        self._private_key = private_key
        self._authority = authority
        self._changes = FileChanges(lambda: (certificate, private_key, authority))

    def read(self) -> grpc.ServerCertificateConfiguration:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self._certificate, self._private_key
            )
        except (OSError, ssl.SSLError):
            raise InputError(
                f"{self._certificate} and {self._private_key}: not a PEM certificate and its key"
            ) from None
        pair = _pem(self._private_key), _pem(self._certificate)
        return grpc.ssl_server_certificate_configuration(
            [pair], root_certificates=_pem(self._authority)
        )

    def read_if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called for every connection, on a thread of gRPC's; None keeps what there is."""
        if not self._changes.differ():
            return None
        try:
            configuration = self.read()
        except InputError as error:
            # Half of a pair was replaced, perhaps: the next connection looks again.
            _log.warning("change_does_not_count", reason=str(error))
            return None
        self._changes.take()
        _log.info("gateway_certificate_renewed")
        return configuration


def _pem(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
