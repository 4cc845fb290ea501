"""The part of an audit that goes into a run's certificate."""

import json

from pydantic import ValidationError

from sordino_audit.sealing import read_raw
from sordino_protocols.certificate_facts import AuditFacts
from sordino_protocols.errors import InputError

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
    """The summary of an audit's document, as `sealing.to_json` writes it.

    Documents of the present version and of version 2 have one. Only audits of runs have: a
    certificate is of a run.

    Args:
        content: of the file.
        source: what errors call it.

    Raises:
        InputError: it is no audit's document, or the audit is not of a run.
        IntegrityError: it was altered after it was issued.
    """
    raw = read_raw(content, source=source)
    facts = {key: raw.get(key) for key in _COPIED}
    try:
        return AuditFacts.model_validate_json(json.dumps({"document_hash": raw["hash"], **facts}))
    except ValidationError as error:
        where = error.errors(include_input=False)[0]["loc"]
        raise InputError(f"{source}: no audit of a run: {where}") from None
