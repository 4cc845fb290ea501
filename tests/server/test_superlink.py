"""A real SuperLink on loopback: what it refuses, and a run from start to answers."""

import http.client
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from loopback import Certificates, make_certificates, make_node_key, serve_vault

from sordino_client.link import LinkSettings, run_link
from sordino_protocols.errors import InputError, NotFoundError
from sordino_server.bundle import build_fab
from sordino_server.superlink import RunStatus, SuperLink, SuperLinkSettings

pytestmark = pytest.mark.system

APP = """
import json
from pathlib import Path
from flwr.serverapp import ServerApp
from sordino_server.exchange import Exchange

app = ServerApp()

@app.main()
def main(grid, context):
    exchange = Exchange(grid)
    sites = set(context.run_config["sites"].split(","))
    while not sites <= exchange.nodes().keys():
        pass
    rounds = []
    for number in range(3):
        envelope = b"round %d " % number * 20_000
        envelopes = dict.fromkeys(sites, envelope)
        pending = exchange.send(envelopes, message_type="train", ttl_seconds=60)
        answers = {}
        while pending.sites:
            new, pending = exchange.poll(pending)
            for each in new:
                right = each.envelope == envelope[::-1]
                answers[each.site] = each.error or ("right" if right else "wrong")
        rounds.append(answers)
    Path(context.run_config["out"]).write_text(json.dumps(rounds))
"""


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not happen"
        threading.Event().wait(0.05)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def superlink(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[SuperLink]:
    apps = tmp_path_factory.mktemp("apps")
    (apps / "echo_app.py").write_text(APP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(apps))
        superlink = SuperLink(
            SuperLinkSettings(
                directory=tmp_path_factory.mktemp("superlink"),
                public_address="127.0.0.1:0",
                certificate=certificates.certificate,
                private_key=certificates.private_key,
            )
        )
        superlink.start()
        try:
            yield superlink
        finally:
            superlink.stop()


@contextmanager
def linked_site(
    superlink: SuperLink,
    certificates: Certificates,
    directory: Path,
    name: str,
    answer: Callable[[bytes], bytes],
) -> Iterator[None]:
    directory.mkdir()
    superlink.register_node(name, make_node_key(directory / "key"))
    settings = LinkSettings(
        site=name,
        server_address=f"127.0.0.1:{superlink.public_port}",
        ca_certificate=certificates.authority,
        node_key=directory / "key",
        vault_socket=directory / "vault.sock",
    )
    stop = threading.Event()
    with serve_vault(settings.vault_socket, answer):
        thread = threading.Thread(target=run_link, args=(settings, stop))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def ask(port: int, request: bytes, authority: Path | None = None) -> int:
    """Send these very bytes; returns the status. No client tidies the path up."""
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        if authority is not None:
            context = ssl.create_default_context(cafile=authority)
            connection = stack.enter_context(
                context.wrap_socket(connection, server_hostname="127.0.0.1")
            )
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status


def post(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers, "Content-Type: application/protobuf"]
    if not any("content-length" in each.lower() or "chunked" in each for each in headers):
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/v1/control/list-nodes",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/get-fab",
        "/v1/fleet/get-run",
        "/v1/fleet/register-node",
        "/v1/fleet/../control/list-nodes",
        "/v1/fleet/%2e%2e/control/list-nodes",
        "/v1/fleet/..%2fcontrol/list-nodes",
        "/v1/fleet//pull-messages",
        "//v1/fleet/pull-messages",
        "/v1/fleet/pull-messages/",
        "/v1/fleet/pull-messages.",
        "/v1/Fleet/pull-messages",
        "/v1/fleet/pull%2Dmessages",
        "/v1/fleet/",
        "http://127.0.0.1/v1/control/list-nodes",
    ],
)
def test_the_public_listener_refuses(
    superlink: SuperLink, certificates: Certificates, path: str
) -> None:
    assert ask(superlink.public_port, post(path), certificates.authority) in (400, 404)


def test_the_refusals_above_are_not_refusals_of_everything(
    superlink: SuperLink, certificates: Certificates
) -> None:
    health = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert ask(superlink.public_port, health, certificates.authority) == 200
    assert ask(superlink.admin_port, health) == 200
    unsigned = post("/v1/fleet/pull-messages")
    assert ask(superlink.public_port, unsigned, certificates.authority) == 401


@pytest.mark.parametrize(
    "path", ["/docs", "/openapi.json", "/v1/control/list-nodes", "/v1/fleet/pull-messages"]
)
def test_the_admin_listener_refuses(superlink: SuperLink, path: str) -> None:
    assert ask(superlink.admin_port, post(path)) == 404


def test_no_task_without_the_secret(superlink: SuperLink) -> None:
    assert ask(superlink.admin_port, post("/v1/runtime/acquire-task")) in (401, 403)


@pytest.mark.parametrize(
    "header",
    ["Content-Length: 99999999999", "Transfer-Encoding: chunked", "Content-Length: 17000000"],
)
def test_a_body_too_large_is_refused_before_it_is_read(
    superlink: SuperLink, certificates: Certificates, header: str
) -> None:
    request = post("/v1/fleet/pull-messages", header)
    assert ask(superlink.public_port, request, certificates.authority) == 413


def test_a_run_asks_every_site_and_gets_its_answers(
    superlink: SuperLink, certificates: Certificates, tmp_path: Path
) -> None:
    def broken(envelope: bytes) -> bytes:
        raise ValueError(envelope)

    with (
        linked_site(superlink, certificates, tmp_path / "a", "run-a", lambda raw: raw[::-1]),
        linked_site(superlink, certificates, tmp_path / "b", "run-b", lambda raw: raw[::-1]),
        linked_site(superlink, certificates, tmp_path / "c", "run-c", broken),
    ):
        fab = build_fab("echo_app:app", run_config={"sites": "", "out": ""})
        out = tmp_path / "out.json"
        run = superlink.start_run(fab, {"sites": "run-a,run-b,run-c", "out": str(out)})
        over = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.STOPPED)
        until(lambda: superlink.run_status(run) in over, seconds=120)
        assert superlink.run_status(run) is RunStatus.COMPLETED
        rounds = json.loads(out.read_text())
        assert rounds == [{"run-a": "right", "run-b": "right", "run-c": "failed"}] * 3
        assert {each.name for each in superlink.nodes() if each.is_online} >= {"run-a", "run-b"}
        assert superlink.stop_run(run) is False


def test_a_run_can_be_stopped(superlink: SuperLink, tmp_path: Path) -> None:
    fab = build_fab("echo_app:app", run_config={"sites": "", "out": ""})
    run = superlink.start_run(fab, {"sites": "never-there", "out": str(tmp_path / "out")})
    assert superlink.stop_run(run) is True
    assert superlink.run_status(run) is RunStatus.STOPPED


def server_apps(superlink: SuperLink) -> list[int]:
    """Processes of server apps that the SuperLink's SuperExec has started."""
    parent = str(superlink.superexec_pid)
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            words = (path.parent / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[1] == parent and any(word.endswith("flwr-serverapp") for word in words):
            found.append(int(path.parent.name))
    return found


def test_a_run_whose_app_was_killed_is_orphaned(superlink: SuperLink, tmp_path: Path) -> None:
    fab = build_fab("echo_app:app", run_config={"sites": "", "out": ""})
    run = superlink.start_run(fab, {"sites": "never-there", "out": str(tmp_path / "out")})
    until(lambda: superlink.run_status(run) is RunStatus.RUNNING)
    assert not superlink.is_orphaned(run)
    [app] = server_apps(superlink)
    os.kill(app, signal.SIGKILL)
    until(lambda: superlink.is_orphaned(run))
    assert superlink.run_status(run) is RunStatus.RUNNING  # Flower has not noticed
    superlink.stop_run(run)
    assert not superlink.is_orphaned(run)


def test_refuses_an_override_that_the_bundle_does_not_name(superlink: SuperLink) -> None:
    with pytest.raises(InputError, match="cannot be started"):
        superlink.start_run(build_fab("echo_app:app"), {"out": "x"})


def test_an_unknown_run_is_not_found(superlink: SuperLink) -> None:
    with pytest.raises(NotFoundError):
        superlink.run_status(12345)
    with pytest.raises(NotFoundError):
        superlink.stop_run(12345)


def test_a_site_is_registered_once(superlink: SuperLink, tmp_path: Path) -> None:
    key = make_node_key(tmp_path / "key")
    node_id = superlink.register_node("once", key)
    assert superlink.register_node("once", key) == node_id
    with pytest.raises(InputError, match="another site"):
        superlink.register_node("twice", key)
    with pytest.raises(InputError, match="another key"):
        superlink.register_node("once", make_node_key(tmp_path / "other"))
    with pytest.raises(InputError, match="P-384"):
        superlink.register_node("weak", make_node_key(tmp_path / "weak", ec.SECP256R1()))
    superlink.unregister_node("once")
    assert "once" not in {each.name for each in superlink.nodes()}
    with pytest.raises(NotFoundError):
        superlink.unregister_node("once")


def test_superexec_is_started_again_when_it_dies(superlink: SuperLink) -> None:
    until(lambda: superlink.superexec_pid is not None)
    first = superlink.superexec_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: superlink.superexec_pid not in (None, first))


def test_nothing_is_left_behind_when_it_stops(certificates: Certificates, tmp_path: Path) -> None:
    settings = SuperLinkSettings(
        directory=tmp_path / "superlink",
        public_address="127.0.0.1:0",
        certificate=certificates.certificate,
        private_key=certificates.private_key,
    )
    superlink = SuperLink(settings)
    superlink.start()
    until(lambda: superlink.superexec_pid is not None)
    child = superlink.superexec_pid
    assert child is not None
    superlink.stop()
    assert not Path(f"/proc/{child}").exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", superlink.public_port))
    secret = settings.directory / "superexec.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert settings.directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:port", ":8443", "127.0.0.1:99999"])
def test_refuses_an_address_it_cannot_listen_at(
    certificates: Certificates, tmp_path: Path, address: str
) -> None:
    with pytest.raises(InputError):
        SuperLink(
            SuperLinkSettings(
                directory=tmp_path,
                public_address=address,
                certificate=certificates.certificate,
                private_key=certificates.private_key,
            )
        )
