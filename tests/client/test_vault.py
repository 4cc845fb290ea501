import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_site import CANARY_NUMBER, NAME, OneSite, find_canary, round_plan
from one_vault import WAIT_SECONDS, Vault, vault_site
from self_tested import provide_record

from sordino_client import vault_process
from sordino_client.data.loading import split_key
from sordino_client.vault_client import VaultClient
from sordino_protocols.errors import ExitCode, IntegrityError
from sordino_protocols.messages import Admission, Inquire, Quote, Refusal, Refused, Update

pytestmark = pytest.mark.system

AFTER = ["refused", "stopped"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OneSite]:
    with vault_site(tmp_path) as made:
        yield made


@pytest.fixture
def vault(site: OneSite) -> Iterator[Vault]:
    running = Vault(site)
    yield running
    running.stop()


def run_to_its_end(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sordino_client.vault_process", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A daemon that runs in this process takes signals, hooks and the log: they are given back."""
    kept = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handlers, level = logging.root.handlers[:], logging.root.level
    for owner, hook in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, hook, getattr(owner, hook))
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
    logging.captureWarnings(capture=False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def end_here(site: OneSite, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a vault that does not come to serve: in this process, which has torch."""
    file = site.directory / "site.toml"
    # The network that it would cut off is ours.
    file.write_text(file.read_text().replace("[site]", "[site]\ncut_network = false"))
    monkeypatch.chdir(site.directory)
    return vault_process.main(["site.toml"])


def test_a_vault_answers_over_its_socket_and_ends_when_asked(vault: Vault) -> None:
    site = vault.site
    quote = site.read(vault.ask(site.seal(Inquire("price-1", site.admit().job))))
    assert isinstance(quote, Quote)
    assert quote.refusal is None
    assert isinstance(site.read(vault.ask(site.seal(site.admit()))), Admission)
    request = site.seal(round_plan())
    first = vault.ask(request)
    assert isinstance(site.read(first), Update)
    assert vault.ask(request) == first
    assert isinstance(site.read(vault.ask(b"garbage")), Refused)

    with VaultClient(site.config.site.socket) as client:
        status, metrics = client.status(), client.metrics()
    assert status is not None
    assert metrics is not None
    assert "sordino_self_test_success 1.0" in metrics
    facts = json.loads(status)
    assert facts["site"] == NAME
    assert facts["datasets"]["heart"]["order_of_magnitude"] == 100
    assert facts["ledger_entries"] == 3
    # Where the kernel refuses to cut the network, the vault must say so.
    is_elsewhere = network_of(vault.process.pid) != network_of(os.getpid())
    assert facts["network_cut_off"] is is_elsewhere
    assert "sordino_privacy_charges_total" in metrics
    assert "sordino_train_step_seconds" not in metrics
    assert site.config.site.socket.stat().st_mode & 0o007 == 0
    assert site.config.site.state.stat().st_mode & 0o077 == 0

    assert vault.stop() == 0
    log = vault.log.read_bytes()
    lines = [json.loads(line) for line in log.splitlines()]
    served = ["ready", "admitted", "released", *AFTER]
    # What in the records broke their declaration is said here, and nowhere else.
    assert [line["event"] for line in lines if line["event"] != "broke_declaration"] == served
    assert all(line.keys() >= {"event", "level", "ts"} for line in lines)
    assert not find_canary(log + status.encode() + metrics.encode() + first)

    # A new process on the same directories: the same bytes.
    again = Vault(site)
    try:
        assert again.ask(request) == first
    finally:
        assert again.stop() == 0


def test_nothing_starts_a_thread_before_the_network_is_gone(site: OneSite) -> None:
    # A thread would keep the network; numpy starts one for every core.
    code = (
        "import os, sys; from pathlib import Path; import sordino_client.vault_process\n"
        "from sordino_client.config import load_config; load_config(Path('site.toml'))\n"
        "print(len(os.listdir('/proc/self/task')), {'numpy', 'torch', 'grpc'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "1 set()", done.stderr


def network_of(process: int) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def test_a_vault_that_keeps_its_network_says_so(site: OneSite) -> None:
    text = (site.directory / "site.toml").read_text()
    (site.directory / "site.toml").write_text(text.replace("[link]", "cut_network = false\n[link]"))
    running = Vault(site)
    try:
        running.ask(b"garbage")
        with VaultClient(site.config.site.socket) as client:
            status = client.status()
        assert status is not None
        assert json.loads(status)["network_cut_off"] is False
        assert network_of(running.process.pid) == network_of(os.getpid())
    finally:
        running.stop()


def test_without_a_policy_a_vault_starts_and_refuses_everything(site: OneSite) -> None:
    (site.directory / "policy.toml").unlink()
    running = Vault(site)
    try:
        answer = site.read(running.ask(site.seal(site.admit())))
        assert answer == Refused("run-1", Refusal.NO_POLICY)
    finally:
        assert running.stop() == 0


def test_a_second_vault_on_the_same_ledger_does_not_start(vault: Vault) -> None:
    vault.ask(b"garbage")
    second = run_to_its_end(vault.site.directory, "site.toml")
    assert second.returncode == ExitCode.INTEGRITY
    assert "another process has this ledger open" in second.stderr
    # The first one's socket is still the first one's.
    assert isinstance(vault.site.read(vault.ask(b"garbage")), Refused)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("site.toml", "socket =", "sockets =", "site.sockets: unknown key; did you mean 'socket'?"),
        ("site.toml", 'name = "cleveland"', "name = 1", "site.name: should be a valid string"),
        ("site.toml", "[link]", "[lonk]", "link: missing"),
        ("site.toml", "[link]", 'approvers = "people"\n[link]', "people: no such directory"),
        ("site.toml", "keys/server.pub", "keys/none.pub", "keys/none.pub: no such public key"),
        ("site.toml", '"submitters"', '"nobody"', "no such directory of trusted keys"),
        ("policy.toml", "max_epsilon", "max_epsilom", "did you mean 'max_epsilon'?"),
        ("datasets.d/heart.toml", "max = 90", "max = 10", "min must be below max"),
        ("datasets.d/records.csv", "age,", "years,", "column 'age' is absent"),
    ],
)
@pytest.mark.usefixtures("given_back")
def test_a_broken_file_is_named_with_its_key(  # noqa: PLR0917
    site: OneSite,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    file: str,
    old: str,
    new: str,
    expected: str,
) -> None:
    path = site.directory / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert end_here(site, monkeypatch) in {ExitCode.USAGE, ExitCode.NOT_FOUND}
    said = capfd.readouterr()
    (line,) = [json.loads(each) for each in said.err.splitlines()]
    assert (line["event"], line["component"]) == ("ended", "vault")
    assert expected in line["reason"]
    assert not find_canary((said.out + said.err).encode())


def test_a_record_that_breaks_its_declaration_is_not_quoted(site: OneSite) -> None:
    path = site.directory / "datasets.d" / "heart.toml"
    path.write_text(path.read_text().replace("max = 1e6", 'max = 1000\noutside = "reject"'))
    done = run_to_its_end(site.directory, "site.toml")
    assert done.returncode == ExitCode.USAGE
    assert "column 'chol': a cell is outside [min, max]" in done.stderr
    assert "Traceback" not in done.stderr
    assert CANARY_NUMBER not in done.stderr
    assert not find_canary((done.stdout + done.stderr).encode())


@pytest.mark.usefixtures("given_back")
def test_a_socket_path_that_is_too_long_is_explained(
    site: OneSite, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    text = (site.directory / "site.toml").read_text()
    socket = str(site.config.site.socket)
    (site.directory / "site.toml").write_text(text.replace(socket, "x" * 120))
    assert end_here(site, monkeypatch) == ExitCode.USAGE
    assert "site.socket must be a path of at most 107 bytes" in capfd.readouterr().err


def test_a_deep_state_directory_costs_the_admin_socket_and_no_more(site: OneSite) -> None:
    file = site.directory / "site.toml"
    text = file.read_text()
    chosen = next(line for line in text.splitlines() if line.startswith("admin_socket"))
    deep = "/".join(["deep" * 10] * 3)
    file.write_text(text.replace(chosen, "").replace('state = "state"', f'state = "{deep}"'))
    provide_record(site.config)
    running = Vault(site)
    try:
        running.ask(b"garbage")
    finally:
        assert running.stop() == 0
    assert "no_admin_socket" in running.log.read_text()
    # Where somebody chose a path that is too long, the vault says so and does not start.
    file.write_text(text.replace(chosen, f'admin_socket = "{deep}/admin.sock"'))
    done = run_to_its_end(site.directory, "site.toml")
    assert done.returncode == ExitCode.USAGE
    assert "site.admin_socket must be a path of at most 107 bytes" in done.stderr


def test_a_missing_argument_or_file_is_explained(tmp_path: Path) -> None:
    assert run_to_its_end(tmp_path).returncode == ExitCode.USAGE
    missing = run_to_its_end(tmp_path, "site.toml")
    assert missing.returncode == ExitCode.NOT_FOUND
    assert "site.toml: no such file" in missing.stderr


def test_the_key_of_the_split_is_made_once_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state" / "split.key"
    path.parent.mkdir()
    key = split_key(path)
    assert len(key) == 32
    assert split_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(key[:16])
    with pytest.raises(IntegrityError, match="restore it"):
        split_key(path)
    assert path.read_bytes() == key[:16]
