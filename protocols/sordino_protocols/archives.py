"""Backups as files: a tar of whole files and, at its end, a manifest with the digest of each.

What must stay true: a backup is there whole or not at all, for its owner alone, and never in place
of another; and nothing of one is put anywhere before all of it was found to be as it was written.
A digest shows what rotted or was cut short. It shows no forgery: whoever can write to a backup can
write a manifest, so a backup belongs where its state would be safe.
"""

import datetime as dt
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import BaseModel, ValidationError

from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_protocols.files import STRICT, sync_directory

Kind = Literal["site", "server"]
_MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 64 * 1024 * 1024


class Manifest(BaseModel):
    """What a backup is of.

    Attributes:
        version: of this format.
        kind: of which kind of host.
        name: of the site or server.
        taken: when, RFC 3339 UTC.
        note: what a person should know of it before putting it back.
        files: SHA-256 of each file, by name.
    """

    model_config = STRICT

    version: Literal[1] = 1
    kind: Kind
    name: str
    taken: str
    note: str
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Member:
    """A file that goes into a backup.

    Attributes:
        name: in the backup, with slashes.
        content: of the file.
    """

    name: str
    content: bytes


def write_archive(
    path: Path, members: Iterable[Member], *, kind: Kind, name: str, note: str, now: dt.datetime
) -> Manifest:
    """Write a backup; on disk when this returns. Mode 0600.

    Raises:
        InputError: there is a file already, or it cannot be written to.
    """
    if path.exists():
        raise InputError(f"{path}: there is a file already; a backup overwrites nothing")
    aside = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                files = {each.name: _add(archive, each) for each in members}
                manifest = Manifest(
                    kind=kind, name=name, taken=now.isoformat(), note=note, files=files
                )
                _add(archive, Member(_MANIFEST, manifest.model_dump_json(indent=1).encode()))
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written to ({error.strerror})") from None
    finally:
        aside.unlink(missing_ok=True)
    return manifest


@contextmanager
def unpacked(path: Path, *, kind: Kind, name: str, beside: Path) -> Iterator[tuple[Manifest, Path]]:
    """A backup's files in a directory of their own, each as it was; gone at the end.

    Args:
        path: of the backup.
        kind: what it must be of.
        name: of what it must be.
        beside: next to which to unpack, to be moved there.

    Raises:
        NotFoundError: there is no such backup.
        InputError: it is of something else, or there is no room for it.
        IntegrityError: it is no backup, or not as it was written.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such backup")
    beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=beside.parent, prefix=".restoring-") as place:
            found = _unpack(path, Path(place))
            manifest = _read_manifest(path, found.pop(_MANIFEST, None), Path(place))
            if (manifest.kind, manifest.name) != (kind, name):
                raise InputError(
                    f"{path}: a backup of {manifest.kind} {manifest.name!r}, not of {kind} {name!r}"
                )
            if found != manifest.files:
                wrong = sorted(set(found.items()) ^ set(manifest.files.items()))
                raise IntegrityError(f"{path}: {wrong[0][0]} is not as it was backed up")
            yield manifest, Path(place)
    except OSError as error:
        raise InputError(f"{beside}: cannot be restored to ({error.strerror})") from None


def _add(archive: tarfile.TarFile, member: Member) -> str:
    info = tarfile.TarInfo(member.name)
    info.size, info.mode = len(member.content), 0o600
    archive.addfile(info, io.BytesIO(member.content))
    return hashlib.sha256(member.content).hexdigest()


def _unpack(path: Path, directory: Path) -> dict[str, str]:
    """Write out the files; their digests by name."""
    digests: dict[str, str] = {}
    try:
        with tarfile.open(path, mode="r:") as archive:
            for info in archive:
                content = archive.extractfile(info) if info.isreg() else None
                if content is None or not _is_inside(info.name) or info.name in digests:
                    raise IntegrityError(f"{path}: {info.name!r} cannot be in a backup of ours")
                digests[info.name] = _write(directory / info.name, content.read())
    except tarfile.TarError:
        raise IntegrityError(f"{path}: no backup, or one that was cut short") from None
    return digests


def _write(path: Path, content: bytes) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _read_manifest(path: Path, digest: str | None, directory: Path) -> Manifest:
    file = directory / _MANIFEST
    if digest is None or file.stat().st_size > _LARGEST_MANIFEST:
        raise IntegrityError(f"{path}: no backup, or one that was cut short: it has no manifest")
    content = file.read_bytes()
    file.unlink()
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        raise IntegrityError(f"{path}: its manifest cannot be read") from None


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts


def put_in_place(source: Path, target: Path) -> None:
    """Move an unpacked directory to where nothing lies yet; on disk when this returns.

    Raises:
        InputError: something lies there.
    """
    if target.exists():
        if any(target.iterdir()):
            raise InputError(
                f"{target}: not empty; a restore overwrites nothing: move what lies there aside"
            )
        target.rmdir()
    for directory in (source, *(each for each in source.rglob("*") if each.is_dir())):
        directory.chmod(0o700)
        sync_directory(directory)
    source.rename(target)
    sync_directory(target.parent)
