"""What a test of the network needs: a certificate authority, node keys, a vault that echoes."""

import datetime as dt
import ipaddress
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from sordino_protocols import site_pb2, site_pb2_grpc


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of a certificate authority and of a server at 127.0.0.1 that it vouches for."""

    authority: Path
    certificate: Path
    private_key: Path


def make_certificates(directory: Path) -> Certificates:
    directory.mkdir(parents=True, exist_ok=True)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
    authority = (
        _certificate(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        _certificate(issuer, subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    files = Certificates(directory / "ca.crt", directory / "server.crt", directory / "server.key")
    files.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.private_key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return files


def make_node_key(path: Path, curve: ec.EllipticCurve | None = None) -> bytes:
    """Write a node key to `path`; returns its public half in OpenSSH format."""
    key = ec.generate_private_key(curve or ec.SECP384R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


class StopEvent(threading.Event):
    """An event that tells when somebody waits on it: a back-off has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.backed_off = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.backed_off.set()
        return super().wait(timeout)


@contextmanager
def serve_vault(socket: Path, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """A gRPC server on a Unix socket that answers with a function; its ValueError is INTERNAL."""

    class Vault(site_pb2_grpc.VaultServicer):
        def Answer(  # noqa: N802 - gRPC's name
            self, request: site_pb2.Sealed, context: grpc.ServicerContext
        ) -> site_pb2.Sealed:
            try:
                return site_pb2.Sealed(envelope=answer(request.envelope))
            except ValueError:
                context.abort(grpc.StatusCode.INTERNAL, "kept in the vault")
                raise

        def Status(  # noqa: N802
            self, request: site_pb2.StatusRequest, context: grpc.ServicerContext
        ) -> site_pb2.StatusReply:
            del request, context
            return site_pb2.StatusReply(json="{}")

        def Metrics(  # noqa: N802
            self, request: site_pb2.MetricsRequest, context: grpc.ServicerContext
        ) -> site_pb2.MetricsReply:
            del request, context
            return site_pb2.MetricsReply(text="sordino_from_the_vault 1\n")

    server = grpc.server(futures.ThreadPoolExecutor(4))
    site_pb2_grpc.add_VaultServicer_to_server(Vault(), server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(grace=None).wait()


def _certificate(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
    )
