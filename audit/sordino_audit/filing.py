"""Putting an audit's document where it belongs."""

from dataclasses import dataclass
from pathlib import Path

from sordino_audit.audit_document import AuditDocument
from sordino_audit.findings import Finding
from sordino_audit.series import Series, chained
from sordino_protocols.errors import ExitCode


@dataclass(frozen=True, slots=True)
class Audited:
    """An audit that was made and filed.

    Attributes:
        document: what it says.
        filed: its place in the series of reports, if one is kept.
        ledgers: contradictions in the ledgers of sites; they are among the document's findings.
        notes: what else a person should know.
    """

    document: AuditDocument
    filed: Path | None
    ledgers: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """What the command that made it ends with: a ledger that does not hold comes first."""
        return ExitCode.INTEGRITY if self.ledgers else self.document.verdict.exit_code


def filed(document: AuditDocument, series: Series | None) -> tuple[AuditDocument, Path | None]:
    """The document behind the last one of a series, and its file; as it is where none is kept.

    Raises:
        IntegrityError: the series does not hold together.
        InputError: its directory cannot be written.
    """
    if series is None:
        return document, None
    place = series.append(lambda previous: chained(document, previous))
    return place.document, place.path
