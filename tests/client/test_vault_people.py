"""What people at a site do while its vault runs: approve, reload, look."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from one_site import ASKING, POLICY, OneSite, find_canary, make_job, refusal
from one_vault import WAIT_SECONDS, Vault, vault_site
from typer.testing import CliRunner

from sordino_client.approval_cli import approval_app
from sordino_client.vault_client import VaultClient
from sordino_protocols.audit_log import read_audit_log
from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    NotFoundError,
    SordinoError,
    UnreachableError,
)
from sordino_protocols.messages import Admission, Message, Refusal

pytestmark = pytest.mark.system


@pytest.fixture
def site(tmp_path: Path) -> Iterator[OneSite]:
    with vault_site(tmp_path) as made:
        for name in ("alice", "bob", "carol"):
            made.approver(name)
        made.policy = POLICY + ASKING
        made.write_policy()
        yield made


@pytest.fixture
def vault(site: OneSite) -> Iterator[Vault]:
    running = Vault(site)
    yield running
    running.stop()


def command(site: OneSite, *words: str, answer: str | None = None) -> tuple[str, str]:
    """What `sordino approval ...` prints to stdout and to stderr; raises what it raises."""
    arguments = [*words, "--config", str(site.directory / "site.toml")]
    result = CliRunner().invoke(approval_app, arguments, input=answer)
    if isinstance(result.exception, SordinoError):
        raise result.exception
    assert result.exit_code == 0 or answer is not None, result.output
    return result.stdout, result.stderr


def key(site: OneSite, name: str) -> tuple[str, str]:
    return "--key", str(site.directory / "elsewhere" / f"{name}.key")


def status(site: OneSite) -> dict[str, object]:
    with VaultClient(site.config.site.socket) as client:
        text = client.status()
    assert text is not None
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def ask(vault: Vault, run_id: str = "run-1") -> Message:
    return vault.site.read(vault.ask(vault.site.seal(vault.site.admit(run_id))))


def wait_for_status(site: OneSite, key: str, *, other_than: object) -> object:
    """The value of a status field once it has changed: a signal says nothing back."""
    expires_at = time.monotonic() + WAIT_SECONDS
    while (found := status(site)[key]) == other_than:
        assert time.monotonic() < expires_at
        time.sleep(0.05)
    return found


def test_people_let_a_run_in_by_commands(site: OneSite, vault: Vault) -> None:
    assert refusal(ask(vault)) is Refusal.APPROVAL_PENDING
    assert status(site)["approvals_waiting"] == 1
    listed, _ = command(site, "list")
    assert "run-1" in listed
    assert "0 of 2" in listed
    page, _ = command(site, "show", "run-1")
    assert "signed by scientist" in page
    assert make_job().digest() in page
    whole, _ = command(site, "show", "run-1", "--output", "json")
    assert json.loads(whole)["state"] == "waiting"

    _, said = command(site, "approve", "run-1", *key(site, "alice"), "--yes", "--reason", "fits")
    assert said == "run-1: waiting; 1 more must say yes\n"
    # Asked back, and answered no: nothing is signed.
    _, shown = command(site, "approve", "run-1", *key(site, "bob"), answer="n\n")
    assert "alice approve" in shown
    assert refusal(ask(vault)) is Refusal.APPROVAL_PENDING
    # The vault may be restarted between one person and the next.
    assert vault.stop() == 0
    again = Vault(site)
    try:
        again.ask(b"garbage")
        command(site, "approve", "run-1", *key(site, "bob"), answer="y\n")
        assert isinstance(ask(again), Admission)
        listed, told = command(site, "list")
        assert "nothing waits" in told
        everything, _ = command(site, "list", "--all")
        assert "admitted" in everything
    finally:
        assert again.stop() == 0
    seen = [page, whole, listed, everything, again.log.read_text(), vault.log.read_text()]
    seen.append(site.config.audit_log_path.read_text())
    lines = "".join(seen)
    assert not find_canary(lines.encode())
    actions = [each.action for each in read_audit_log(site.config.audit_log_path)]
    assert actions == ["asked", "approved", "approved", "admitted"]


def test_what_does_not_count_is_explained_to_people(site: OneSite, vault: Vault) -> None:
    vault.ask(b"garbage")
    with pytest.raises(NotFoundError, match="run-1"):
        command(site, "show", "run-1")
    ask(vault)
    site.approver("dave")
    with pytest.raises(AuthenticationError, match="nobody called 'dave'"):
        command(site, "approve", "run-1", *key(site, "dave"), "--yes")
    with pytest.raises(AuthenticationError, match="not 'alice'"):
        command(site, "approve", "run-1", *key(site, "dave"), "--name", "alice", "--yes")
    command(site, "reject", "run-1", *key(site, "carol"), "--yes", "--reason", "no purpose")
    with pytest.raises(InputError, match="a no is final"):
        command(site, "approve", "run-1", *key(site, "alice"), "--yes")
    assert refusal(ask(vault)) is Refusal.REJECTED
    with pytest.raises(NotFoundError):
        command(site, "approve", "run-1", "--key", "nowhere.key", "--yes")


def test_the_admin_socket_is_not_the_links(site: OneSite, vault: Vault) -> None:
    vault.ask(b"garbage")
    admin, link = site.config.admin_socket, site.config.site.socket
    assert admin != link
    assert admin.stat().st_mode & 0o007 == 0
    # Neither service is served on the other's socket.
    file = site.directory / "site.toml"
    kept = file.read_text()
    file.write_text(kept.replace(str(admin), str(link)))
    with pytest.raises(SordinoError, match="UNIMPLEMENTED"):
        command(site, "list")
    file.write_text(kept)
    with VaultClient(admin) as client:
        assert client.status() is None


def test_without_a_vault_people_are_told(site: OneSite) -> None:
    with pytest.raises(UnreachableError, match="no vault answers"):
        command(site, "list")


def test_a_hangup_reads_policy_and_keys_again(site: OneSite, vault: Vault) -> None:
    ask(vault)
    old = status(site)["policy_sha256"]
    site.policy = POLICY
    site.write_policy()
    vault.process.send_signal(signal.SIGHUP)
    new = wait_for_status(site, "policy_sha256", other_than=old)
    assert isinstance(ask(vault), Admission)
    (site.directory / "policy.toml").write_text("[datasets")
    vault.process.send_signal(signal.SIGHUP)
    problem = wait_for_status(site, "rules_problem", other_than=None)
    assert "policy.toml: not valid TOML" in str(problem)
    assert status(site)["policy_sha256"] == new
    assert isinstance(ask(vault, "run-2"), Admission)
    assert vault.stop() == 0
    events = [json.loads(line)["event"] for line in vault.log.read_text().splitlines()]
    assert events.count("rules_reloaded") == events.count("kept_the_old_rules") == 1


def test_a_hangup_before_a_daemon_serves_does_not_end_it() -> None:
    code = (
        "import os, signal, sys, threading\n"
        "from sordino_protocols.daemons import run_daemon, wait_until_told\n"
        "def serve(path, stop):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    wait_until_told(stop, on_hangup=lambda: (print('again', flush=True), stop.set()))\n"
        "def hang_up():\n"
        "    while signal.getsignal(signal.SIGHUP) in (signal.SIG_IGN, signal.SIG_DFL): pass\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "threading.Thread(target=hang_up, daemon=True).start()\n"
        "sys.exit(run_daemon(['x'], 'x', serve, component='x', reads_again=True))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_SECONDS,
    )
    assert (done.returncode, done.stdout) == (0, "again\n"), done.stderr
