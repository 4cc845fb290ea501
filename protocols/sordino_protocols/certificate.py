"""The certificate of a run: what was promised, charged and learnt, and the signed proof of it.

A certificate holds evidence and claims. The evidence is what others signed: the submitter's job,
each site's admission and receipt, byte for byte. The claims say the same in words and numbers, and
all of them follow from the evidence (`certificate_claims`), so whoever has the file and the public
keys can make them anew without asking anybody (`certificate_check`). The server signs the whole; an
auditor may add a signed finding later, which leaves the server's signature as it is.

What must stay true: equal certificates have equal bytes (canonical JSON, one spelling only), and a
field that no signature and no computation covers does not exist. The schema is published in
`docs/certificate.schema.json`.
"""

import base64
import binascii
import hashlib
import json
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import (
    BaseModel,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from sordino_protocols.certificate_facts import (
    AttachedAudit,
    AuditFacts,
    CompositionFacts,
    EvaluationClaims,
    JobFacts,
    KeyFacts,
    SiteFacts,
    StandardFacts,
    TableClaims,
    key_facts,
)
from sordino_protocols.errors import IntegrityError
from sordino_protocols.files import STRICT
from sordino_protocols.signing import Signer, canonical_json

FORMAT: Literal["sordino/certificate/1"] = "sordino/certificate/1"
LARGEST_CERTIFICATE_BYTES = 32 * 1024 * 1024
_CONTEXT = b"sordino/certificate/1\n"
_AUDIT_CONTEXT = b"sordino/certificate-audit/1\n"
_KEY_BYTES = 32


class Certificate(BaseModel):
    """The whole document.

    Attributes:
        format: of the document.
        run_id: the run.
        issued_at: when the server signed, RFC 3339 UTC.
        server: who signed.
        job: what was run.
        sites: every site that was admitted, by name.
        composition: the cost for a person at several sites.
        model_sha256: of the released model's file, hex; None where the run released none.
        evaluation: how good the model is; None where there is none.
        limits: what this certificate does not say.
        standards: how it maps to guidelines.
        signature: the server's, over everything but itself and `audits`; hex.
        audits: added later, each signed by its auditor.
        table: what was released instead of a model; absent where there is a model.
    """

    model_config = STRICT

    format: Literal["sordino/certificate/1"]
    run_id: str
    issued_at: str
    server: KeyFacts
    job: JobFacts
    sites: dict[str, SiteFacts]
    composition: CompositionFacts
    model_sha256: str | None
    evaluation: EvaluationClaims | None
    limits: tuple[str, ...]
    standards: tuple[StandardFacts, ...]
    signature: str
    audits: tuple[AttachedAudit, ...]
    table: TableClaims | None = None

    def canonical(self) -> bytes:
        """The one spelling of this certificate; what its file holds."""
        return canonical_json(self.model_dump(mode="json"))

    def signed_bytes(self) -> bytes:
        """What the server's signature is over."""
        return _CONTEXT + canonical_json(
            self.model_dump(mode="json", exclude={"signature", "audits"})
        )

    @model_serializer(mode="wrap")
    def _without_absent_table(self, dump: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        """Without a table it is spelled as it was before there were any."""
        raw: dict[str, JsonValue] = dump(self)
        if raw.get("table", self) is None:
            del raw["table"]
        return raw

    def digest(self) -> str:
        """SHA-256 of the signed bytes, in hex: what an auditor's signature binds to."""
        return hashlib.sha256(self.signed_bytes()).hexdigest()

    def signed_by(self, signer: Signer) -> "Certificate":
        """The same with the server's signature."""
        return self.model_copy(update={"signature": signer.sign(self.signed_bytes()).hex()})


def audit_bytes(summary: AuditFacts, *, certificate_digest: str) -> bytes:
    """What an auditor's signature is over."""
    bound = {"certificate": certificate_digest, "summary": summary.model_dump(mode="json")}
    return _AUDIT_CONTEXT + canonical_json(bound)


def attach(certificate: Certificate, summary: AuditFacts, auditor: Signer) -> Certificate:
    """The certificate with one more audit; the server's signature stays good."""
    signature = auditor.sign(audit_bytes(summary, certificate_digest=certificate.digest()))
    entry = AttachedAudit(
        auditor=key_facts(auditor.name, auditor.key.public_key()),
        summary=summary,
        signature=signature.hex(),
    )
    return certificate.model_copy(update={"audits": (*certificate.audits, entry)})


def read_certificate(content: bytes) -> Certificate:
    """Read a certificate's file. Nobody's signature is checked here.

    Raises:
        IntegrityError: it is no certificate of a known format, or not in canonical form.
    """
    if len(content) > LARGEST_CERTIFICATE_BYTES:
        raise IntegrityError(f"a certificate has at most {LARGEST_CERTIFICATE_BYTES} bytes")
    try:
        certificate = Certificate.model_validate_json(content)
        canonical = certificate.canonical()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise IntegrityError(f"no certificate: {where}: {first['msg']}") from None
    except (ValueError, TypeError, RecursionError):
        raise IntegrityError("no certificate that can be read") from None
    if canonical != content:
        # One spelling only: no duplicate keys, no second document with the same meaning.
        raise IntegrityError("the certificate is not in canonical form: it was edited")
    return certificate


def schema_json() -> str:
    """The published JSON Schema, indented, with a last newline."""
    return json.dumps(Certificate.model_json_schema(), indent=2) + "\n"


def public_key_of(encoded: str) -> Ed25519PublicKey:
    """The key in a document.

    Raises:
        IntegrityError: it is not the base64 of 32 bytes.
    """
    raw = bytes_of(encoded)
    if len(raw) != _KEY_BYTES:
        raise IntegrityError("a public key is the base64 of 32 bytes")
    return Ed25519PublicKey.from_public_bytes(raw)


def bytes_of(encoded: str) -> bytes:
    """The bytes in a document.

    Raises:
        IntegrityError: this is not their only base64.
    """
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if base64.b64encode(raw).decode("ascii") != encoded:
        raise IntegrityError("not base64")
    return raw


def is_signed_by(key: Ed25519PublicKey, data: bytes, signature: str) -> bool:
    """Whether a signature in hex is the key's over exactly these bytes."""
    try:
        key.verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError):
        return False
    # Hex has several spellings; a document has one.
    return bytes.fromhex(signature).hex() == signature
