"""A certificate against a site's exported ledger: was that really the ledger, and all of it?

A receipt is a site's word on its ledger. The export is the ledger itself, so the heads in the
certificate must lie in its chain, and every event that the chain has for the run must have been
declared.
"""

from collections import Counter
from collections.abc import Iterator

from sordino_client.chain import Entry
from sordino_client.ledger_export import Export
from sordino_protocols.certificate import Certificate, public_key_of
from sordino_protocols.certificate_facts import HeadFacts
from sordino_protocols.certificate_problems import Problem, broken, false
from sordino_protocols.errors import SordinoError
from sordino_protocols.privacy import event_to_json
from sordino_protocols.signing import TrustStore, canonical_json


def check_export(
    certificate: Certificate, export: Export, trusted: TrustStore | None
) -> Iterator[Problem]:
    """Problems of a site's claims, seen from its exported ledger.

    Args:
        certificate: that names the site.
        export: of the site's ledger, made at any time after the run.
        trusted: the sites' keys; without, the certificate's own.
    """
    field = f"sites.{export.site}"
    facts = certificate.sites.get(export.site)
    if facts is None:
        yield broken("sites", f"the export is of site {export.site}, which is not in here")
        return
    try:
        trust = trusted or TrustStore({export.site: public_key_of(facts.public_key)})
        entries = export.verified(trust)
    except SordinoError as error:
        yield broken(field, f"its exported ledger does not hold: {error}")
        return
    claims = facts.claims
    yield from _check_head(f"{field}.claims.ledger_admitted", claims.ledger_admitted, export)
    if claims.ledger_settled is None:
        return
    yield from _check_head(f"{field}.claims.ledger_settled", claims.ledger_settled, export)
    declared = Counter(
        {canonical_json(each.event): each.times for each in claims.releases},
    )
    undeclared = _charged(entries, certificate.run_id) - declared
    if undeclared:
        count = undeclared.total()
        yield false(f"{field}.claims.releases", f"{count} events of the ledger are not in here")


def _check_head(field: str, head: HeadFacts, export: Export) -> Iterator[Problem]:
    rows = export.rows
    if head.length == 0:
        return
    if head.length > len(rows) or rows[head.length - 1].hash != head.hash:
        yield broken(field, "is not in the exported ledger: entries were changed or are gone")


def _charged(entries: tuple[Entry, ...], run_id: str) -> Counter[bytes]:
    """The events that the ledger reserved for a run, in canonical form."""
    return Counter(
        canonical_json(event_to_json(entry.event))
        for entry in entries
        if entry.facts.get("kind") == "reserve" and entry.facts.get("run_id") == run_id
    )
