"""A real vault process for tests, on the files of `OneSite`."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from one_site import OneSite
from self_tested import provide_record

from sordino_client.vault_client import VaultClient

WAIT_SECONDS = 120.0


@contextmanager
def vault_site(directory: Path) -> Iterator[OneSite]:
    """A site whose vault is a process: its sockets have short paths."""
    made = OneSite(directory)
    made.prepare()
    # A Unix socket's path is short: the directory of a test is too deep for one.
    sockets = [Path("/tmp") / f"sordino-{name}-{os.getpid()}.sock" for name in ("vault", "admin")]  # noqa: S108
    text = (directory / "site.toml").read_text()
    text = text.replace('"v.sock"', f'"{sockets[0]}"\nadmin_socket = "{sockets[1]}"')
    (directory / "site.toml").write_text(text)
    made.write_policy()
    provide_record(made.config)
    yield made
    for socket in sockets:
        socket.unlink(missing_ok=True)


class Vault:
    """A vault process, its log, and a client on its socket."""

    def __init__(self, site: OneSite) -> None:
        self.site = site
        self.log = site.directory / "vault.log"
        self._file = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sordino_client.vault_process", "site.toml"],
            cwd=site.directory,
            stdout=self._file,
            stderr=subprocess.STDOUT,
        )

    def ask(self, envelope: bytes) -> bytes:
        """The answer, however long the vault takes to start."""
        with VaultClient(self.site.config.site.socket) as client:
            expires_at = time.time() + WAIT_SECONDS
            return client.answer(envelope, expires_at=expires_at, stop=self._given_up())

    def _given_up(self) -> threading.Event:
        # A process that ended will never answer: do not wait for it.
        stop = threading.Event()

        def watch() -> None:
            self.process.wait()
            stop.set()

        threading.Thread(target=watch, daemon=True).start()
        return stop

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(WAIT_SECONDS)
        self._file.close()
        return code
