"""The values in a message's header: to JSON and back, each checked for exactly its type.

Nothing in an error's text repeats what was sent.
"""

import re

from sordino_protocols.errors import InputError, PeerError
from sordino_protocols.heads import SignedHead
from sordino_protocols.job import PURPOSES, SignedJob
from sordino_protocols.messages import OLDEST_WIRE_VERSION, WIRE_VERSION, Refusal

_HEAD_KEYS = {"length", "hash", "signature"}
_SIGNED_JOB_KEYS = {"body", "submitter", "signature", "purpose", "nonce"}
# Names of keys, as `signing.check_name` has them; an unknown one goes to a log, so it is short.
_SENDER = re.compile(r"[a-z0-9._-]{1,64}")
_LARGEST_INTEGER = 2**63


class UnreadableError(PeerError):
    """Bytes from outside that are no message.

    Attributes:
        refusal: what may be answered to whoever sent them.
    """

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.refusal = refusal


class WireVersionError(UnreadableError):
    """A peer speaks a version that this side does not; the text names both."""

    def __init__(self, version: int) -> None:
        ours = f"{OLDEST_WIRE_VERSION} and {WIRE_VERSION}"
        super().__init__(
            Refusal.MALFORMED,
            f"the peer speaks wire version {version}, this side {ours}: upgrade the older of them",
        )


def to_json(value: object) -> object:
    """A field's value as the header has it; `wire` writes vectors itself."""
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


def read_length(raw: object) -> int:
    """How many numbers a vector has."""
    length = read_integer(raw)
    if length < 0:
        raise malformed("a vector's length must not be negative")
    return length


def read_text(raw: object) -> str:
    """ASCII text."""
    if not isinstance(raw, str):
        raise malformed("a field must be text")
    if not raw.isascii():
        # Nothing that we say needs more, and a lone surrogate could not even be written to a log.
        raise malformed("a field must be ASCII")
    return raw


def read_sender(raw: object) -> str:
    """The name of a key."""
    name = read_text(raw)
    if not _SENDER.fullmatch(name):
        raise malformed("a sender must be 1 to 64 of a-z, 0-9, '.', '_' and '-'")
    return name


def read_integer(raw: object) -> int:
    """An integer of 64 bits, and no bool."""
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise malformed("a field must be an integer")
    if not -_LARGEST_INTEGER <= raw < _LARGEST_INTEGER:
        raise malformed("an integer must fit into 64 bits")
    return raw


def read_real(raw: object) -> float:
    """A number that was written as one with a decimal point."""
    if not isinstance(raw, float):
        raise malformed("a field must be a number with a decimal point")
    return raw


def read_boolean(raw: object) -> bool:
    """True or false."""
    if not isinstance(raw, bool):
        raise malformed("a field must be true or false")
    return raw


def read_refusal(raw: object) -> Refusal:
    """One of the enum."""
    try:
        return Refusal(read_text(raw))
    except ValueError:
        raise malformed("unknown refusal") from None


def read_signed_head(raw: object) -> SignedHead:
    """A ledger's head; whether its site signed it is for `heads.verify_head`."""
    if not isinstance(raw, dict) or set(raw) != _HEAD_KEYS:
        raise malformed(f"a ledger's head must have exactly {sorted(_HEAD_KEYS)}")
    try:
        return SignedHead(
            read_integer(raw["length"]), read_text(raw["hash"]), read_text(raw["signature"])
        )
    except InputError as error:
        raise malformed(str(error)) from None


def read_signed_job(raw: object) -> SignedJob:
    """A job; whether its submitter signed it is for `job.verify_job`."""
    if not isinstance(raw, dict) or set(raw) != _SIGNED_JOB_KEYS:
        raise malformed(f"a job must have exactly {sorted(_SIGNED_JOB_KEYS)}")
    try:
        body = read_text(raw["body"]).encode("ascii")
        signature = bytes.fromhex(read_text(raw["signature"]))
    except ValueError:
        raise malformed("a job's body or signature cannot be read") from None
    purpose = PURPOSES.get(read_text(raw["purpose"]))
    if purpose is None:
        raise malformed(f"a job's purpose must be one of {', '.join(PURPOSES)}")
    return SignedJob(
        body, read_sender(raw["submitter"]), signature, purpose, read_text(raw["nonce"])
    )


def malformed(reason: str) -> UnreadableError:
    """The error to raise for a value that is not as it must be."""
    return UnreadableError(Refusal.MALFORMED, reason)
