"""A disk that is full when a test says so, and has room again when it says that."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MOUNT, _UNMOUNT = "/bin/mount", "/bin/umount"
_BALLAST = ".ballast"


class SmallDisk:
    """A file system of its own, in memory, that runs full with a real ENOSPC.

    Attributes:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, *, room: int = 0) -> None:
        """Leave so many bytes free, by the page."""
        self.clear()
        with (self.path / _BALLAST).open("wb", buffering=0) as file:
            state = os.statvfs(self.path)
            file.write(bytes(max(state.f_bavail * state.f_frsize - room, 0)))

    def clear(self) -> None:
        """Make room again."""
        (self.path / _BALLAST).unlink(missing_ok=True)


@contextmanager
def small_disk(path: Path, *, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a file system of this size; skips the test where nobody may."""
    path.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run([_MOUNT, *options], check=False).returncode:
        pytest.skip("needs leave to mount a file system")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run([_UNMOUNT, "--lazy", str(path)], check=True)


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: writes fail, wherever it runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def largest_file(directory: Path) -> int:
    """Bytes of the longest file below a directory."""
    return max(each.stat().st_size for each in directory.rglob("*") if each.is_file())
