"""The vault's hold on the process that reads databases and object stores for it.

The reader is started while there is a network, reads nothing until it is asked to, and has ended
before the vault serves. This module is imported before the vault leaves the network, so it imports
nothing that starts a thread, such as numpy.
"""

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sordino_client.data.sources import Sourced, located
from sordino_protocols.errors import SordinoError
from sordino_protocols.files import read_toml

_MODULE = "sordino_client.reader_process"


@dataclass(frozen=True, slots=True)
class Reader:
    """A running reader.

    Attributes:
        process: has a pipe for its standard input, and one for its output.
        paths: the files whose sources it can read.
    """

    process: subprocess.Popen[bytes]
    paths: tuple[Path, ...]

    @property
    def output(self) -> int:
        """The descriptor on which its frames come."""
        if self.process.stdout is None:
            raise AssertionError("a reader is started with pipes")
        return self.process.stdout.fileno()

    def ask_for(self, path: Path) -> None:
        """Let it read the source that this file declares. If it died, its output ends."""
        if self.process.stdin is None:
            raise AssertionError("a reader is started with pipes")
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{self.paths.index(path)}\n".encode("ascii"))
            self.process.stdin.flush()

    def end(self) -> None:
        """Return when it is gone, whatever it was doing. It holds nothing worth an orderly end."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def start_reader(directory: Path) -> Reader | None:
    """Start a reader if a data set of `directory` is not on this machine; else None."""
    paths = tuple(path for path in sorted(directory.glob("*.toml")) if _is_remote(path))
    if not paths:
        return None
    process = subprocess.Popen(
        [sys.executable, "-m", _MODULE, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A library's complaint may quote a record or a password.
        stderr=subprocess.DEVNULL,
    )
    return Reader(process, paths)


def _is_remote(path: Path) -> bool:
    # What is wrong with the file, the vault says when it loads it.
    with contextlib.suppress(SordinoError):
        return located(read_toml(path, Sourced).source, path.absolute().parent).is_remote
    return False
