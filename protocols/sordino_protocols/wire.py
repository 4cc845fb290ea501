"""Messages to signed bytes and back: the one place that checks bytes from outside.

An envelope is `SRDN`, a version byte, the header's length (4 bytes, big-endian), the header
(canonical JSON), the payload and an Ed25519 signature over the header, which holds the payload's
hash. The payload has the message's vectors (float32, or int32 where they count; little-endian), one
behind the other; the header has their lengths. Bytes are trusted in this order and no further:
size, frame, canonical form, sender, signature, payload hash, exact fields, exact types, finiteness.
Whether the sender may say this, now, is decided by whoever receives the message.
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

from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.heads import SignedHead
from sordino_protocols.job import PURPOSES, SignedJob
from sordino_protocols.limits import MAX_VECTOR_LENGTH
from sordino_protocols.messages import (
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

_MAGIC = b"SRDN"
_FRAME = struct.Struct(">4sBI")
_LARGEST_HEADER = 4 * 1024 * 1024
_SIGNED_PREFIX = b"sordino/wire/2\n"
_HEAD_KEYS = {"length", "hash", "signature"}
_SIGNED_JOB_KEYS = {"body", "submitter", "signature", "purpose", "nonce"}
_HEADER_KEYS = {"type", "sender", "fields", "payload"}
# Run ids become names of files.
_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
# Names of keys, as `signing.check_name` has them; an unknown one goes to a log, so it is short.
_SENDER = re.compile(r"[a-z0-9._-]{1,64}")
_LARGEST_INTEGER = 2**63
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


class UnreadableError(PeerError):
    """Bytes from outside that are no message.

    Attributes:
        refusal: what may be answered to whoever sent them.
    """

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Opened:
    """A message whose signature held.

    Attributes:
        sender: who signed it, by the name in the trust store that was used.
        message: valid by construction.
        digest: SHA-256 of the signed header, in hex: two envelopes with one digest say the same.
    """

    sender: str
    message: Message
    digest: str


def seal(message: Message, signer: Signer) -> bytes:
    """Encode and sign a message. The same message and key give the same bytes."""
    vectors: list[bytes] = []
    fields: dict[str, object] = {}
    for name, value in _values(message):
        if isinstance(value, np.ndarray):
            vectors.append(_payload(message, name, value))
            fields[name] = value.size
        else:
            fields[name] = _to_json(value)
    payload = b"".join(vectors)
    header = canonical_json(
        {
            "type": _NAMES[type(message)],
            "sender": signer.name,
            "fields": fields,
            "payload": hashlib.sha256(payload).hexdigest(),
        }
    )
    frame = _FRAME.pack(_MAGIC, WIRE_VERSION, len(header))
    return frame + header + payload + signer.sign(_SIGNED_PREFIX + header)


def open_sealed(envelope: bytes, trust: TrustStore) -> Opened:
    """Check an envelope and read its message.

    Raises:
        UnreadableError: the bytes break the format; nothing in it repeats them.
        AuthenticationError: the sender is not trusted, or did not sign this.
    """
    header, payload, signature = _split(envelope)
    fields_of = _header(header)
    sender = _sender(fields_of["sender"])
    trust.verify(sender, _SIGNED_PREFIX + header, signature)
    if hashlib.sha256(payload).hexdigest() != fields_of["payload"]:
        raise _malformed("the payload is not the one that was signed")
    kind = _TYPES.get(_text(fields_of["type"]))
    if kind is None:
        raise _malformed("unknown message type")
    message = _message(kind, fields_of["fields"], payload)
    return Opened(sender, message, hashlib.sha256(header).hexdigest())


def _split(envelope: bytes) -> tuple[bytes, bytes, bytes]:
    largest = _FRAME.size + _LARGEST_HEADER + MAX_VECTOR_LENGTH * _ITEM_BYTES + SIGNATURE_BYTES
    if not _FRAME.size + SIGNATURE_BYTES <= len(envelope) <= largest:
        raise _malformed("an envelope of this size cannot be")
    magic, version, length = _FRAME.unpack_from(envelope)
    if magic != _MAGIC:
        raise _malformed("not an envelope")
    if version != WIRE_VERSION:
        raise _malformed(f"wire version {version}; this side speaks {WIRE_VERSION}")
    end = _FRAME.size + length
    if length > _LARGEST_HEADER or end > len(envelope) - SIGNATURE_BYTES:
        raise _malformed("the header is longer than the envelope")
    return (
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
        raise _malformed("the header is not JSON") from None
    if not is_canonical or not isinstance(parsed, dict) or set(parsed) != _HEADER_KEYS:
        raise _malformed("the header is not canonical or has other keys")
    return parsed


def _message(kind: type[Message], raw: object, payload: bytes) -> Message:
    readers = _readers(_NAMES[kind])
    if not isinstance(raw, dict) or set(raw) != set(readers):
        raise _malformed(f"{_NAMES[kind]} must have exactly the fields {sorted(readers)}")
    values = {name: read(raw[name]) for name, read in readers.items()}
    lengths = {name: _length(raw[name]) for name in _dtypes(_NAMES[kind])}
    values |= _vectors(_NAMES[kind], lengths, payload)
    run_id = values["run_id"]
    # A site that could not read a request cannot say which run it refuses.
    is_anonymous = kind is Refused and run_id == ""
    if not is_anonymous and not (isinstance(run_id, str) and _RUN_ID.fullmatch(run_id)):
        raise _malformed("run_id must be 1 to 64 of a-z, 0-9 and '-', not beginning with '-'")
    return kind(**values)  # type: ignore[arg-type]  # every value was read by its field's reader


def _values(message: Message) -> list[tuple[str, object]]:
    return [(each.name, getattr(message, each.name)) for each in dataclasses.fields(message)]


def _to_json(value: object) -> object:
    match value:
        case SignedJob(body, submitter, signature, purpose, nonce):
            return {
                "body": body.decode("ascii"),
                "submitter": submitter,
                "purpose": purpose,
                "nonce": nonce,
                "signature": signature.hex(),
            }
        case SignedHead(length, newest, signature):
            return {"length": length, "hash": newest, "signature": signature}
        case Refusal():
            return value.value
        case _:
            return value


@functools.cache
def _readers(name: str) -> Mapping[str, Callable[[object], object]]:
    known: dict[object, Callable[[object], object]] = {
        str: _text,
        int: _integer,
        float: _real,
        bool: _boolean,
        SignedHead: _signed_head,
        SignedJob: _signed_job,
        Refusal: _refusal,
        Refusal | None: lambda raw: None if raw is None else _refusal(raw),
        Vector: _length,
        Integers: _length,
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
        raise _malformed("the payload has not the vectors that the header says")
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


def _length(raw: object) -> int:
    length = _integer(raw)
    if length < 0:
        raise _malformed("a vector's length must not be negative")
    return length


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise _malformed("a field must be text")
    if not raw.isascii():
        # Nothing that we say needs more, and a lone surrogate could not even be written to a log.
        raise _malformed("a field must be ASCII")
    return raw


def _sender(raw: object) -> str:
    name = _text(raw)
    if not _SENDER.fullmatch(name):
        raise _malformed("a sender must be 1 to 64 of a-z, 0-9, '.', '_' and '-'")
    return name


def _integer(raw: object) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise _malformed("a field must be an integer")
    if not -_LARGEST_INTEGER <= raw < _LARGEST_INTEGER:
        raise _malformed("an integer must fit into 64 bits")
    return raw


def _real(raw: object) -> float:
    if not isinstance(raw, float):
        raise _malformed("a field must be a number with a decimal point")
    return raw


def _boolean(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise _malformed("a field must be true or false")
    return raw


def _refusal(raw: object) -> Refusal:
    try:
        return Refusal(_text(raw))
    except ValueError:
        raise _malformed("unknown refusal") from None


def _signed_head(raw: object) -> SignedHead:
    if not isinstance(raw, dict) or set(raw) != _HEAD_KEYS:
        raise _malformed(f"a ledger's head must have exactly {sorted(_HEAD_KEYS)}")
    try:
        return SignedHead(_integer(raw["length"]), _text(raw["hash"]), _text(raw["signature"]))
    except InputError as error:
        raise _malformed(str(error)) from None


def _signed_job(raw: object) -> SignedJob:
    if not isinstance(raw, dict) or set(raw) != _SIGNED_JOB_KEYS:
        raise _malformed(f"a job must have exactly {sorted(_SIGNED_JOB_KEYS)}")
    try:
        body = _text(raw["body"]).encode("ascii")
        signature = bytes.fromhex(_text(raw["signature"]))
    except ValueError:
        raise _malformed("a job's body or signature cannot be read") from None
    purpose = PURPOSES.get(_text(raw["purpose"]))
    if purpose is None:
        raise _malformed(f"a job's purpose must be one of {', '.join(PURPOSES)}")
    return SignedJob(body, _sender(raw["submitter"]), signature, purpose, _text(raw["nonce"]))


def _malformed(reason: str) -> UnreadableError:
    return UnreadableError(Refusal.MALFORMED, reason)
