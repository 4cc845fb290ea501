"""The link: light, patient with a vault that is away, and clear about who is not who they are."""

import email.utils
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from loopback import Certificates, StopEvent, make_certificates, make_node_key, serve_vault

from sordino_client import fleet
from sordino_client.fleet import FleetSettings, join
from sordino_client.link import LinkSettings, run_link
from sordino_client.link_health import LinkHealth
from sordino_client.link_status import LinkCounters, serve_status
from sordino_client.server_answers import ServerAnswers
from sordino_client.vault_client import VaultClient, VaultFailedError
from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    SordinoError,
    UnreachableError,
)
from sordino_server.superlink import SuperLink, SuperLinkSettings

IDLE_MEGABYTES = 120


class Background:
    """A function in a thread, and how it ended."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.result: object = None
        self.error: SordinoError | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._function()
        except SordinoError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def later() -> float:
    return time.time() + 60


def test_a_link_is_light_and_free_of_what_reads_data() -> None:
    code = (
        "import sys, sordino_client.link\n"
        "print([m for m in ('torch', 'pandas', 'sqlalchemy', 'pyarrow', 'opacus', 'scipy',"
        " 'sordino_client.data', 'sordino_client.training', 'sordino_server')"
        " if m in sys.modules])\n"
        "print(open('/proc/self/status').read())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, _, status = out.stdout.partition("\n")
    assert loaded == "[]"
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    assert int(match[1]) <= IDLE_MEGABYTES * 1024


def test_a_message_waits_for_a_vault_that_comes_up_later(tmp_path: Path) -> None:
    stop = StopEvent()
    with VaultClient(tmp_path / "vault.sock") as vault:
        asking = Background(lambda: vault.answer(b"12", expires_at=later(), stop=stop))
        assert stop.backed_off.wait(60)
        with serve_vault(tmp_path / "vault.sock", lambda raw: raw[::-1]):
            asking.join()
    assert asking.result == b"21"


def test_a_message_survives_a_vault_that_is_restarted(tmp_path: Path) -> None:
    stop = StopEvent()
    asked, release = threading.Event(), threading.Event()

    def stuck(raw: bytes) -> bytes:
        asked.set()
        release.wait(60)
        return raw

    with VaultClient(tmp_path / "vault.sock") as vault:
        with serve_vault(tmp_path / "vault.sock", stuck):
            asking = Background(lambda: vault.answer(b"12", expires_at=later(), stop=stop))
            assert asked.wait(60)
            release.set()
        with serve_vault(tmp_path / "vault.sock", lambda raw: raw):
            asking.join()
    assert asking.result == b"12"


def test_gives_up_when_nobody_waits_any_more(tmp_path: Path) -> None:
    with VaultClient(tmp_path / "vault.sock") as vault, pytest.raises(UnreachableError):
        vault.answer(b"", expires_at=time.time() - 1, stop=threading.Event())


def test_gives_up_when_asked_to_stop(tmp_path: Path) -> None:
    stop = threading.Event()

    def never(raw: bytes) -> bytes:
        stop.set()
        threading.Event().wait(2)
        return raw

    with (
        serve_vault(tmp_path / "vault.sock", never),
        VaultClient(tmp_path / "vault.sock") as vault,
        pytest.raises(UnreachableError, match="asked to stop"),
    ):
        vault.answer(b"", expires_at=later(), stop=stop)


def test_a_vault_that_fails_is_not_asked_again_and_its_words_stay_inside(tmp_path: Path) -> None:
    calls = []

    def failing(raw: bytes) -> bytes:
        calls.append(raw)
        raise ValueError

    with (
        serve_vault(tmp_path / "vault.sock", failing),
        VaultClient(tmp_path / "vault.sock") as vault,
        pytest.raises(VaultFailedError) as caught,
    ):
        vault.answer(b"x", expires_at=later(), stop=threading.Event())
    assert calls == [b"x"]
    assert "kept in the vault" not in str(caught.value)


def test_an_envelope_larger_than_grpcs_default_passes(tmp_path: Path) -> None:
    large = bytes(3 * 1024 * 1024)
    with (
        serve_vault(tmp_path / "vault.sock", lambda raw: raw),
        VaultClient(tmp_path / "vault.sock") as vault,
    ):
        assert vault.answer(large, expires_at=later(), stop=threading.Event()) == large


def get(address: str | None, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}") as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def health_of(
    counters: LinkCounters, vault: VaultClient, answers: ServerAnswers | None = None
) -> LinkHealth:
    if answers is None:
        answers = ServerAnswers()
        answers.note(email.utils.formatdate(usegmt=True))
    return LinkHealth(
        is_joined=counters.is_connected,
        vault_status=vault.status,
        answers=answers,
        certificates={},
    )


def test_metrics_are_the_links_own_and_the_vaults(tmp_path: Path) -> None:
    counters = LinkCounters()
    with (
        VaultClient(tmp_path / "vault.sock") as vault,
        serve_status("127.0.0.1:0", counters, vault, health_of(counters, vault)) as address,
    ):
        status, text = get(address, "/metrics")
        assert status == 200
        assert 'sordino_link_messages_total{result="answered"} 0.0' in text
        assert "sordino_link_vault_up 0.0" in text
        assert "sordino_from_the_vault" not in text
        with serve_vault(tmp_path / "vault.sock", lambda raw: raw):
            vault.answer(b"", expires_at=later(), stop=threading.Event())  # connected again
            status, text = get(address, "/metrics")
            assert "sordino_link_vault_up 1.0" in text
            assert "sordino_from_the_vault 1" in text


def test_what_the_link_measures_itself_is_this() -> None:
    # An allow-list: how long a vault took to answer, say, depends on the records and is not on it.
    names = {family.name for family in LinkCounters().registry.collect()}
    assert names == {"sordino_link_connected", "sordino_link_messages", "sordino_link_vault_up"}


def test_ready_means_connected_on_both_sides(tmp_path: Path) -> None:
    counters = LinkCounters()
    with (
        VaultClient(tmp_path / "vault.sock") as vault,
        serve_status("127.0.0.1:0", counters, vault, health_of(counters, vault)) as address,
    ):
        assert get(address, "/livez") == (200, '{"live": true}')
        assert get(address, "/nothing")[0] == 404
        counters.connected.set(1)
        assert get(address, "/readyz")[0] == 503
        with serve_vault(tmp_path / "vault.sock", lambda raw: raw):
            vault.answer(b"", expires_at=later(), stop=threading.Event())
            assert get(address, "/readyz")[0] == 200
            counters.connected.set(0)
            assert get(address, "/readyz")[0] == 503


def test_refuses_a_status_address_it_cannot_serve_at(tmp_path: Path) -> None:
    counters = LinkCounters()
    with VaultClient(tmp_path / "vault.sock") as vault:
        for wrong in ("127.0.0.1:http", "127.0.0.1:70000"):
            with (
                pytest.raises(InputError),
                serve_status(wrong, counters, vault, health_of(counters, vault)),
            ):
                pass


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("pki"))


@contextmanager
def running_superlink(
    directory: Path, certificates: Certificates, port: int = 0
) -> Iterator[SuperLink]:
    superlink = SuperLink(
        SuperLinkSettings(
            directory=directory,
            public_address=f"127.0.0.1:{port}",
            certificate=certificates.certificate,
            private_key=certificates.private_key,
            hold_seconds=0.2,
        )
    )
    superlink.start()
    with ExitStack() as stack:
        stack.callback(superlink.stop)
        yield superlink


def settings_for(superlink_port: int, certificates: Certificates, key: Path) -> FleetSettings:
    return FleetSettings(
        server_address=f"127.0.0.1:{superlink_port}",
        ca_certificate=certificates.authority,
        node_key=key,
    )


@pytest.mark.system
def test_a_link_outlives_its_server(certificates: Certificates, tmp_path: Path) -> None:
    public_key = make_node_key(tmp_path / "key")
    stop = StopEvent()
    with running_superlink(tmp_path / "superlink", certificates) as superlink:
        port = superlink.public_port
        superlink.register_node("a", public_key)
        with ExitStack() as stack:
            joined = stack.enter_context(
                join(settings_for(port, certificates, tmp_path / "key"), stop)
            )
            assert joined.pull() is None
            superlink.stop()
            pulling = Background(joined.pull)
            assert stop.backed_off.wait(60)
            with running_superlink(tmp_path / "superlink", certificates, port) as again:
                pulling.join()
                assert pulling.error is None
                assert [each.is_online for each in again.nodes()] == [True]
                again.unregister_node("a")
                with pytest.raises(AuthenticationError, match="does not accept"):
                    joined.pull()


@pytest.mark.system
def test_a_link_may_start_before_its_server_and_before_it_is_registered(
    certificates: Certificates, tmp_path: Path
) -> None:
    public_key = make_node_key(tmp_path / "key")
    with running_superlink(tmp_path / "superlink", certificates) as superlink:
        port = superlink.public_port
    stop = StopEvent()
    settings = LinkSettings(
        site="a",
        server_address=f"127.0.0.1:{port}",
        ca_certificate=certificates.authority,
        node_key=tmp_path / "key",
        vault_socket=tmp_path / "vault.sock",
    )
    link = Background(lambda: run_link(settings, stop))
    assert stop.backed_off.wait(60)
    with running_superlink(tmp_path / "superlink", certificates, port) as superlink:
        superlink.register_node("a", public_key)
        while not any(each.is_online for each in superlink.nodes()):
            assert link.error is None
        stop.set()
        link.join()
        assert link.error is None
        assert not any(each.is_online for each in superlink.nodes())


@pytest.mark.system
def test_a_key_that_stays_unknown_is_an_error(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_ACTIVATION_SECONDS", 0.0)
    make_node_key(tmp_path / "key")
    with (
        running_superlink(tmp_path / "superlink", certificates) as superlink,
        pytest.raises(AuthenticationError, match="not registered"),
        join(
            settings_for(superlink.public_port, certificates, tmp_path / "key"), threading.Event()
        ),
    ):
        pass


@pytest.mark.system
def test_a_server_of_another_authority_is_not_trusted(
    certificates: Certificates, tmp_path: Path
) -> None:
    make_node_key(tmp_path / "key")
    others = make_certificates(tmp_path / "others")
    with (
        running_superlink(tmp_path / "superlink", certificates) as superlink,
        pytest.raises(AuthenticationError, match="certificate is not trusted"),
        join(settings_for(superlink.public_port, others, tmp_path / "key"), threading.Event()),
    ):
        pass


def test_refuses_a_key_or_certificate_that_cannot_be_used(
    certificates: Certificates, tmp_path: Path
) -> None:
    make_node_key(tmp_path / "weak", ec.SECP256R1())
    make_node_key(tmp_path / "key")
    (tmp_path / "text").write_text("not a key")
    no_authority = Certificates(tmp_path / "text", tmp_path / "text", tmp_path / "text")
    for key, authority, message in (
        ("weak", certificates, "P-384"),
        ("text", certificates, "OpenSSH"),
        ("missing", certificates, "OpenSSH"),
        ("key", no_authority, "PEM"),
    ):
        settings = settings_for(1, authority, tmp_path / key)
        with pytest.raises(InputError, match=message), join(settings, threading.Event()):
            pass
