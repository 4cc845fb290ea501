"""What is wrong on a host: each look finds it, and says where."""

import datetime as dt
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sordino_deploy import pki
from sordino_protocols import diagnosis
from sordino_protocols.certificates import not_after
from sordino_protocols.diagnosis import (
    DoubtError,
    diagnose_readiness,
    examine,
    look_at_certificate,
    look_at_pair,
    look_at_port,
    look_at_secret,
    look_at_server,
    look_at_socket,
    look_at_state,
    readiness_at,
)
from sordino_protocols.errors import InputError, NotFoundError, UnreachableError
from sordino_protocols.health import Check


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a server's certificate with its key."""
    directory = tmp_path_factory.mktemp("keys")
    authority = pki.create_authority(directory / "authority", name="authority")
    pki.issue_server(authority, directory)
    pki.create_authority(directory / "stranger", name="stranger")
    return directory


@contextmanager
def serving(
    keys: Path | None, *, body: bytes = b"{}", skew: dt.timedelta = dt.timedelta()
) -> Iterator[str]:
    """A little HTTP server, with TLS if there are keys, whose clock may be wrong."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            now = dt.datetime.now(dt.UTC).timestamp() if timestamp is None else timestamp
            return super().date_time_string(now + skew.total_seconds())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if keys is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(keys / "server.crt", keys / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority / "ca.crt")


def test_what_a_look_finds_becomes_a_diagnosis() -> None:
    def doubts() -> str:
        raise DoubtError("hm")

    def fails() -> str:
        raise InputError("no")

    assert examine("a", lambda: "fine", fix="nothing").fix == ""
    found = [examine("b", doubts, fix="look"), examine("c", fails, fix="mend")]
    assert [(each.outcome, each.detail, each.fix) for each in found] == [
        ("warning", "hm", "look"),
        ("problem", "no", "mend"),
    ]


def test_state_is_its_owners_and_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    assert "not there yet" in look_at_state(state)
    state.mkdir(mode=0o700)
    assert "GiB free" in look_at_state(state)
    state.chmod(0o750)
    with pytest.raises(InputError, match="others may look"):
        look_at_state(state)
    state.chmod(0o700)
    monkeypatch.setattr(diagnosis, "LEAST_FREE_BYTES", shutil.disk_usage(state).total + 1)
    with pytest.raises(DoubtError, match="MiB are free"):
        look_at_state(state)


def test_a_secret_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    with pytest.raises(NotFoundError):
        look_at_secret(path)
    path.touch(mode=0o600)
    assert look_at_secret(path) == str(path)
    path.chmod(0o640)
    with pytest.raises(InputError, match=r"mode 0640\); fix: chmod 600"):
        look_at_secret(path)


def test_a_certificate_that_ends_soon_is_said_in_time(keys: Path) -> None:
    path = keys / "server.crt"
    ends = not_after(path)
    assert "until" in look_at_certificate(path)
    with pytest.raises(DoubtError, match="in 28 days"):
        look_at_certificate(path, now=ends - dt.timedelta(days=29) + dt.timedelta(hours=1))
    for left in (dt.timedelta(hours=23), dt.timedelta(days=-1)):
        with pytest.raises(InputError, match="expires or expired"):
            look_at_certificate(path, now=ends - left)
    with pytest.raises(InputError, match="PEM"):
        look_at_certificate(keys / "server.key")


def test_a_key_that_is_another_certificates_is_noticed(keys: Path) -> None:
    assert "server.crt" in look_at_pair(keys / "server.crt", keys / "server.key")
    with pytest.raises(InputError, match="is not the key of"):
        look_at_pair(keys / "server.crt", keys / "authority" / "ca.key")


def test_a_sockets_name_fits_and_its_directory_is_there() -> None:
    here = Path("/dev/shm")  # noqa: S108 - a short name, below which nothing is made
    assert look_at_socket(here / "a.sock") == f"{here}/a.sock"
    with pytest.raises(InputError, match="107 bytes"):
        look_at_socket(here / ("x" * 108))
    with pytest.raises(DoubtError, match="not there yet"):
        look_at_socket(here / "no-such-directory" / "a.sock")


def test_a_server_that_is_believed_and_keeps_time_answers(keys: Path) -> None:
    with serving(keys) as address:
        said = look_at_server(address, trusting(keys / "authority"))
    assert said == f"{address} answers; the clocks agree"


@pytest.mark.parametrize("minutes", [-5, 5])
def test_a_clock_that_is_minutes_off_is_noticed(keys: Path, minutes: int) -> None:
    skew = dt.timedelta(minutes=minutes)
    with serving(keys, skew=skew) as address, pytest.raises(InputError) as caught:
        look_at_server(address, trusting(keys / "authority"))
    assert f"{'+' if minutes > 0 else '-'}" in str(caught.value)
    assert "its clock is" in str(caught.value)


def test_a_server_of_another_authority_is_not_believed(keys: Path) -> None:
    with serving(keys) as address, pytest.raises(InputError, match="not believed"):
        look_at_server(address, trusting(keys / "stranger"))


def test_nobody_or_somebody_without_tls_is_no_server(keys: Path) -> None:
    context = trusting(keys / "authority")
    with serving(None) as address, pytest.raises(UnreachableError):
        look_at_server(address, context)
    with pytest.raises(UnreachableError):
        look_at_server(address, context)


def test_an_address_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=address):
            look_at_port(address)
    assert look_at_port(address) == f"{address} is free"
    with pytest.raises(InputError, match="203"):
        look_at_port("203.0.113.1:1")


def test_a_running_daemons_own_checks_are_passed_on() -> None:
    body = b'{"ready": false, "checks": {"vault": {"ok": false, "detail": "no answer"}}}'
    with serving(None, body=body) as address:
        checks = readiness_at(address)
    assert checks == (Check("vault", is_ok=False, detail="no answer"),)
    assert readiness_at(address) is None
    found = diagnose_readiness(checks, fix="see the log")
    assert [(each.check, each.outcome, each.fix) for each in found] == [
        ("ready: vault", "problem", "see the log")
    ]
