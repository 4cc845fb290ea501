"""The listener for sites: whom it lets in, and what it shows, as its files change."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import uvloop
from cryptography import x509
from handshakes import shake_hands

from sordino_deploy import issued, pki
from sordino_protocols.errors import InputError, IntegrityError
from sordino_protocols.file_changes import FileChanges
from sordino_protocols.revocations import list_path
from sordino_server.auth_failures import AuthFailure
from sordino_server.tls import TlsFiles, listen_with

# An event loop ends such a connection without the alert that would say why.
NOT_LET_IN = r"ALERT|reset|nothing was said|EOF"


class Authority:
    """An authority with a server's certificate, on disk."""

    def __init__(self, directory: Path) -> None:
        pki.create_authority(directory / "ca", name="authority")
        self.directory = directory
        self.certificate = directory / "ca" / issued.CERTIFICATE
        self.files = TlsFiles(directory / "s.crt", directory / "s.key", self.certificate)
        self.request = pki.create_request(directory, "s")
        self.renew()

    def renew(self) -> x509.Certificate:
        """A new certificate of the server."""
        pem = issued.certify(
            self.certificate.parent,
            self.request,
            name="s",
            role=pki.Role.SERVER,
            hosts=["127.0.0.1"],
        )
        self.files.certificate.write_bytes(pem)
        return x509.load_pem_x509_certificate(pem)

    def client(self, name: str, role: pki.Role = pki.Role.SITE) -> ssl.SSLContext:
        """What somebody with a certificate connects with."""
        request = pki.create_request(self.directory, name)
        pem = issued.certify(self.certificate.parent, request, name=name, role=role)
        (self.directory / f"{name}.crt").write_bytes(pem)
        context = self.stranger()
        context.load_cert_chain(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        return context

    def stranger(self) -> ssl.SSLContext:
        """What somebody without a certificate connects with."""
        return ssl.create_default_context(cafile=self.certificate)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def listening(context: ssl.SSLContext) -> Iterator[Callable[[ssl.SSLContext], x509.Certificate]]:
    """Serve on loopback; yields what connects, and returns the certificate that is shown."""
    loop = uvloop.new_event_loop()
    thread = Thread(target=loop.run_forever)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await writer.drain()
        writer.close()

    async def connect(client: ssl.SSLContext) -> x509.Certificate:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            if await reader.read(1) != b"x":
                raise ConnectionResetError("nothing was said")
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return x509.load_der_x509_certificate(shown)
        finally:
            writer.close()

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)

    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
    try:
        yield lambda client: asyncio.run(connect(client))
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_renewed_certificate_is_shown_from_the_next_connection_on(authority: Authority) -> None:
    site, first = authority.client("va"), authority.renew()
    context = listen_with(authority.files)
    with listening(context) as connect:
        assert connect(site) == first
        second = authority.renew()
        assert connect(site) == first
        context.reload()
        assert connect(site) == second


def test_a_pair_that_does_not_fit_changes_nothing(authority: Authority) -> None:
    site, first = authority.client("va"), authority.renew()
    context = listen_with(authority.files)
    with listening(context) as connect:
        key = authority.files.private_key
        key.write_bytes((authority.directory / "va.key").read_bytes())
        with pytest.raises(InputError, match=r"s\.key: not a PEM certificate and its key"):
            context.reload()
        assert connect(site) == first
        list_path(authority.certificate).write_text("no list")
        with pytest.raises(InputError):
            context.reload()
        assert connect(site) == first


def test_only_sites_are_let_in(authority: Authority, tmp_path: Path) -> None:
    failures: list[AuthFailure] = []
    with listening(listen_with(authority.files, failures.append)) as connect:
        connect(authority.client("va"))
        assert failures == []
        other = Authority(tmp_path / "other")
        imposter = other.client("va")
        imposter.load_verify_locations(authority.certificate)
        for client in (
            authority.stranger(),
            authority.client("ann", pki.Role.SUBMITTER),
            imposter,
        ):
            with pytest.raises(OSError, match=NOT_LET_IN):
                connect(client)
    assert failures == [AuthFailure.SITE_CERTIFICATE] * 3


def test_a_revoked_site_is_let_in_no_more(authority: Authority) -> None:
    failures: list[AuthFailure] = []
    va, vb = authority.client("va"), authority.client("vb")
    context = listen_with(authority.files, failures.append)
    with listening(context) as connect:
        connect(va)
        issued.revoke(authority.certificate.parent, "va")
        context.reload()
        with pytest.raises(OSError, match=NOT_LET_IN):
            connect(va)
        connect(vb)
    assert failures == [AuthFailure.REVOKED]


def test_a_list_of_another_authority_stops_the_start(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    other.client("x")
    issued.revoke(other.certificate.parent, "x")
    list_path(authority.certificate).write_bytes(list_path(other.certificate).read_bytes())
    with pytest.raises(IntegrityError):
        listen_with(authority.files)


def test_without_an_authority_of_clients_everybody_may_knock(authority: Authority) -> None:
    files = TlsFiles(authority.files.certificate, authority.files.private_key)
    with listening(listen_with(files)) as connect:
        connect(authority.stranger())


def test_an_older_tls_is_not_spoken(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    site = authority.client("va")
    shake_hands(site, listen_with(authority.files), name="127.0.0.1")
    site.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)version|protocol"):
        shake_hands(site, listen_with(authority.files), name="127.0.0.1")


def test_a_revocation_alone_is_a_change_of_the_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.client("va")
    changes = FileChanges(authority.files.paths)
    assert not changes.differ()
    issued.revoke(authority.certificate.parent, "va")
    assert changes.differ()
