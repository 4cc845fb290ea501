"""Reports for a reader: found by name, number or age, of this version or an older one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino_audit.audit_document import SCHEMA_VERSION, AuditDocument
from sordino_audit.sealing import read_document, read_raw
from sordino_audit.series import Series
from sordino_protocols.errors import InputError, NotFoundError

_OLD_FACTS = ("schema_version", "run_id", "verdict", "claimed", "delta", "lower_bound", "hash")
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Found:
    """A report that was found, its hash checked.

    Attributes:
        path: of the file.
        raw: its JSON object.
        document: the same, where it is of the present version.
    """

    path: Path
    raw: Mapping[str, object]
    document: AuditDocument | None

    def old_facts(self) -> dict[str, object]:
        """What a document of an older version says that has not changed its meaning."""
        return {key: self.raw.get(key) for key in _OLD_FACTS}


class Shelf:
    """The series of reports, if one is kept, and single documents anywhere."""

    def __init__(self, reports: Path | None) -> None:
        self._reports = reports

    def rows(self) -> Sequence[Mapping[str, object]]:
        """One row a report, oldest first.

        Raises:
            InputError: no series is kept, or a file in it is no report.
            IntegrityError: a report was altered.
        """
        return [
            {
                "number": each.number,
                "kind": each.document.kind,
                "subject": each.document.subject,
                "issued_at": each.document.issued_at,
                "verdict": each.document.verdict.value,
                "lower_bound": each.document.lower_bound,
                "claimed": each.document.claimed,
            }
            for each in self._series().reports()
        ]

    def find(self, name: str) -> Found:
        """A report by path, by its number in the series, or `latest`.

        Raises:
            NotFoundError: there is none.
            InputError: it is no report, or no series is kept.
            IntegrityError: it was altered.
        """
        path = self._path(name)
        raw = read_raw(path.read_bytes(), source=str(path))
        is_current = raw.get("schema_version") == SCHEMA_VERSION
        document = read_document(path.read_bytes(), source=str(path)) if is_current else None
        return Found(path, raw, document)

    def _path(self, name: str) -> Path:
        if name == LATEST:
            return self._series().latest().path
        if name.isdecimal():
            numbered = [each for each in self._series().reports() if each.number == int(name)]
            if not numbered:
                raise NotFoundError(f"no report {name}; see: sordino audit show all")
            return numbered[0].path
        path = Path(name)
        if not path.is_file():
            raise NotFoundError(
                f"{name}: no such document; or a number, or: sordino audit show all"
            )
        return path

    def _series(self) -> Series:
        if self._reports is None:
            raise InputError(
                "which reports? name the series with --reports, or set audit.reports in audit.toml"
            )
        return Series(self._reports)


def current(found: Found) -> AuditDocument:
    """A report of the present version.

    Raises:
        InputError: it is of an older one, of which there is no page.
    """
    if found.document is None:
        raise InputError(
            f"{found.path}: an audit's document of version {found.raw.get('schema_version')!r} "
            "has no page; audit the run again, or show it without --html"
        )
    return found.document


def verified(target: Path, *, head: str | None) -> Mapping[str, object]:
    """Check a series, or one document, and say what was checked.

    Raises:
        NotFoundError: there is nothing.
        InputError: it is no report; or a head was named for a single document.
        IntegrityError: something does not hold together; says what.
    """
    if target.is_dir():
        series = Series(target)
        count = series.verify(head=head)
        return {"holds": True, "reports": count, "last": series.latest().document.hash}
    if not target.is_file():
        raise NotFoundError(f"{target}: no such directory of reports, and no such document")
    if head is not None:
        raise InputError("--head is of a series; name its directory")
    raw = read_raw(target.read_bytes(), source=str(target))
    return {"holds": True, "reports": 1, "last": raw["hash"]}
