"""Releases already made: stored before they are sent, re-sent bit-identical, never made anew.

One file a release, named by run and step. It holds the SHA-256 of the request that asked for it and
the sealed answer. The file appears under its name only complete and on disk (written aside, fsync,
renamed, directory fsync), so after a crash there is either the whole release or none.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sordino_protocols.errors import IntegrityError

_DIGEST_BYTES = 32
_SUFFIX = ".release"
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
        """Store a release for ever; on disk when this returns.

        Raises:
            IntegrityError: another release for the same run and step is there already.
        """
        stored = self.get(run_id, step)
        if stored is not None:
            if stored != release:
                raise IntegrityError(f"a second, different release for {run_id}/{step}")
            return
        path = self._path(run_id, step)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(path, bytes.fromhex(release.request_digest) + release.envelope)

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
            sorted(each.name.removesuffix(_SUFFIX) for each in directory.glob(f"[!.]*{_SUFFIX}"))
        )

    def _path(self, run_id: str, step: str) -> Path:
        return self._directory / check_file_name(run_id) / f"{check_file_name(step)}{_SUFFIX}"


def check_file_name(name: str) -> str:
    """Return `name` if it can stand in a path and lead nowhere else.

    Raises:
        ValueError: it cannot. Names from outside were checked where they came in: a bug of ours.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a file")
    return name


def write_durably(path: Path, content: bytes) -> None:
    """Put a file in place, whole and on disk, or not at all. Mode 0600."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    # The rename itself is on disk only when the directories are.
    for directory in (path.parent, path.parent.parent):
        _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
