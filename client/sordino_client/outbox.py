"""Releases already made: stored before they are sent, re-sent bit-identical, never made anew.

One file a release, named by run and step. It holds the SHA-256 of the request that asked for it and
the sealed answer. The file appears under its name only complete and on disk (written aside, fsync,
renamed, directory fsync), so after a crash there is either the whole release or none.
"""

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sordino_protocols.errors import IntegrityError, UnreachableError
from sordino_protocols.files import sync_directory

_DIGEST_BYTES = 32
SUFFIX = ".release"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Release:
    """Something that may leave the site.

    Attributes:
        request_digest: SHA-256 (hex) of the request that it answers.
        envelope: the sealed answer.
    """

    request_digest: str
    envelope: bytes

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the envelope, as the ledger's commit names it."""
        return hashlib.sha256(self.envelope).hexdigest()


class Outbox:
    """The directory of releases; safe to open again after a crash at any point."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def put(self, run_id: str, step: str, release: Release) -> None:
        """Store a release; on disk when this returns.

        Raises:
            IntegrityError: another release for the same run and step is there already.
            UnreachableError: the disk did not take it; the release may be put again.
        """
        stored = self.get(run_id, step)
        if stored is not None:
            if stored != release:
                raise IntegrityError(f"a second, different release for {run_id}/{step}")
            return
        write_durably(
            self._path(run_id, step), bytes.fromhex(release.request_digest) + release.envelope
        )

    def get(self, run_id: str, step: str) -> Release | None:
        """The stored release, or None if there is none."""
        try:
            content = self._path(run_id, step).read_bytes()
        except FileNotFoundError:
            return None
        if len(content) <= _DIGEST_BYTES:
            raise IntegrityError(f"the release for {run_id}/{step} is cut short")
        return Release(content[:_DIGEST_BYTES].hex(), content[_DIGEST_BYTES:])

    def runs(self) -> tuple[str, ...]:
        """Every run that something was stored for."""
        # A person may have put something beside them.
        names = (each.name for each in self._directory.iterdir() if each.is_dir())
        return tuple(sorted(name for name in names if _NAME.fullmatch(name)))

    def releases(self, run_id: str) -> tuple[str, ...]:
        """The steps of a run that have a stored release."""
        directory = self._directory / check_file_name(run_id)
        return tuple(
            sorted(each.name.removesuffix(SUFFIX) for each in directory.glob(f"[!.]*{SUFFIX}"))
        )

    def stored_at(self, run_id: str, step: str) -> float | None:
        """When a release was stored, Unix time; None if there is none."""
        try:
            return self._path(run_id, step).stat().st_mtime
        except FileNotFoundError:
            return None

    def forget(self, run_id: str, step: str) -> int:
        """Remove a release that nobody can ask for any more (`retention.py`); the bytes it had."""
        path = self._path(run_id, step)
        size = path.stat().st_size
        path.unlink()
        return size

    def _path(self, run_id: str, step: str) -> Path:
        return self._directory / check_file_name(run_id) / f"{check_file_name(step)}{SUFFIX}"


def check_file_name(name: str) -> str:
    """Return `name` if it can stand in a path and lead nowhere else.

    Raises:
        ValueError: it cannot. Names from outside were checked where they came in: a bug of ours.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a file")
    return name


def write_durably(path: Path, content: bytes) -> None:
    """Put a file in place, whole and on disk, or not at all. Mode 0600. Makes its directory.

    Raises:
        UnreachableError: the disk did not take it; it is full, or broken.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        # The rename itself is on disk only when the directories are.
        for directory in (path.parent, path.parent.parent):
            sync_directory(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            # Half a file would keep a full disk full.
            aside.unlink(missing_ok=True)
        raise UnreachableError(f"{path}: the disk did not take it: {error.strerror}") from None
