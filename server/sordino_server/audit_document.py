"""The server's reading of `audit.json`, which the audit leaves beside a run.

The audit is another program, which the server may not import. A document that is of another
version, or none, is not told at all.
"""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from sordino_protocols.errors import IntegrityError
from sordino_server.runs import RunDirectory

AUDIT = "audit.json"
Verdict = Literal["violation", "suspect", "inconclusive", "tight", "loose"]

_READ = ConfigDict(frozen=True)  # keys that the server does not tell may be there


class BoundFacts(BaseModel):
    """What one test showed; `standing` is "bound", or it is an estimate and no alarm."""

    model_config = _READ
    name: str
    assumption: str
    standing: str
    epsilon_low: float | None


class EValueFacts(BaseModel):
    """Evidence against a site's claim, by one test, over all its runs so far."""

    model_config = _READ
    site: str
    test: str
    log10_value: float


class Provenance(BaseModel):
    """How the audit was made."""

    model_config = _READ
    seconds: float


class AuditDocument(BaseModel):
    """What is told of an audit."""

    model_config = _READ
    schema_version: Literal[3]
    issued_at: AwareDatetime
    verdict: Verdict
    claimed: float | None
    bounds: tuple[BoundFacts, ...]
    e_values: tuple[EValueFacts, ...]
    provenance: Provenance


def read_audit(run: RunDirectory) -> AuditDocument | None:
    """A run's newest audit; None where there is none that can be read."""
    try:
        return run.read_if_there(AUDIT, AuditDocument)
    except IntegrityError:
        return None
