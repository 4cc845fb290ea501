"""When an audit was made, after which other one, and with what."""

import datetime as dt
import platform
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

from sordino_audit.audit_entries import Provenance

_PACKAGES = ("sordino", "torch", "numpy", "scipy", "dp-accounting", "opacus")


@dataclass(frozen=True, slots=True)
class Occasion:
    """The circumstances of one audit.

    Attributes:
        issued_at: when its document is made, with a time zone.
        seconds: that it took.
        previous: hash of the document before it in its series, if there is one.
        job_sha256: of the audited job as it was signed, if there is one.
        seeds: of the audit's own choices.
    """

    issued_at: dt.datetime
    seconds: float
    previous: str | None = None
    job_sha256: str | None = None
    seeds: tuple[int, ...] = ()

    @property
    def stamp(self) -> str:
        """RFC 3339 UTC, in milliseconds."""
        return self.issued_at.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def provenance(occasion: Occasion) -> Provenance:
    """What made a document, so that somebody else can make it again."""
    return Provenance(
        packages=dict(_versions()),
        job_sha256=occasion.job_sha256,
        seeds=occasion.seeds,
        seconds=round(occasion.seconds, 3),
    )


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = [(name, version(name)) for name in _PACKAGES]
    return (("python", platform.python_version()), *found)
