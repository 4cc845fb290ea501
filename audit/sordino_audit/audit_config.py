"""`audit.toml`: where the auditor keeps what. Optional; flags on the command line come first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from sordino_audit.series import Series
from sordino_protocols.configuration import Layered, read_layers
from sordino_protocols.files import STRICT, with_absolute_paths
from sordino_protocols.standard_paths import default_config

DEFAULT_CONFIDENCE = 0.95


class AuditSection(BaseModel):
    """`[audit]`. Relative paths start at the file.

    Attributes:
        reports: directory of the series of reports; without it, none is kept.
        runs: directory of the server's runs, for audits of new ones.
        state_url_file: a file, 0600, with the URL of the server's database, where runs lie in one.
        heads: file in which the heads of sites' ledgers are remembered; default: beside the runs.
        confidence: of every bound on epsilon.
    """

    model_config = STRICT

    reports: Path | None = None
    runs: Path | None = None
    state_url_file: Path | None = None
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
        state_url_file: the file with the URL of the server's database, if runs lie in one.
        heads: file of remembered heads; None means beside the runs.
        confidence: of every bound on epsilon.
    """

    reports: Path | None = None
    runs: Path | None = None
    state_url_file: Path | None = None
    heads: Path | None = None
    confidence: float = DEFAULT_CONFIDENCE

    @property
    def series(self) -> Series | None:
        """The series of reports, if one is kept."""
        return None if self.reports is None else Series(self.reports)


def read_audit(
    path: Path | None,
    environ: Mapping[str, str] | None = None,
    *,
    flags: Mapping[tuple[str, str], object] | None = None,
) -> Layered[AuditFile]:
    """Read `audit.toml` with its drop-ins, below what the environment and the command line say.

    Args:
        path: the file; None reads the default one where it exists.
        environ: the environment; None means this process's.
        flags: from the command line.

    Raises:
        NotFoundError: no such file.
        InputError: names file (or variable), key and what was expected.
    """
    return read_layers(_file(path), AuditFile, role="audit", environ=environ, flags=flags)


def load_config(
    path: Path | None,
    *,
    reports: Path | None = None,
    heads: Path | None = None,
    confidence: float | None = None,
) -> AuditConfig:
    """The audit's configuration; a path on the command line starts at the working directory.

    Args:
        path: the file; None reads the default one where it exists.
        reports: from the command line.
        heads: from the command line.
        confidence: from the command line.

    Raises:
        NotFoundError: no such file.
        InputError: names file (or variable), key and what was expected.
    """
    flags = {
        ("audit", "reports"): None if reports is None else str(reports),
        ("audit", "heads"): None if heads is None else str(heads),
        ("audit", "confidence"): confidence,
    }
    section = read_audit(path, flags=flags).value.audit
    where = _file(path)
    if where is not None:
        section = with_absolute_paths(section, where.absolute().parent)
    return AuditConfig(
        reports=reports or section.reports,
        runs=section.runs,
        state_url_file=section.state_url_file,
        heads=heads or section.heads,
        confidence=section.confidence,
    )


def _file(path: Path | None) -> Path | None:
    if path is not None:
        return path
    default = default_config("audit")
    return default if default.exists() else None
