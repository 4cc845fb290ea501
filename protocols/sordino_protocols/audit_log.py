"""The audit log: who decided what at this site or server, in order, for whoever asks years later.

One JSON object a line, each with the hash of the one before, so that a changed, removed or
reordered entry breaks the chain. A truncated tail keeps a chain whole: so the newest head lies in a
file of its own beside the log, travels to the other side, and what it names must be in the log.
An entry is on disk when `record` returns. A line that a crash cut short was never acknowledged to
anybody and counts for nothing; the next entry starts a new line, because nothing is ever erased.

Entries hold declared facts only: names, digests, rules. Nothing in them comes from a record.
"""

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from sordino_protocols.errors import IntegrityError, NotFoundError, UnreachableError
from sordino_protocols.files import sync_directory
from sordino_protocols.heads import GENESIS
from sordino_protocols.signing import canonical_json


class AuditEntry(BaseModel):
    """One decision.

    Attributes:
        seq: number, from 1.
        ts: RFC 3339, UTC.
        actor: who decided: a submitter, an approver, "policy", "admin", "vault".
        action: what was done, in snake_case: "admitted", "policy_reloaded".
        object: to what: a run, a policy.
        decision: how: "allow", "deny", "ask", or empty.
        reason: why, with the rule.
        policy_sha256: of the policy in force; None where there is none.
        prev_hash: `hash` of the entry before; `GENESIS` for the first.
        hash: SHA-256 in hex of the canonical JSON of all the other fields.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    seq: int
    ts: str
    actor: str
    action: str
    object: str
    decision: str
    reason: str
    policy_sha256: str | None
    prev_hash: str
    hash: str


class AuditLog:
    """The log, for appending. Several processes may append in turn.

    Opening reads and checks all of it.

    Raises:
        IntegrityError: it does not hold together.
    """

    def __init__(self, path: Path, *, now: Callable[[], dt.datetime]) -> None:
        self._path = path
        self._now = now
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("rb+") as file, _Locked(file.fileno()):
            self._entries = _read(path)
            self._size = file.seek(0, os.SEEK_END)

    @property
    def head(self) -> str:
        """Hash of the newest entry; `GENESIS` where there is none."""
        return self._entries[-1].hash if self._entries else GENESIS

    @property
    def length(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    @property
    def entries(self) -> tuple[AuditEntry, ...]:
        """All of them, as they were when this log was last read or written here."""
        return self._entries

    def record(
        self,
        *,
        actor: str,
        action: str,
        object: str,  # noqa: A002  # the audit log's own word for it
        decision: str,
        reason: str,
        policy_sha256: str | None,
    ) -> AuditEntry:
        """Append one entry; on disk when this returns.

        Raises:
            IntegrityError: the log was changed since it was read.
            UnreachableError: it could not be written, say for a full disk; nothing was recorded.
        """
        with _opened(self._path) as file:
            if os.fstat(file.fileno()).st_size != self._size:
                self._take_in()
            body: dict[str, int | str | None] = {
                "seq": len(self._entries) + 1,
                "ts": _spell(self._now()),
                "actor": actor,
                "action": action,
                "object": object,
                "decision": decision,
                "reason": reason,
                "policy_sha256": policy_sha256,
                "prev_hash": self.head,
            }
            entry = AuditEntry.model_validate({**body, "hash": _hash(body)})
            self._size = _append(self._path, file.fileno(), entry)
            self._entries = (*self._entries, entry)
        return entry

    def _take_in(self) -> None:
        """Go on from what another process appended.

        Raises:
            IntegrityError: it did something else.
        """
        entries = _read(self._path)
        if entries[: len(self._entries)] != self._entries:
            raise IntegrityError(f"{self._path}: entries that were read before are gone")
        self._entries = entries


def read_audit_log(path: Path) -> tuple[AuditEntry, ...]:
    """Every entry, oldest first, all of them checked.

    Raises:
        NotFoundError: there is no log.
        IntegrityError: an entry was changed, removed, reordered or added by somebody else, or the
            newest one that was remembered is not there; names the line.
    """
    if not path.exists():
        raise NotFoundError(f"{path}: no audit log; has the vault run yet?")
    with path.open("rb") as file, _Locked(file.fileno()):
        return _read(path)


def _read(path: Path) -> tuple[AuditEntry, ...]:
    *lines, tail = path.read_bytes().split(b"\n")
    if _parse(tail) is not None or not _is_cut_short(tail):
        lines.append(tail)
    entries: list[AuditEntry] = []
    odd = 0
    for number, line in enumerate(lines, start=1):
        entry = _parse(line)
        if entry is None:
            # Cut short, if the entry after it does not know it: the chain says if one is missing.
            odd = number
            continue
        before = entries[-1].hash if entries else GENESIS
        if (entry.seq, entry.prev_hash) != (len(entries) + 1, before):
            raise IntegrityError(f"{path}:{number}: not the entry that follows the one before")
        entries.append(entry)
        odd = 0
    if odd:
        raise IntegrityError(f"{path}:{odd}: this entry was changed")
    _check_remembered(path, entries)
    return tuple(entries)


def _parse(line: bytes) -> AuditEntry | None:
    """The entry in a line; None if the line is not exactly what `record` writes."""
    try:
        entry = AuditEntry.model_validate_json(line)
    except ValidationError:
        return None
    is_as_written = canonical_json(entry.model_dump()) == line
    is_unchanged = _hash(entry.model_dump(exclude={"hash"})) == entry.hash
    return entry if is_as_written and is_unchanged else None


def _is_cut_short(tail: bytes) -> bool:
    """Whether a last line without a line break may be what a crash left of an entry."""
    try:
        json.JSONDecoder().raw_decode(tail.decode("ascii"))
    except ValueError:
        return True
    return False


def _hash(body: dict[str, int | str | None]) -> str:
    return hashlib.sha256(canonical_json(body)).hexdigest()


def _spell(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The log, for the only one who appends."""
    try:
        file = path.open("rb+", buffering=0)
    except OSError as error:
        raise UnreachableError(f"{path}: cannot be written: {error.strerror}") from None
    with file, _Locked(file.fileno()):
        yield file


def _append(path: Path, descriptor: int, entry: AuditEntry) -> int:
    """Put an entry and its head on disk, both or neither; returns how long the log is then."""
    size = os.fstat(descriptor).st_size
    line = canonical_json(entry.model_dump()) + b"\n"
    if size > 0 and os.pread(descriptor, 1, size - 1) != b"\n":
        line = b"\n" + line
    try:
        written = 0
        while written < len(line):
            written += os.pwrite(descriptor, line[written:], size + written)
        os.fsync(descriptor)
        _remember(path, entry)
    except OSError as error:
        # Nobody was told of it, and half an entry, or one without its head, would break the chain.
        os.ftruncate(descriptor, size)
        raise UnreachableError(f"{path}: cannot be written: {error.strerror}") from None
    return size + len(line)


def read_together(path: Path) -> dict[str, bytes]:
    """An audit log's files by name, as they are between two entries; empty if there is no log."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    with os.fdopen(descriptor, "rb") as file, _Locked(descriptor):
        found = {path.name: file.read()}
        head = _head_path(path)
        return found | ({head.name: head.read_bytes()} if head.exists() else {})


# ---------------------------------------------------------------------- the remembered head


def _head_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _spell_head(entry: AuditEntry) -> bytes:
    return canonical_json({"length": entry.seq, "hash": entry.hash})


def _remember(path: Path, newest: AuditEntry) -> None:
    """Put the newest head in place, whole and on disk; a crash before leaves the one before."""
    head = _spell_head(newest)
    place = _head_path(path)
    aside = place.with_name(f".{place.name}.new")
    with aside.open("wb") as file:
        file.write(head)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(place)
    # In place now: that the rename may not last is no reason to take the entry back.
    with contextlib.suppress(OSError):
        sync_directory(path.parent)


def _check_remembered(path: Path, entries: list[AuditEntry]) -> None:
    place = _head_path(path)
    if not place.exists():
        # A crash between the very first entry and its head leaves one entry and no head.
        if len(entries) > 1:
            raise IntegrityError(f"{place}: missing; it says how long the audit log is at least")
        return
    known = {
        _spell_head(entry)
        for entry in entries[-2:]  # the newest, or the one before if a crash came between
    }
    if place.read_bytes() not in known:
        raise IntegrityError(f"{path}: ends before the newest entry that {place.name} names")


class _Locked:
    """Be the only one who reads or appends, while the file is open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
