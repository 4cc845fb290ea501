"""Messages to signed bytes and back: the one place that checks bytes from outside.

An envelope is `SRDN`, a version byte, the header's length (4 bytes, big-endian), the header
(canonical JSON), the payload and an Ed25519 signature over the header, which holds the payload's
hash. The payload has the message's vectors (float32, or int32 where they count; little-endian), one
behind the other; the header has their lengths. Bytes are trusted in this order and no further:
size, frame, canonical form, sender, signature, payload hash, exact fields, exact types, finiteness.
Whether the sender may say this, now, is decided by whoever receives the message.

Two versions are spoken, this one and the one before: an answer is sealed in the version of the
question. A signature is of one version, and a header is the same in both where no field was added,
so that a run goes on when a server or a site is upgraded under way.
"""

import dataclasses
import functools
import hashlib
import json
import re
import struct
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.heads import SignedHead
from sordino_protocols.job import SignedJob
from sordino_protocols.limits import MAX_VECTOR_LENGTH
from sordino_protocols.messages import (
    OLDEST_WIRE_VERSION,
    WIRE_VERSION,
    Admission,
    Admit,
    Describe,
    Described,
    Evaluate,
    Evaluation,
    Inquire,
    Integers,
    Measure,
    Message,
    Quote,
    Recall,
    Recalled,
    Receipt,
    Refusal,
    Refused,
    RoundPlan,
    Settle,
    Statistics,
    Tabulate,
    Tabulated,
    Unmask,
    Unmasked,
    Update,
    Vector,
)
from sordino_protocols.signing import SIGNATURE_BYTES, Signer, TrustStore, canonical_json
from sordino_protocols.wire_values import (
    UnreadableError,
    WireVersionError,
    malformed,
    read_boolean,
    read_integer,
    read_length,
    read_real,
    read_refusal,
    read_sender,
    read_signed_head,
    read_signed_job,
    read_text,
    to_json,
)

_MAGIC = b"SRDN"
_FRAME = struct.Struct(">4sBI")
_LARGEST_HEADER = 4 * 1024 * 1024
_HEADER_KEYS = {"type", "sender", "fields", "payload"}
# Run ids become names of files.
_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_REALS: np.dtype[np.float32] = np.dtype("<f4")
_WHOLES: np.dtype[np.int32] = np.dtype("<i4")
_Dtype = np.dtype[np.float32] | np.dtype[np.int32]
_ITEM_BYTES = _REALS.itemsize

_TYPES: Mapping[str, type[Message]] = {
    "recall": Recall,
    "describe": Describe,
    "inquire": Inquire,
    "admit": Admit,
    "measure": Measure,
    "round_plan": RoundPlan,
    "evaluate": Evaluate,
    "tabulate": Tabulate,
    "unmask": Unmask,
    "settle": Settle,
    "recalled": Recalled,
    "described": Described,
    "quote": Quote,
    "admission": Admission,
    "statistics": Statistics,
    "update": Update,
    "evaluation": Evaluation,
    "tabulated": Tabulated,
    "unmasked": Unmasked,
    "receipt": Receipt,
    "refused": Refused,
}
_NAMES: Mapping[type[Message], str] = {kind: name for name, kind in _TYPES.items()}
# Fields that came with a version. An older peer neither sends nor gets them, and each has a default
# that says just that.
_SINCE: Mapping[tuple[str, str], int] = {
    (message, field): 3
    for message in ("recall", "recalled", "receipt")
    for field in ("audit_length", "audit_head")
}
# Words that came with a version, and what an older peer is told instead.
_NEWER_REFUSALS: Mapping[Refusal, tuple[int, Refusal]] = {
    Refusal.UNAVAILABLE: (3, Refusal.INTERNAL)
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A message whose signature held.

    Attributes:
        sender: who signed it, by the name in the trust store that was used.
        message: valid by construction.
        digest: SHA-256 of the signed header, in hex: two envelopes with one digest say the same.
        version: of the wire, in which its sender wants to be answered.
    """

    sender: str
    message: Message
    digest: str
    version: int


def seal(message: Message, signer: Signer, *, version: int = WIRE_VERSION) -> bytes:
    """Encode and sign a message. The same message, key and version give the same bytes.

    Args:
        message: what to say.
        signer: who says it.
        version: of the wire; what an older one has no field for is left out.
    """
    vectors: list[bytes] = []
    fields: dict[str, object] = {}
    for name, value in _values(message, version):
        if isinstance(value, np.ndarray):
            vectors.append(_payload(message, name, value))
            fields[name] = value.size
        else:
            fields[name] = to_json(value)
    payload = b"".join(vectors)
    header = canonical_json(
        {
            "type": _NAMES[type(message)],
            "sender": signer.name,
            "fields": fields,
            "payload": hashlib.sha256(payload).hexdigest(),
        }
    )
    frame = _FRAME.pack(_MAGIC, version, len(header))
    return frame + header + payload + signer.sign(signed_bytes(header, version))


def open_sealed(envelope: bytes, trust: TrustStore) -> Opened:
    """Check an envelope and read its message.

    Raises:
        UnreadableError: the bytes break the format; nothing in it repeats them. A
            `WireVersionError` if they are of a version that this side does not speak.
        AuthenticationError: the sender is not trusted, or did not sign this.
    """
    version, header, payload, signature = _split(envelope)
    fields_of = _header(header)
    sender = read_sender(fields_of["sender"])
    trust.verify(sender, signed_bytes(header, version), signature)
    if hashlib.sha256(payload).hexdigest() != fields_of["payload"]:
        raise malformed("the payload is not the one that was signed")
    kind = _TYPES.get(read_text(fields_of["type"]))
    if kind is None:
        raise malformed("unknown message type")
    message = _message(kind, fields_of["fields"], payload, version)
    return Opened(sender, message, hashlib.sha256(header).hexdigest(), version)


def version_for_answer(envelope: bytes) -> int:
    """The version to answer in: the envelope's, else the nearest to it that this side speaks.

    Believes the byte that says so: whoever turns it round gets an answer that it cannot read.
    """
    asked = envelope[len(_MAGIC)] if len(envelope) > len(_MAGIC) else WIRE_VERSION
    return min(max(asked, OLDEST_WIRE_VERSION), WIRE_VERSION)


def signed_bytes(header: bytes, version: int) -> bytes:
    """What a sender signs of an envelope."""
    return b"sordino/wire/%d\n" % version + header


def _split(envelope: bytes) -> tuple[int, bytes, bytes, bytes]:
    largest = _FRAME.size + _LARGEST_HEADER + MAX_VECTOR_LENGTH * _ITEM_BYTES + SIGNATURE_BYTES
    if not _FRAME.size + SIGNATURE_BYTES <= len(envelope) <= largest:
        raise malformed("an envelope of this size cannot be")
    magic, version, length = _FRAME.unpack_from(envelope)
    if magic != _MAGIC:
        raise malformed("not an envelope")
    if not OLDEST_WIRE_VERSION <= version <= WIRE_VERSION:
        raise WireVersionError(version)
    end = _FRAME.size + length
    if length > _LARGEST_HEADER or end > len(envelope) - SIGNATURE_BYTES:
        raise malformed("the header is longer than the envelope")
    return (
        version,
        envelope[_FRAME.size : end],
        envelope[end:-SIGNATURE_BYTES],
        envelope[-SIGNATURE_BYTES:],
    )


def _header(header: bytes) -> dict[str, object]:
    try:
        parsed = json.loads(header)
        # One spelling only: no duplicate keys, no NaN, no second header with the same meaning.
        is_canonical = canonical_json(parsed) == header
    except (ValueError, TypeError, RecursionError):
        raise malformed("the header is not JSON") from None
    if not is_canonical or not isinstance(parsed, dict) or set(parsed) != _HEADER_KEYS:
        raise malformed("the header is not canonical or has other keys")
    return parsed


def _message(kind: type[Message], raw: object, payload: bytes, version: int) -> Message:
    readers = {
        name: read
        for name, read in _readers(_NAMES[kind]).items()
        if _is_known(_NAMES[kind], name, version)
    }
    if not isinstance(raw, dict) or set(raw) != set(readers):
        raise malformed(f"{_NAMES[kind]} must have exactly the fields {sorted(readers)}")
    values = {name: read(raw[name]) for name, read in readers.items()}
    lengths = {name: read_length(raw[name]) for name in _dtypes(_NAMES[kind])}
    values |= _vectors(_NAMES[kind], lengths, payload)
    run_id = values["run_id"]
    # A site that could not read a request cannot say which run it refuses.
    is_anonymous = kind is Refused and run_id == ""
    if not is_anonymous and not (isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)):
        raise malformed("run_id must be 1 to 64 of a-z, 0-9 and '-', not beginning with '-'")
    return kind(**values)  # type: ignore[arg-type]  # every value was read by its field's reader


def _values(message: Message, version: int) -> list[tuple[str, object]]:
    names = [each.name for each in dataclasses.fields(message)]
    kind = _NAMES[type(message)]
    return [
        (name, _in_words_of(version, getattr(message, name)))
        for name in names
        if _is_known(kind, name, version)
    ]


def _in_words_of(version: int, value: object) -> object:
    """An enum that an older peer does not know, by what it would have been told instead."""
    if not isinstance(value, Refusal):
        return value
    since, instead = _NEWER_REFUSALS.get(value, (OLDEST_WIRE_VERSION, value))
    return value if since <= version else instead


def _is_known(kind: str, field: str, version: int) -> bool:
    return _SINCE.get((kind, field), OLDEST_WIRE_VERSION) <= version


@functools.cache
def _readers(name: str) -> Mapping[str, Callable[[object], object]]:
    known: dict[object, Callable[[object], object]] = {
        str: read_text,
        int: read_integer,
        float: read_real,
        bool: read_boolean,
        SignedHead: read_signed_head,
        SignedJob: read_signed_job,
        Refusal: read_refusal,
        Refusal | None: lambda raw: None if raw is None else read_refusal(raw),
        Vector: read_length,
        Integers: read_length,
    }
    kind = _TYPES[name]
    hints = typing.get_type_hints(kind)
    return {each.name: known[hints[each.name]] for each in dataclasses.fields(kind)}


@functools.cache
def _dtypes(name: str) -> Mapping[str, _Dtype]:
    """What a message's vectors are made of, by field, in order."""
    known: dict[object, _Dtype] = {Vector: _REALS, Integers: _WHOLES}
    kind = _TYPES[name]
    hints = typing.get_type_hints(kind)
    fields = {each.name: hints[each.name] for each in dataclasses.fields(kind)}
    return {each: known[hint] for each, hint in fields.items() if hint in known}


def _payload(message: Message, name: str, value: "npt.NDArray[np.generic]") -> bytes:
    dtype = _dtypes(_NAMES[type(message)])[name]
    # Numbers may be rounded to 32 bits; what counts must come as 32 bits, for it would be cut off.
    casting: typing.Literal["same_kind", "safe"] = "same_kind" if dtype is _REALS else "safe"
    return value.astype(dtype, casting=casting, copy=False).tobytes()


def _vectors(name: str, lengths: Mapping[str, int], payload: bytes) -> dict[str, Vector | Integers]:
    """The payload's vectors, in the order of the message's fields."""
    if sum(lengths.values()) * _ITEM_BYTES != len(payload):
        raise malformed("the payload has not the vectors that the header says")
    vectors: dict[str, Vector | Integers] = {}
    start = 0
    for field, length in lengths.items():
        if _dtypes(name)[field] is _WHOLES:
            vectors[field] = np.frombuffer(payload, _WHOLES, count=length, offset=start)
        else:
            reals = np.frombuffer(payload, _REALS, count=length, offset=start)
            if not np.isfinite(reals).all():
                raise UnreadableError(Refusal.NOT_FINITE, "a vector has values that are not finite")
            vectors[field] = reals
        start += length * _ITEM_BYTES
    return vectors
