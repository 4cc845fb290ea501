"""Where the server keeps what: files by name, logs that grow, locks. In a directory here.

A name is a path with slashes, relative to a folder; whoever makes one of what came from outside has
checked it. What must stay true of every storage: a file is there whole or not at all, and on disk
when `write` returns; a line is on disk when `append` returns; a log only grows; a lock ends with
the process that has it, however that ends.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, TextIO

from sordino_protocols.files import sync_directory


class Storage(Protocol):
    """A folder of a storage, and everything below it."""

    @property
    def folder(self) -> str:
        """The last part of the folder's own name."""

    def within(self, folder: str) -> "Storage":
        """A folder below this one; it need not be there."""

    def describe(self, name: str = "") -> str:
        """A name, or the folder, in words that may be shown."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is no such file."""

    def read_each(self, name: str) -> Mapping[str, bytes]:
        """The file of that name in every folder below that has one, by folder."""

    def names(self, folder: str) -> list[str]:
        """The names of the files that lie in a folder, sorted."""

    def stamp(self, name: str) -> str | None:
        """What changes whenever the file does; None if there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place, whole and on disk, or not at all."""

    def rename(self, name: str, new: str) -> None:
        """Give a file another name, in place of what has that; without effect if it is absent."""

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a log; on disk when this returns.

        Args:
            name: of the log, made if missing.
            line: with its end.
        """

    def read_after(self, name: str, offset: int) -> bytes:
        """What a log has after `offset`, in bytes; may end within a line that a crash cut short."""

    def locked(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Be the only one of all processes that has this lock, waiting for whoever has it."""

    def open_text(self, name: str) -> contextlib.AbstractContextManager[TextIO]:
        """Text for people that grows line by line; not worth a run's failure if it cannot."""


class DirectoryStorage:
    """A directory."""

    def __init__(self, directory: Path) -> None:
        """Use a directory, made when something is written.

        Args:
            directory: where everything lies.
        """
        self.directory = directory

    @property
    def folder(self) -> str:
        """The directory's name."""
        return self.directory.name

    def within(self, folder: str) -> "DirectoryStorage":
        """A directory in this one."""
        return DirectoryStorage(self.directory / folder)

    def describe(self, name: str = "") -> str:
        """The path."""
        return str(self.directory / name)

    def read(self, name: str) -> bytes | None:
        """A file's content."""
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def read_each(self, name: str) -> Mapping[str, bytes]:
        """The file of that name in every directory."""
        paths = sorted(self.directory.glob(f"*/{name}"))
        return {path.parent.name: path.read_bytes() for path in paths}

    def names(self, folder: str) -> list[str]:
        """The files of a directory; what a crash left aside is none."""
        return sorted(path.name for path in (self.directory / folder).glob("[!.]*"))

    def stamp(self, name: str) -> str | None:
        """When the file was changed."""
        try:
            return str((self.directory / name).stat().st_mtime_ns)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write aside, and rename."""
        path = self.directory / name
        _make(path.parent)
        write_whole(path, content)

    def rename(self, name: str, new: str) -> None:
        """Rename the file."""
        with contextlib.suppress(FileNotFoundError):
            (self.directory / name).rename(self.directory / new)
            sync_directory((self.directory / new).parent)

    def append(self, name: str, line: bytes) -> None:
        """Append to the file."""
        path = self.directory / name
        _make(path.parent)
        with path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                # What a crash cut short must not swallow this line.
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def read_after(self, name: str, offset: int) -> bytes:
        """The file from there."""
        try:
            with (self.directory / name).open("rb") as file:
                file.seek(offset)
                return file.read()
        except FileNotFoundError:
            return b""

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Lock a file, which the kernel lets go of when this process ends."""
        path = self.directory / name
        _make(path.parent)
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def open_text(self, name: str) -> Iterator[TextIO]:
        """Open the file to append."""
        path = self.directory / name
        _make(path.parent)
        with path.open("a", encoding="utf-8", buffering=1) as stream:
            yield stream


def storage_at(place: Path | Storage) -> Storage:
    """A storage, or the one in a directory."""
    return DirectoryStorage(place) if isinstance(place, Path) else place


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in place, whole and on disk, or not at all."""
    aside = path.with_name(f".{path.name}.new")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except BaseException:
        # Of a full disk, what is left half-written would keep it full.
        aside.unlink(missing_ok=True)
        raise
    # The rename itself is on disk only when the directory is.
    sync_directory(path.parent)


def _make(directory: Path) -> None:
    """Make a directory for this user alone, and on disk before anything lies in it."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)
