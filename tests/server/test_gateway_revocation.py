"""The gateway while certificates are renewed and taken back."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from federation import SUBMITTER, make_job
from gateway_desk import Desk, open_desk

from sordino.connection import Connection
from sordino_deploy import issued, pki
from sordino_deploy.approving import authority_directory
from sordino_deploy.server_setup import renew_server
from sordino_protocols.errors import AuthenticationError


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path / "federation") as running:
        yield running


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        threading.Event().wait(0.1)


def is_turned_away(call: Callable[[], object]) -> bool:
    try:
        call()
    except AuthenticationError as error:
        return "revoked" in str(error)
    return False


def test_a_revoked_certificate_ends_every_kind_of_call(desk: Desk) -> None:
    with Connection(desk.profile) as connection:
        run_id = connection.submit(make_job())
        watching = connection.watch(run_id)
        assert next(iter(watching))["state"] == "queued"
        issued.revoke(authority_directory(desk.host.config), SUBMITTER)
        until(lambda: is_turned_away(connection.sites))
        for call in (
            lambda: connection.submit(make_job()),
            lambda: connection.show(run_id),
            lambda: connection.fetch(run_id, "statement.json"),
            lambda: list(watching),
        ):
            assert is_turned_away(call)


def test_a_certificate_of_a_site_is_for_something_else(desk: Desk, tmp_path: Path) -> None:
    authority = pki.load_authority(authority_directory(desk.host.config))
    # A site that is called like a person must not see what is the person's.
    shown = pki.issue_client(authority, tmp_path, name=SUBMITTER, role=pki.Role.SITE)
    update = {"certificate": shown, "private_key": shown.with_suffix(".key")}
    with (
        Connection(desk.profile.model_copy(update=update)) as site,
        pytest.raises(AuthenticationError, match="for something else"),
    ):
        site.sites()


def test_a_renewed_certificate_is_shown_from_the_next_connection_on(desk: Desk) -> None:
    config = desk.host.config
    whole = config.server.certificate.read_bytes()
    with Connection(desk.profile) as before:
        before.sites()
        config.server.certificate.write_text("half a certificate")
        assert shown(desk).encode() == whole
        config.server.certificate.write_bytes(whole)
        renewed = renew_server(config, authority=authority_directory(config)).read_bytes()
        assert renewed != whole
        assert shown(desk).encode() == renewed
        before.sites()


def shown(desk: Desk) -> str:
    """The certificate that a new connection is shown, PEM."""
    context = ssl.create_default_context(cafile=desk.profile.ca_certificate)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", desk.port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")
