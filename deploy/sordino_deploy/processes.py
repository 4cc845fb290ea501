"""Start real processes and leave none behind.

Each child leads its own process group and dies with its parent, by the kernel's hand, even if the
parent is killed with SIGKILL. Signals go to groups whose leader we started and have not reaped yet,
so a recycled process id is never hit.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from sordino_protocols.errors import NotFoundError, UnreachableError

_POLL_SECONDS = 0.05
_TAIL_LINES = 20
_TAIL_BYTES = 8192
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

# Runs in the child before the real program: asks to die with the parent, closes the race with a
# parent that died already, takes signals as a new program should, and becomes the program. Only a
# hang-up is ignored until the program listens: it means to read files again, and must end none. No
# code of ours runs between fork and exec, so a threaded parent is safe.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that a supervisor started.

    Attributes:
        name: what errors call it.
        pid: its process id, and its group's.
        log: where its output goes.
    """

    name: str
    pid: int
    log: Path


@dataclass(frozen=True, slots=True)
class _Handle:
    child: Child
    process: subprocess.Popen[bytes]
    exit_watch: int  # a pidfd: readable once the process has ended, without reaping it

    def ended_within(self, timeout_seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.exit_watch, select.POLLIN)
        return bool(poll.poll(max(0.0, timeout_seconds) * 1000))


class Supervisor:
    """Child processes that end when the `with` block does, all at the same time.

    Inside the block SIGTERM and SIGHUP raise `SystemExit`, as Ctrl-C raises `KeyboardInterrupt`,
    so that every way out stops the children: SIGTERM first, and SIGKILL for one that has not ended
    `grace_seconds` later. Main thread only: the kernel ties a child to the thread that started it.
    """

    def __init__(self, *, grace_seconds: float = 5.0) -> None:
        self._grace_seconds = grace_seconds
        self._handles: dict[str, _Handle] = {}
        self._previous: dict[signal.Signals, Callable[[int, FrameType | None], object] | int] = {}

    def __enter__(self) -> Self:
        _require_main_thread()
        for number in _ENDING_SIGNALS:
            self._previous[number] = signal.signal(number, _leave) or signal.SIG_DFL
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell starts what runs in its background so; whoever sends it all the same means it.
            self._previous[signal.SIGINT] = signal.SIG_IGN
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.stop_all()
        finally:
            while self._previous:
                signal.signal(*self._previous.popitem())

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        directory: Path | None = None,
    ) -> Child:
        """Start a program; its output is appended to `log` (mode 0600).

        Args:
            name: unique among the running children.
            argv: program, searched in `env`'s PATH, and arguments.
            env: the whole environment; nothing is inherited.
            log: file for standard output and error.
            directory: where it runs; by default where we do.

        Raises:
            ValueError: a child of that name is running.
            RuntimeError: not in the main thread.
        """
        _require_main_thread()
        if name in self._handles:
            raise ValueError(f"a process called {name!r} is running")
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *argv]
        log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with _signals_held(), os.fdopen(output, "wb") as file:
            process = subprocess.Popen(
                launch,
                env=dict(env),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            child = Child(name, process.pid, log)
            self._handles[name] = _Handle(child, process, os.pidfd_open(process.pid))
        return child

    def is_running(self, child: Child) -> bool:
        """Whether the process has not ended."""
        handle = self._handles.get(child.name)
        return handle is not None and not handle.ended_within(0)

    def wait_ready(
        self, child: Child, predicate: Callable[[], bool], *, timeout_seconds: float
    ) -> None:
        """Return once `predicate` holds; it is asked every 50 ms.

        Raises:
            UnreachableError: the process ended or the time passed before; quotes its log's end.
            NotFoundError: the child was stopped.
        """
        handle = self._handle(child)
        deadline = time.monotonic() + timeout_seconds
        while not predicate():
            if handle.ended_within(_POLL_SECONDS):
                raise UnreachableError(f"{child.name} ended before it was ready{_tail(child.log)}")
            if time.monotonic() > deadline:
                raise UnreachableError(
                    f"{child.name} was not ready within {timeout_seconds:g} s{_tail(child.log)}"
                )

    def wait_ended(self, child: Child, *, timeout_seconds: float) -> int:
        """Return the exit status once the process has ended by itself; negative for a signal.

        Raises:
            UnreachableError: it still runs after that time.
            NotFoundError: the child was stopped.
        """
        handle = self._handle(child)
        if not handle.ended_within(timeout_seconds):
            raise UnreachableError(f"{child.name} still runs after {timeout_seconds:g} s")
        return self._reap(handle)

    def stop(self, child: Child) -> None:
        """End one child and its group; without effect on one that was stopped before."""
        handle = self._handles.get(child.name)
        if handle is not None and handle.child == child:
            self._end([handle])

    def stop_all(self) -> None:
        """End every child, all at the same time; without effect when there is none.

        A second Ctrl-C ends the children at once.
        """
        self._end(list(reversed(self._handles.values())))

    def _end(self, handles: Sequence[_Handle]) -> None:
        try:
            # All at once: nine processes that each take a second to end should take one.
            for handle in handles:
                _signal_group(handle, signal.SIGTERM)
            deadline = time.monotonic() + self._grace_seconds
            for handle in handles:
                handle.ended_within(deadline - time.monotonic())
                self._reap(handle)
        finally:
            with _signals_held():
                for handle in handles:
                    if handle.child.name in self._handles:
                        self._reap(handle)

    def _reap(self, handle: _Handle) -> int:
        """Kill what is left of a group, then collect its leader's status."""
        # Held, so that an interrupt cannot leave a reaped process in the books.
        with _signals_held():
            _signal_group(handle, signal.SIGKILL)
            status = handle.process.wait()
            os.close(handle.exit_watch)
            del self._handles[handle.child.name]
        return status

    def _handle(self, child: Child) -> _Handle:
        handle = self._handles.get(child.name)
        if handle is None or handle.child != child:
            raise NotFoundError(f"no process {child.name!r} is supervised here")
        return handle


def free_port() -> int:
    """A loopback TCP port that nobody listens on."""
    return free_ports(1)[0]


def free_ports(count: int) -> tuple[int, ...]:
    """Distinct loopback TCP ports that nobody listens on.

    Each is left in TIME_WAIT: for a minute the kernel gives it to nobody who asks for any port, but
    a server that asks for this one (with SO_REUSEADDR, as servers do) gets it.
    """
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            with socket.create_connection(listener.getsockname()):
                # Whoever closes first keeps TIME_WAIT; it has to be the listener's end.
                listener.accept()[0].close()
        return tuple(int(listener.getsockname()[1]) for listener in listeners)


def _signal_group(handle: _Handle, number: signal.Signals) -> None:
    # The leader is not reaped yet, so this id is still its own.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(handle.child.pid, number)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Deliver Ctrl-C and the ending signals after the block instead of in it."""
    numbers = (signal.SIGINT, *_ENDING_SIGNALS)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a supervisor works in the main thread only")


def _tail(log: Path) -> str:
    """The last lines of a log, as the end of an error's text."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return f"; the end of {log}:\n" + "\n".join(lines) if lines else f"; {log} is empty"
