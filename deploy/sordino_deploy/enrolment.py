"""Joining a federation in two files: a request that shows public keys, an answer that admits them.

A request carries every public key of a site or a person, and a signature by each key that can sign:
nobody can ask for somebody else's key. The key for sums (X25519) cannot sign; the others vouch for
it. One fingerprint covers the whole request, for two people to compare by telephone. The answer
carries what the newcomer needs of the federation. Neither file holds a secret; what must stay true:
whoever approves has been shown the fingerprint of exactly what is admitted.
"""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import BaseModel, ValidationError

from sordino_deploy.pki import requested_key
from sordino_protocols.certificates import spell_fingerprint
from sordino_protocols.errors import AuthenticationError, InputError
from sordino_protocols.files import STRICT, read_text
from sordino_protocols.job_sections import Name
from sordino_protocols.signing import Signer, canonical_json

REQUEST_SUFFIX = ".request.json"
ANSWER_SUFFIX = ".answer.json"

Asker = Literal["site", "submitter", "operator"]
"""Who may ask; a `pki.Role` but for the server, which is there already."""

_KEY_WORDS = 3
_FINGERPRINT_BYTES = 16  # nobody finds a second request with the same 128 bits
_TLS_SIGNATURE = ec.ECDSA(hashes.SHA256())
_NODE_SIGNATURE = ec.ECDSA(hashes.SHA384())


class Proofs(BaseModel):
    """Signatures of a request's content by the keys that it shows, base64."""

    model_config = STRICT

    certificate_key: str
    signing_key: str
    node_key: str | None


class Shown(BaseModel):
    """The public half of everything that a site or a person has.

    Attributes:
        name: of whoever asks.
        role: what that is.
        certificate_request: for the TLS certificate, PEM.
        signing_key: Ed25519, as a `.pub` file has it.
        node_key: of a site's link: EC P-384, OpenSSH; a person has none.
        mask_key: of a site, for sums: X25519, as a `.mask.pub` file has it.
    """

    model_config = STRICT

    name: Name
    role: Asker
    certificate_request: str
    signing_key: str
    node_key: str | None = None
    mask_key: str | None = None

    def content(self) -> bytes:
        """What the proofs sign."""
        return canonical_json(self.model_dump(mode="json"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all of it, cut to 128 bits, to be compared by two people."""
        return _short(self.content())


class EnrolmentRequest(BaseModel):
    """What a site or a person asks to be let in with."""

    model_config = STRICT

    format: Literal["sordino-enrolment-request/1"] = "sordino-enrolment-request/1"
    shown: Shown
    proofs: Proofs


class EnrolmentAnswer(BaseModel):
    """What whoever was let in needs of the federation.

    Attributes:
        format: of the file.
        name: of whoever asked.
        role: what that is.
        certificate: its TLS certificate, PEM.
        authority: the certificate authority's certificate, PEM.
        server_key: the server's Ed25519 public key, as a `.pub` file has it.
        server: `host:port` for sites.
        gateway: `host:port` for people.
    """

    model_config = STRICT

    format: Literal["sordino-enrolment-answer/1"] = "sordino-enrolment-answer/1"
    name: Name
    role: Asker
    certificate: str
    authority: str
    server_key: str
    server: str
    gateway: str

    @property
    def server_name(self) -> str:
        """What the server's key speaks for."""
        return self.server_key.split()[-1]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the authority and the server's key: whom the newcomer is about to trust."""
        return _short(canonical_json([self.authority, self.server_key]))


def make_request(
    shown: Shown,
    signer: Signer,
    *,
    certificate_key: ec.EllipticCurvePrivateKey,
    node_key: ec.EllipticCurvePrivateKey | None,
) -> EnrolmentRequest:
    """A request, proven by each private key; a person has no `node_key`."""
    content = shown.content()
    proofs = Proofs(
        certificate_key=_encode(certificate_key.sign(content, _TLS_SIGNATURE)),
        signing_key=_encode(signer.sign(content)),
        node_key=_encode(node_key.sign(content, _NODE_SIGNATURE)) if node_key else None,
    )
    return EnrolmentRequest(shown=shown, proofs=proofs)


def read_request(path: Path) -> EnrolmentRequest:
    """Read a request and check its proofs.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no request, or not of this version.
        AuthenticationError: a key in it is not its sender's own, or the content was altered.
    """
    try:
        request = EnrolmentRequest.model_validate_json(read_text(path))
    except ValidationError:
        raise InputError(f"{path}: expected a request of: sordino site enroll") from None
    try:
        _check_proofs(request)
    except InvalidSignature:
        raise AuthenticationError(
            f"{path}: was altered, or shows a key that is not its sender's own"
        ) from None
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        raise InputError(f"{path}: holds a key that is none") from None
    return request


def read_answer(path: Path) -> EnrolmentAnswer:
    """Read an answer.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no answer, or not of this version.
    """
    try:
        answer = EnrolmentAnswer.model_validate_json(read_text(path))
        certificates = answer.certificate, answer.authority
        owner, authority = (x509.load_pem_x509_certificate(each.encode()) for each in certificates)
        owner.verify_directly_issued_by(authority)
        _signing_key(answer.server_key)
    except (ValueError, TypeError, InvalidSignature):
        raise InputError(f"{path}: expected an answer of: sordino pki approve") from None
    return answer


def write_json(model: BaseModel) -> bytes:
    """A request or an answer as its file has it."""
    return (model.model_dump_json(indent=2) + "\n").encode()


def _check_proofs(request: EnrolmentRequest) -> None:
    shown, proofs, content = request.shown, request.proofs, request.shown.content()
    signing_key, name = _signing_key(shown.signing_key)
    if name != shown.name:
        raise InvalidSignature
    signing_key.verify(_decode(proofs.signing_key), content)
    tls_key = requested_key(shown.certificate_request.encode(), shown.name)
    tls_key.verify(_decode(proofs.certificate_key), content, _TLS_SIGNATURE)
    if (shown.role == "site") != (shown.node_key is not None):
        raise ValueError("a site has a node key, and nobody else has one")
    if shown.node_key is not None:
        node_key = load_ssh_public_key(shown.node_key.encode())
        if not isinstance(node_key, ec.EllipticCurvePublicKey):
            raise ValueError("no EC key")
        node_key.verify(_decode(proofs.node_key or ""), content, _NODE_SIGNATURE)


def _signing_key(line: str) -> tuple[Ed25519PublicKey, str]:
    words = line.split()
    if len(words) != _KEY_WORDS or words[0] != "ed25519":
        raise ValueError("no Ed25519 key")
    return Ed25519PublicKey.from_public_bytes(_decode(words[1])), words[2]


def _short(content: bytes) -> str:
    return spell_fingerprint(hashlib.sha256(content).digest()[:_FINGERPRINT_BYTES])


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
