"""What an auditor remembers of the sites' ledgers, from the certificates of the runs it audited.

One file, kept from audit to audit. A site's key is believed the first time and pinned from then on.
Two heads of one length with different hashes are two histories: a fork. A run that was created
after another was certified, and whose site then had a shorter ledger, shows that entries were lost
in between: a regression. Runs may be audited in any order. The server remembers heads too; an
auditor who does not trust the server has a memory of its own.
"""

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path

from pydantic import BaseModel, ValidationError

from sordino_audit.findings import Finding, Severity
from sordino_protocols.certificate import Certificate, public_key_of
from sordino_protocols.certificate_facts import HeadFacts
from sordino_protocols.errors import AuthenticationError, InputError, IntegrityError
from sordino_protocols.files import STRICT
from sordino_protocols.heads import SignedHead, verify_head
from sordino_protocols.signing import TrustStore
from sordino_server.storage import write_whole

_CHECK = "ledger"


class SeenHead(BaseModel):
    """A head in a run's certificate, and the time between which its site signed it.

    Attributes:
        run_id: the run.
        after: when the run was created, RFC 3339 UTC.
        before: when its certificate was issued.
        head: as the site signed it.
    """

    model_config = STRICT

    run_id: str
    after: str
    before: str
    head: HeadFacts


class SeenSite(BaseModel):
    """A site's pinned key, and its heads."""

    model_config = STRICT

    public_key: str
    heads: tuple[SeenHead, ...]


class HeadMemory(BaseModel):
    """The whole file."""

    model_config = STRICT

    sites: dict[str, SeenSite]


def remember_heads(path: Path, certificate: Certificate, *, created: str) -> list[Finding]:
    """Remember the heads of a certified run; on disk when this returns.

    Args:
        path: the auditor's file; made if missing.
        certificate: of the run.
        created: when the run was created, RFC 3339 UTC, by the clock that `issued_at` is of.

    Returns:
        A violation for every site whose heads contradict those of other runs, whose key is another
        one, or who did not sign its heads. What contradicts is remembered as well; what was not
        signed is not.

    Raises:
        IntegrityError: the file cannot be read.
    """
    memory = _read(path)
    sites, findings = dict(memory.sites), list[Finding]()
    for name, facts in sorted(certificate.sites.items()):
        known = sites.get(name, SeenSite(public_key=facts.public_key, heads=()))
        if known.public_key != facts.public_key:
            findings.append(_violation(f"site {name} has another key than in runs before"))
            continue
        shown = [facts.claims.ledger_admitted, facts.claims.ledger_settled]
        new = [
            SeenHead(
                run_id=certificate.run_id, after=created, before=certificate.issued_at, head=head
            )
            for head in shown
            if head is not None
        ]
        if not all(_is_signed(name, known.public_key, each.head) for each in new):
            findings.append(_violation(f"site {name} did not sign the head of its ledger"))
            continue
        findings += map(_violation, _contradictions(name, known.heads, new))
        others = tuple(each for each in known.heads if each not in new)
        sites[name] = SeenSite(public_key=known.public_key, heads=(*others, *new))
    write_whole(path, HeadMemory(sites=sites).model_dump_json(indent=2).encode())
    return findings


def _contradictions(site: str, known: tuple[SeenHead, ...], new: list[SeenHead]) -> Iterator[str]:
    """One sentence for each pair of heads that no single growing ledger can have."""
    for first, second in [*product(known, new), *pairwise(new)]:
        one, other = first.head, second.head
        if one.length == other.length and one.hash != other.hash:
            yield (
                f"fork: the ledger of site {site} has two histories: entry {one.length} differs"
                f" between the runs {first.run_id} and {second.run_id}"
            )
        for earlier, later in ((first, second), (second, first)):
            is_after = _is_before(earlier.before, later.after)
            if is_after and later.head.length < earlier.head.length:
                yield (
                    f"regression: the ledger of site {site} had {earlier.head.length} entries"
                    f" after run {earlier.run_id} and {later.head.length} in the later run"
                    f" {later.run_id}"
                )


def _is_before(earlier: str, later: str) -> bool:
    try:
        return dt.datetime.fromisoformat(earlier) < dt.datetime.fromisoformat(later)
    except (ValueError, TypeError):
        return False


def _is_signed(site: str, public_key: str, facts: HeadFacts) -> bool:
    try:
        head = SignedHead(facts.length, facts.hash, facts.signature)
        verify_head(head, site=site, trust=TrustStore({site: public_key_of(public_key)}))
    except (AuthenticationError, InputError, IntegrityError):
        return False
    return True


def _violation(message: str) -> Finding:
    return Finding(_CHECK, Severity.VIOLATION, message)


def _read(path: Path) -> HeadMemory:
    try:
        return HeadMemory.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return HeadMemory(sites={})
    except ValidationError:
        raise IntegrityError(f"{path}: remembered heads that cannot be read") from None
