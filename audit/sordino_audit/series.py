"""A directory of reports: a chain in which none can be altered, dropped or slipped in unnoticed.

Reports are numbered from 1, one file each: `000001-run-train-20260101-120000-ab12cd34.json`. Each
holds the hash of the one before it. What a chain cannot show is that its last links were cut off:
note the last hash elsewhere now and then, and have it looked for.

The memory of e-values lies in the same directory; it is no report.
"""

import contextlib
import fcntl
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sordino_audit.audit_document import AuditDocument
from sordino_audit.sealing import canonical_hash, read_document, read_raw, sealed, to_json
from sordino_client.outbox import write_durably
from sordino_protocols.errors import InputError, IntegrityError, NotFoundError
from sordino_server.storage import write_whole

E_VALUES = "e-values.json"

_LOCK = "lock"
_NAME = re.compile(r"(\d{6,})-([a-z-]+?)-([A-Za-z0-9._-]+)\.json")
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_SUBJECT = 80


@dataclass(frozen=True, slots=True)
class Filed:
    """A report in its place.

    Attributes:
        number: in the series, from 1.
        path: of the file.
        document: what it says.
    """

    number: int
    path: Path
    document: AuditDocument


class Series:
    """The reports of one directory.

    Args:
        directory: made when the first report is filed.
        is_private: only its owner may read it: the reports of a site's own view.
    """

    def __init__(self, directory: Path, *, is_private: bool = False) -> None:
        self.directory = directory
        self._is_private = is_private

    def append(self, make: Callable[[str | None], AuditDocument]) -> Filed:
        """File a new report behind the last one; on disk when this returns.

        Args:
            make: makes the document, from the hash of the one before it. Others wait meanwhile.

        Raises:
            IntegrityError: the last report does not hold together: nothing is put behind it.
            InputError: the directory cannot be written.
        """
        with self._locked():
            paths = self._paths()
            last = read_document(paths[-1].read_bytes(), source=str(paths[-1])) if paths else None
            number = _number(paths[-1]) + 1 if paths else 1
            document = make(None if last is None else last.hash)
            path = self.directory / _file_name(number, document)
            write = write_durably if self._is_private else write_whole
            write(path, to_json(document).encode())
        return Filed(number, path, document)

    def reports(self) -> Iterator[Filed]:
        """All reports, oldest first.

        Raises:
            IntegrityError, InputError: see `sealing.read_document`.
        """
        for path in self._paths():
            yield Filed(_number(path), path, read_document(path.read_bytes(), source=str(path)))

    def latest(self) -> Filed:
        """The newest report.

        Raises:
            NotFoundError: there is none.
        """
        paths = self._paths()
        if not paths:
            raise NotFoundError(f"{self.directory}: no reports here; make one: sordino audit run")
        path = paths[-1]
        return Filed(_number(path), path, read_document(path.read_bytes(), source=str(path)))

    def verify(self, *, head: str | None = None) -> int:
        """Check every report and every link; returns how many reports there are.

        Args:
            head: a hash that was noted earlier, and must occur.

        Raises:
            NotFoundError: there is no report.
            IntegrityError: a report was altered, dropped, slipped in, renamed or cut off; says
                which.
        """
        before: str | None = None
        seen = set[str]()
        paths = self._paths()
        for expected, path in enumerate(paths, start=1):
            raw = read_raw(path.read_bytes(), source=str(path))
            if _number(path) != expected:
                raise IntegrityError(
                    f"{self.directory}: report {expected} of the series is missing"
                )
            if raw.get("previous") != before:
                raise IntegrityError(f"{path}: does not follow on the report before it")
            if path.name != _name(expected, str(raw.get("kind")), str(raw.get("subject"))):
                raise IntegrityError(f"{path}: the file's name is not that of its content")
            before = canonical_hash(raw)
            seen.add(before)
        if not paths:
            raise NotFoundError(f"{self.directory}: no reports here")
        if head is not None and head not in seen:
            raise IntegrityError(
                f"{self.directory}: no report has the hash {head}: the series was cut off or "
                "written anew"
            )
        return len(paths)

    def _paths(self) -> list[Path]:
        found = [path for path in self.directory.glob("*.json") if _NAME.fullmatch(path.name)]
        return sorted(found, key=_number)

    def make(self) -> None:
        """Make the directory if it is not there.

        Raises:
            InputError: it cannot be made.
        """
        try:
            mode = 0o700 if self._is_private else 0o755
            self.directory.mkdir(mode=mode, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.directory}: cannot be made: {error.strerror}") from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.make()
        try:
            file = (self.directory / _LOCK).open("ab")
        except OSError as error:
            raise InputError(f"{self.directory}: cannot be written: {error.strerror}") from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def chained(document: AuditDocument, previous: str | None) -> AuditDocument:
    """The document, put behind another one, with its new hash."""
    return sealed(document.model_copy(update={"previous": previous}))


def _number(path: Path) -> int:
    return int(path.name.split("-", 1)[0])


def _file_name(number: int, document: AuditDocument) -> str:
    return _name(number, document.kind, document.subject)


def _name(number: int, kind: str, subject: str) -> str:
    # A subject may be a job's name: whatever a file cannot be called becomes a hyphen.
    spelled = _FOREIGN.sub("-", subject).strip("-.") or "unnamed"
    return f"{number:06d}-{kind}-{spelled[:_LONGEST_SUBJECT]}.json"
