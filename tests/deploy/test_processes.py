import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sordino_deploy.processes import Child, Supervisor, free_port, free_ports
from sordino_protocols.errors import NotFoundError, UnreachableError

pytestmark = pytest.mark.system

ENV = {"PATH": os.environ["PATH"]}
WAIT_SECONDS = 30.0

# Writes a word when ready, then obeys, ignores, or leaves a grandchild behind.
OBEYS = "import signal; print('ready', flush=True); signal.pause()"
IGNORES = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('ready', flush=True)\nwhile True: signal.pause()"
)
LEAVES_A_GRANDCHILD = (
    "import subprocess, sys, signal; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]);"
    "print(child.pid, 'ready', flush=True); signal.pause()"
)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(grace_seconds=WAIT_SECONDS) as running:
        yield running


def start(supervisor: Supervisor, log: Path, code: str, *arguments: str, name: str = "x") -> Child:
    child = supervisor.start(
        name, [sys.executable, "-c", code, *arguments], env=ENV, log=log / f"{name}.log"
    )
    supervisor.wait_ready(
        child, lambda: "ready" in child.log.read_text(), timeout_seconds=WAIT_SECONDS
    )
    return child


def is_gone(pid: int) -> bool:
    """Whether a process has ended, waiting for it as long as a slow machine needs."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select_readable(watch))
    finally:
        os.close(watch)


def select_readable(descriptor: int) -> list[tuple[int, int]]:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll(WAIT_SECONDS * 1000)


def test_runs_a_program_with_just_its_environment_and_log(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    code = "import os, sys; print(sorted(os.environ)); print('err', file=sys.stderr); sys.exit(7)"
    child = supervisor.start(
        "probe",
        [sys.executable, "-c", code],
        env={"A": "1", "LC_ALL": "C"},
        log=tmp_path / "logs" / "probe.log",
        directory=tmp_path,
    )
    assert supervisor.wait_ended(child, timeout_seconds=WAIT_SECONDS) == 7
    assert sorted(child.log.read_text().splitlines()) == ["['A', 'LC_ALL']", "err"]
    assert child.log.stat().st_mode & 0o777 == 0o600


def test_asks_all_to_end_before_it_waits_for_one(tmp_path: Path) -> None:
    # Each child ends only once all three were asked: stopped one by one, the first is killed.
    code = (
        "import pathlib, signal, sys, time\n"
        "order = pathlib.Path(sys.argv[1])\n"
        "def end(*_):\n"
        "    with order.open('a') as file: file.write(sys.argv[2])\n"
        "    while len(order.read_text()) < 3: time.sleep(0.01)\n"
        "    (order.parent / sys.argv[2]).touch(); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True); signal.pause()"
    )
    with Supervisor(grace_seconds=WAIT_SECONDS) as supervisor:
        for name in "abc":
            start(supervisor, tmp_path, code, str(tmp_path / "order"), name, name=name)
    assert all((tmp_path / name).exists() for name in "abc")


def test_kills_what_ignores_the_request_to_end(tmp_path: Path) -> None:
    with Supervisor(grace_seconds=0.2) as supervisor:
        child = start(supervisor, tmp_path, IGNORES)
        other = start(supervisor, tmp_path, OBEYS, name="other")
    assert is_gone(child.pid)
    assert is_gone(other.pid)


def test_ends_a_childs_own_children(supervisor: Supervisor, tmp_path: Path) -> None:
    child = start(supervisor, tmp_path, LEAVES_A_GRANDCHILD, IGNORES)
    grandchild = int(child.log.read_text().split()[0])
    supervisor.stop(child)
    assert is_gone(grandchild)


def test_stopping_twice_is_stopping_once(supervisor: Supervisor, tmp_path: Path) -> None:
    child = start(supervisor, tmp_path, OBEYS)
    assert supervisor.is_running(child)
    supervisor.stop(child)
    supervisor.stop(child)
    supervisor.stop_all()
    supervisor.stop_all()
    assert not supervisor.is_running(child)
    with pytest.raises(NotFoundError):
        supervisor.wait_ready(child, lambda: True, timeout_seconds=1)
    # The name is free again, and a stale child does not stop its successor.
    successor = start(supervisor, tmp_path, OBEYS)
    supervisor.stop(child)
    assert supervisor.is_running(successor)


def test_two_children_do_not_share_a_name(supervisor: Supervisor, tmp_path: Path) -> None:
    start(supervisor, tmp_path, OBEYS)
    with pytest.raises(ValueError, match="'x' is running"):
        start(supervisor, tmp_path, OBEYS)


def test_a_failed_start_shows_the_logs_end(supervisor: Supervisor, tmp_path: Path) -> None:
    code = "print('first\\n' * 500); print('no such port'); raise SystemExit(3)"
    with pytest.raises(UnreachableError, match=r"(?s)x ended before it was ready.*no such port"):
        start(supervisor, tmp_path, code)
    missing = supervisor.start("gone", ["/no/such/program"], env=ENV, log=tmp_path / "gone.log")
    with pytest.raises(UnreachableError, match="/no/such/program: No such file"):
        supervisor.wait_ready(missing, lambda: False, timeout_seconds=WAIT_SECONDS)


def test_waiting_is_bounded(supervisor: Supervisor, tmp_path: Path) -> None:
    child = start(supervisor, tmp_path, OBEYS)
    with pytest.raises(UnreachableError, match=r"(?s)x was not ready within 0\.1 s.*ready"):
        supervisor.wait_ready(child, lambda: False, timeout_seconds=0.1)
    with pytest.raises(UnreachableError, match="still runs"):
        supervisor.wait_ended(child, timeout_seconds=0.1)


def test_works_in_the_main_thread_only(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            Supervisor().start("x", ["true"], env=ENV, log=tmp_path / "x.log")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_restores_signal_handlers() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    with Supervisor():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


PARENT = f"""
import os, signal, sys
from pathlib import Path
from sordino_deploy.processes import Supervisor
with Supervisor(grace_seconds=float(sys.argv[2])) as supervisor:
    pids = []
    for name in ("a", "b"):
        child = supervisor.start(name, [sys.executable, "-c", {IGNORES!r}],
            env=dict(os.environ), log=Path(sys.argv[1]) / name)
        supervisor.wait_ready(child, lambda: "ready" in child.log.read_text(), timeout_seconds=30)
        pids.append(child.pid)
    print(*pids, flush=True)
    signal.pause()
"""


@contextlib.contextmanager
def parent_of_two(log: Path, *, grace_seconds: float) -> Iterator[tuple[int, list[int]]]:
    """A real parent with two stubborn children: its pid and theirs."""
    argv = [sys.executable, "-c", PARENT, str(log), str(grace_seconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        assert len(children) == 2
        watches = [os.pidfd_open(pid) for pid in children]
        try:
            yield parent.pid, children
        finally:
            parent.kill()
            for watch in watches:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(watch, signal.SIGKILL)
                os.close(watch)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_child_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    with parent_of_two(tmp_path, grace_seconds=0.1) as (parent, children):
        assert all(Path(f"/proc/{pid}").exists() for pid in children)
        os.kill(parent, number)
        assert all(is_gone(pid) for pid in children)


def test_a_second_interrupt_ends_everything_at_once(tmp_path: Path) -> None:
    with parent_of_two(tmp_path, grace_seconds=10_000) as (parent, children):
        os.kill(parent, signal.SIGINT)
        while not all(is_gone_now(pid) for pid in children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent, signal.SIGINT)
    assert all(is_gone(pid) for pid in children)


def is_gone_now(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_plain_child_would_outlive_its_parent() -> None:
    # What the supervisor is for: without it, the same kill leaves the child running.
    code = (
        "import subprocess, sys, signal; child = subprocess.Popen([sys.executable, '-c',"
        f" {IGNORES!r}], stdout=subprocess.PIPE); child.stdout.readline();"
        "print(child.pid, flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert not is_gone_now(child)
    os.kill(child, signal.SIGKILL)


def test_ports_are_distinct_free_and_not_given_twice() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    later = set()
    with contextlib.ExitStack() as stack:
        for port in ports:
            # What a server does: bind that port, with SO_REUSEADDR.
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        later = {free_port() for _ in range(50)}
    assert not later & set(ports)


def test_an_interrupt_counts_even_where_a_shell_had_it_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), Supervisor():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
