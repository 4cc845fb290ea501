"""A server that pushes code: it offers a bundle with a program in it, and a site never asks."""

import io
import json
import runpy
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tomli_w
import uvicorn
from federation import SmallSite, make_job, make_signer, trust
from flwr.cli.build import build_fab_from_files
from loopback import Certificates, make_certificates, make_node_key, serve_vault
from real_federation import until
from starlette.types import ASGIApp, Receive, Scope, Send

from sordino_client.link import LinkSettings, run_link
from sordino_protocols.job import new_nonce, sign_job
from sordino_protocols.messages import Inquire, Quote, Refusal, Refused
from sordino_protocols.signing import Signer
from sordino_protocols.wire import open_sealed, seal
from sordino_server.gate import FLEET_PATHS
from sordino_server.superlink import SuperLink, SuperLinkSettings

pytestmark = pytest.mark.system

MALICE = """
from pathlib import Path
Path({marker!r}).write_text("the server's code ran")
from flwr.clientapp import ClientApp
app = ClientApp()
"""

# Sends what a bundle's program would be run for, then garbage, then an honest question.
SERVER_APP = """
import json
from pathlib import Path
from flwr.app import ConfigRecord, RecordDict
from flwr.serverapp import ServerApp
from sordino_server.exchange import Exchange

app = ServerApp()

@app.main()
def main(grid, context):
    exchange, config = Exchange(grid), context.run_config
    while "a" not in exchange.nodes():
        pass
    for kind in ("train", "evaluate", "query"):
        content = RecordDict({"config": ConfigRecord({"run": "your bundle"})})
        grid.push_messages([grid.create_message(content, kind, exchange.nodes()["a"], "")])
    told = {}
    for name in ("garbage", "honest"):
        envelope = Path(config[name]).read_bytes()
        pending = exchange.send({"a": envelope}, message_type="train", ttl_seconds=60)
        while pending.sites:
            answers, pending = exchange.poll(pending)
            for each in answers:
                told[name] = each.envelope.hex() if each.envelope else str(each.error)
    Path(config["out"]).write_text(json.dumps(told))
"""


@dataclass(slots=True)
class Observed:
    """An application that remembers what it was asked."""

    app: ASGIApp
    paths: list[tuple[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.paths.append((scope["method"], scope["path"]))
        await self.app(scope, receive, send)


@contextmanager
def serving(app: ASGIApp, certificates: Certificates) -> Iterator[int]:
    """All of Flower's application, without a gate: what a hostile server would run."""
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_config=None,
        ssl_certfile=certificates.certificate,
        ssl_keyfile=certificates.private_key,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def linked(settings: LinkSettings) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=run_link, args=(settings, stop))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()


def malicious_bundle(marker: Path, config: dict[str, str]) -> bytes:
    components = {"serverapp": "hostile_app:app", "clientapp": "malice:app"}
    app = {
        "publisher": "hostile",
        "fab-include": ["/malice.py"],
        "components": components,
        "config": config,
    }
    project = {"name": "malice", "version": "1.0.0", "license": "Apache-2.0"}
    files = {
        "pyproject.toml": tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}),
        "malice.py": MALICE.format(marker=str(marker)),
    }
    return build_fab_from_files({name: text.encode() for name, text in files.items()})[0]


def run_bundle(bundle: bytes, directory: Path) -> None:
    """Do what a stock client does with a bundle: unpack it, and import its client app."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        archive.extractall(directory)
    runpy.run_path(str(directory / "malice.py"))


def start_superlink(directory: Path, certificates: Certificates) -> SuperLink:
    superlink = SuperLink(
        SuperLinkSettings(
            directory=directory,
            public_address="127.0.0.1:0",
            certificate=certificates.certificate,
            private_key=certificates.private_key,
        )
    )
    superlink.start()
    return superlink


def open_site(directory: Path, server: Signer, submitter: Signer) -> SmallSite:
    site = SmallSite(directory, make_signer("a"), trust(server), trust(submitter))
    site.open()
    return site


def test_a_site_never_asks_for_the_servers_code_and_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, submitter = make_signer("server"), make_signer("scientist")
    marker, out = tmp_path / "marker", tmp_path / "told.json"
    config = {"out": str(out)}
    honest = seal(
        Inquire("price-1", sign_job(make_job(), submitter, purpose="price", nonce=new_nonce())),
        server,
    )
    for name, envelope in (("garbage", b"SRDN" + bytes(500)), ("honest", honest)):
        (tmp_path / name).write_bytes(envelope)
        config[name] = str(tmp_path / name)
    bundle = malicious_bundle(marker, config)

    # The marker is a check: whoever runs the bundle leaves it.
    run_bundle(bundle, tmp_path / "unpacked")
    assert marker.exists()
    marker.unlink()

    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "hostile_app.py").write_text(SERVER_APP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "apps"))
    certificates = make_certificates(tmp_path / "pki")
    site = open_site(tmp_path / "site", server, submitter)
    superlink = start_superlink(tmp_path / "superlink", certificates)
    try:
        superlink.register_node("a", make_node_key(tmp_path / "node.key"))
        flower = superlink._listeners._app
        assert "/v1/fleet/get-fab" in flower.openapi()["paths"]
        observed = Observed(flower)
        with (
            serving(observed, certificates) as port,
            serve_vault(tmp_path / "vault.sock", site.answer),
            linked(
                LinkSettings(
                    site="a",
                    server_address=f"127.0.0.1:{port}",
                    ca_certificate=certificates.authority,
                    node_key=tmp_path / "node.key",
                    vault_socket=tmp_path / "vault.sock",
                )
            ) as link,
        ):
            superlink.start_run(bundle)
            until(out.exists)
            assert link.is_alive()
    finally:
        superlink.stop()
        site.close()

    told = {name: bytes.fromhex(each) for name, each in json.loads(out.read_text()).items()}
    answers = {name: open_sealed(each, trust(site.signer)).message for name, each in told.items()}
    assert answers["garbage"] == Refused("", Refusal.MALFORMED)
    quote = answers["honest"]
    assert isinstance(quote, Quote)
    assert quote.refusal is None
    assert not marker.exists()
    # Asked of a server that would have given it everything.
    assert observed.paths
    assert set(observed.paths) <= set(FLEET_PATHS)
    assert not [path for _, path in observed.paths if "fab" in path or "run" in path]
