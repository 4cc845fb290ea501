"""`audit.toml`: where the auditor keeps what. Optional; flags on the command line come first."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from sordino_audit.series import Series
from sordino_protocols.files import STRICT, read_toml, with_absolute_paths

DEFAULT_CONFIG = Path("/etc/sordino/audit.toml")
DEFAULT_CONFIDENCE = 0.95


class AuditSection(BaseModel):
    """`[audit]`. Relative paths start at the file.

    Attributes:
        reports: directory of the series of reports; without it, none is kept.
        runs: directory of the server's runs, for audits of new ones.
        heads: file in which the heads of sites' ledgers are remembered; default: beside the runs.
        confidence: of every bound on epsilon.
    """

    model_config = STRICT

    reports: Path | None = None
    runs: Path | None = None
    heads: Path | None = None
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = DEFAULT_CONFIDENCE


class AuditFile(BaseModel):
    """The whole file."""

    model_config = STRICT

    audit: AuditSection = AuditSection()


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """What file and command line come to.

    Attributes:
        reports: directory of the series of reports, if one is kept.
        runs: directory of the server's runs, if it is known.
        heads: file of remembered heads; None means beside the runs.
        confidence: of every bound on epsilon.
    """

    reports: Path | None = None
    runs: Path | None = None
    heads: Path | None = None
    confidence: float = DEFAULT_CONFIDENCE

    @property
    def series(self) -> Series | None:
        """The series of reports, if one is kept."""
        return None if self.reports is None else Series(self.reports)


def load_config(
    path: Path | None,
    *,
    reports: Path | None = None,
    heads: Path | None = None,
    confidence: float | None = None,
) -> AuditConfig:
    """Read `audit.toml` below what the command line says.

    Args:
        path: the file; None reads `DEFAULT_CONFIG` where it exists.
        reports: from the command line.
        heads: from the command line.
        confidence: from the command line.

    Raises:
        NotFoundError: no such file.
        InputError: names file, key and what was expected.
    """
    section = AuditSection()
    where = path or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    if where is not None:
        file = read_toml(where, AuditFile)
        section = with_absolute_paths(file.audit, where.absolute().parent)
    return AuditConfig(
        reports=reports or section.reports,
        runs=section.runs,
        heads=heads or section.heads,
        confidence=section.confidence if confidence is None else confidence,
    )
