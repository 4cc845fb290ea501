"""Flower's SuperExec as a child that is kept alive: it starts the server app of each run.

It shares a secret with the SuperLink, without which anybody who reaches the admin listener could
take a run and its updates. It ends when this process ends, however that comes about.
"""

import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from sordino_protocols.flower_environment import environment

_TASK_POLL_SECONDS = 0.5
_RESTART_FIRST_SECONDS = 0.5
_RESTART_LAST_SECONDS = 30.0
_GOOD_SECONDS = 60.0
_APP_COMMAND = "flwr-serverapp"
_MODULE = "sordino_server.superexec_process"
_TERMINATE_SECONDS = 5.0

_log = structlog.get_logger(component="server")


@dataclass(frozen=True, slots=True)
class SuperExecSettings:
    """What the child needs.

    Attributes:
        runtime_address: `host:port` of the SuperLink's admin listener, on loopback, without TLS.
        secret_file: the secret shared with the SuperLink.
        flower_home: where Flower keeps unpacked bundles (`FLWR_HOME`).
        log_file: where the child's output goes.
    """

    runtime_address: str
    secret_file: Path
    flower_home: Path
    log_file: Path


class SuperExec:
    """The child process. Started again whenever it ends by itself.

    After ever longer pauses, up to half a minute; short again after one that ran for a minute.
    """

    def __init__(self, settings: SuperExecSettings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="superexec", daemon=True)

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def app_tokens(self) -> frozenset[str]:
        """The tokens of the server apps that run now, as Flower gave them to the child."""
        pid = self.pid
        lines = [] if pid is None else [_command_line(each) for each in _children(pid)]
        return frozenset(token for line in lines if (token := _token(line)) is not None)

    def start(self) -> None:
        """Start the child and its supervision."""
        self._thread.start()

    def stop(self) -> None:
        """End the child and its supervision. Apps it started end with it."""
        self._stopping.set()
        with self._lock:
            if self._child is not None:
                _end(self._child)
        self._thread.join()

    def _supervise(self) -> None:
        delay = _RESTART_FIRST_SECONDS
        while not self._stopping.is_set():
            with self._lock:
                if self._stopping.is_set():
                    return
                self._child = child = _launch(self._settings)
            started = time.monotonic()
            status = child.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _GOOD_SECONDS:
                delay = _RESTART_FIRST_SECONDS
            _log.error("superexec_ended", status=status, restart_seconds=delay)
            self._stopping.wait(delay)
            delay = min(2 * delay, _RESTART_LAST_SECONDS)


def make_secret(path: Path) -> bytes:
    """The secret of SuperLink and SuperExec; made on first use, readable by its owner alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
    return path.read_bytes()


def _launch(settings: SuperExecSettings) -> subprocess.Popen[bytes]:
    scripts = Path(sys.executable).parent
    settings.flower_home.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        _MODULE,
        "--insecure",
        "--runtime-api-address",
        settings.runtime_address,
        "--superexec-auth-secret-file",
        str(settings.secret_file),
        "--parent-pid",
        str(os.getpid()),
    ]
    with settings.log_file.open("ab") as log_file:
        return subprocess.Popen(
            command,
            env=_environment(scripts, settings.flower_home),
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
        )


def _environment(scripts: Path, flower_home: Path) -> dict[str, str]:
    return {
        **os.environ,
        **environment(),
        "FLWR_HOME": str(flower_home),
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(_TASK_POLL_SECONDS),
        # SuperExec starts `flwr-serverapp` by name.
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def _children(pid: int) -> list[int]:
    """Processes that a process started and has not collected, as the kernel knows them."""
    try:
        listed = [
            each.read_text(encoding="ascii")
            for each in Path(f"/proc/{pid}/task").glob("*/children")
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(each) for each in " ".join(listed).split()]


def _command_line(pid: int) -> list[str]:
    """Of a process; empty for one that has ended, reaped or not."""
    try:
        content = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return content.decode(errors="replace").split("\0")


def _token(command: list[str]) -> str | None:
    """The token on a server app's command line."""
    if any(Path(word).name == _APP_COMMAND for word in command) and "--token" in command:
        return command[command.index("--token") + 1]
    return None


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
