"""The part of an audit that goes into a run's certificate."""

import hashlib
import json

from pydantic import ValidationError

from sordino_protocols.certificate_facts import AuditFacts
from sordino_protocols.errors import InputError, IntegrityError

_COPIED = (
    "run_id",
    "verdict",
    "claimed",
    "delta",
    "lower_bound",
    "confidence",
    "detectable",
    "findings",
)


def read_summary(content: bytes, *, source: str) -> AuditFacts:
    """The summary of an audit's document, as `report.to_json` writes it.

    Args:
        content: of the file.
        source: what errors call it.

    Raises:
        InputError: it is no audit's document.
        IntegrityError: it was altered after it was issued.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InputError(f"{source}: no audit's document")
    said = document.pop("hash", None)
    # As `report.canonical_hash`, of a document that may lack anything.
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    if said != hashlib.sha256(canonical.encode()).hexdigest():
        raise IntegrityError(f"{source}: the audit was altered after it was issued")
    facts = {key: document.get(key) for key in _COPIED}
    try:
        return AuditFacts.model_validate_json(json.dumps({"document_hash": said, **facts}))
    except ValidationError as error:
        where = error.errors(include_input=False)[0]["loc"]
        raise InputError(f"{source}: no audit's document: {where}") from None
