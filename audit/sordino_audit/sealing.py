"""How an audit's document is hashed, written and read.

The hash covers everything in the document, the hash of the document before it included, so that a
series of audits cannot be thinned out without a trace. It is no signature: who can write the file
can write another one. Note the last hash elsewhere, or let an auditor sign it into a certificate.
"""

import hashlib
import json
from collections.abc import Mapping

from pydantic import ValidationError

from sordino_audit.audit_document import SCHEMA_VERSION, AuditDocument
from sordino_protocols.errors import InputError, IntegrityError

UNSEALED = ""
"""The hash of a document that has none yet."""


def sealed(document: AuditDocument) -> AuditDocument:
    """The document with the hash of its content."""
    return document.model_copy(update={"hash": canonical_hash(_raw(document))})


def to_json(document: AuditDocument) -> str:
    """The document as it is stored: sorted keys, indented, no NaN."""
    return json.dumps(_raw(document), indent=2, sort_keys=True, allow_nan=False) + "\n"


def canonical_hash(raw: Mapping[str, object]) -> str:
    """SHA-256 of a JSON object without its hash, keys sorted, no white space; 64 hex digits."""
    content = {key: value for key, value in raw.items() if key != "hash"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def verify(document: AuditDocument) -> None:
    """Check that a document is the one that was issued.

    Raises:
        IntegrityError: the content does not fit the hash.
    """
    if document.hash != canonical_hash(_raw(document)):
        raise IntegrityError(f"the audit of {document.subject} was altered after it was issued")


def read_raw(content: bytes, *, source: str) -> Mapping[str, object]:
    """The JSON object of an audit's document of any version, its hash checked.

    Args:
        content: of the file.
        source: what errors call it.

    Raises:
        InputError: it is no audit's document.
        IntegrityError: it was altered after it was issued.
    """
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or not isinstance(raw.get("hash"), str):
        raise InputError(f"{source}: no audit's document")
    if raw["hash"] != canonical_hash(raw):
        raise IntegrityError(f"{source}: the audit was altered after it was issued")
    return raw


def read_document(content: bytes, *, source: str) -> AuditDocument:
    """An audit's document of the present version.

    Args:
        content: of the file.
        source: what errors call it.

    Raises:
        InputError: it is no audit's document, or one of another version, which is named.
        IntegrityError: it was altered after it was issued.
    """
    raw = read_raw(content, source=source)
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{source}: an audit's document of version {version!r}; this program reads version "
            f"{SCHEMA_VERSION}: audit the run again, or use the program that wrote it"
        )
    try:
        # From what was hashed, not from the bytes: a key that is there twice has one meaning.
        return AuditDocument.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False)[0]["loc"])) or "the whole"
        raise InputError(f"{source}: no audit's document: {where}") from None


def _raw(document: AuditDocument) -> dict[str, object]:
    return document.model_dump(mode="json")
