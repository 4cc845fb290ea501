"""Whether a site's revealed coins are the ones that it committed to before the run."""

from dataclasses import dataclass

from sordino_audit.findings import Finding, Severity
from sordino_protocols import coins


@dataclass(frozen=True, slots=True)
class Reveal:
    """What a site opens after the last round.

    Attributes:
        site: the site's name.
        inserted: one coin a lane.
        salt: the salt of the commitment.
    """

    site: str
    inserted: tuple[bool, ...]
    salt: bytes


def check_reveal(reveal: Reveal, commitment: str, *, run_id: str) -> Finding | None:
    """A violation if the coins are not the committed ones, else nothing.

    Coins that were chosen after the fact can hide any leak, so there is no lesser finding.
    """
    if coins.matches(
        commitment, reveal.inserted, salt=reveal.salt, run_id=run_id, site=reveal.site
    ):
        return None
    return Finding(
        "coins",
        Severity.VIOLATION,
        f"site {reveal.site} revealed coins that it had not committed to before the run",
    )
