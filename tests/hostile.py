"""What a hostile server, a hostile submitter or a stranger may send to a site.

A `Draft` is a message before anybody signed it, as JSON; `mutate` changes one, in ways that get
past the checks in front: whoever the draft says signs it again, and the submitter signs its job.
All choices come from a `random.Random`, so that hypothesis and a fuzzer can both make them.
"""

import copy
import dataclasses
import hashlib
import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from sordino_protocols import wire
from sordino_protocols.job import _signed_bytes
from sordino_protocols.messages import WIRE_VERSION, Message
from sordino_protocols.signing import SIGNATURE_BYTES, Signer, canonical_json
from sordino_protocols.wire import seal

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Path = tuple[str | int, ...]

_NESTED: Sequence[Json] = [[], {}, [[]], {"": None}, ["heart", "heart"], [1, 2, 3]]
RUNS = tuple(f"run-{number}" for number in range(1, 9))
ODD: Sequence[Json] = [
    *(None, True, False, 0, -1, 1, 2, 3, 2**31, 2**53, 2**63, -(2**63), 10**40),
    *(0.0, -0.0, 0.5, 1.0, -1.0, 5e-324, 1e-9, 1e9, 1e308, math.nan, math.inf, -math.inf),
    *("", "a", "run-1", "../../etc/passwd", "\x00", "\n", "é", "\ud800", "a" * 70, "0" * 64),
    *("train", "validate", "price", "record", "entity", "mlp", "heart", "NaN", "1e999"),
    *_NESTED,
]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before it is signed.

    Attributes:
        kind: what `wire` calls its type.
        fields: its fields, as the header has them.
        payload: its vectors.
        sender: whom the header names.
        signed_by: whose key signs it: "server", "scientist", or "nobody" for zeros.
        job_signed_by: whose key signs the job in it anew; "" leaves the job's signature alone.
        version: of the wire.
        flips: bits of the signed envelope that are turned round on the way, modulo its length.
    """

    kind: str
    fields: dict[str, Json]
    payload: bytes = b""
    sender: str = "server"
    signed_by: str = "server"
    job_signed_by: str = ""
    version: int = WIRE_VERSION
    flips: tuple[int, ...] = ()

    def to_bytes(self) -> bytes:
        """What a fuzzer keeps."""
        return json.dumps(dataclasses.asdict(self) | {"payload": self.payload.hex()}).encode()


def read_draft(raw: bytes) -> Draft | None:
    """A draft that a fuzzer kept; None if the bytes are something else."""
    try:
        facts = json.loads(raw)
        facts |= {"payload": bytes.fromhex(facts["payload"]), "flips": tuple(facts["flips"])}
        draft = Draft(**facts)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return draft if isinstance(draft.fields, dict) else None


def draft_of(message: Message, signer: Signer) -> Draft:
    """The draft of a message that a signer could have sent."""
    _, header, payload, _ = wire._split(seal(message, signer))
    facts = json.loads(header)
    return Draft(facts["type"], facts["fields"], payload, sender=signer.name)


def sign_draft(draft: Draft, signers: dict[str, Signer]) -> bytes:
    """The envelope that a draft becomes. Whatever is wrong in the draft is wrong in that."""
    fields = copy.deepcopy(draft.fields)
    if draft.job_signed_by:
        _sign_job(fields, signers[draft.job_signed_by])
    header = _spell(
        {
            "type": draft.kind,
            "sender": draft.sender,
            "fields": fields,
            "payload": hashlib.sha256(draft.payload).hexdigest(),
        }
    )
    signer = signers.get(draft.signed_by)
    signed = wire.signed_bytes(header, draft.version % 256)
    signature = bytes(SIGNATURE_BYTES) if signer is None else signer.sign(signed)
    frame = wire._FRAME.pack(wire._MAGIC, draft.version % 256, len(header))
    envelope = bytearray(frame + header + draft.payload + signature)
    for flip in draft.flips:
        place = flip % (8 * len(envelope))
        envelope[place // 8] ^= 1 << place % 8
    return bytes(envelope)


def mutate(draft: Draft, rng: Random) -> Draft:
    """A draft with one thing changed."""
    return rng.choice(_MUTATIONS)(draft, rng)


def _sign_job(fields: dict[str, Json], signer: Signer) -> None:
    job = fields.get("job")
    if not isinstance(job, dict):
        return
    parts = [job.get(name) for name in ("body", "purpose", "nonce")]
    if all(isinstance(part, str) and part.isascii() for part in parts):
        body, purpose, nonce = map(str, parts)
        signed = _signed_bytes(body.encode("ascii"), purpose, nonce)  # type: ignore[arg-type]  # a hostile purpose is any text
        job |= {"signature": signer.sign(signed).hex(), "submitter": signer.name}


def _spell(value: Json) -> bytes:
    """Canonical if it can be; else as near as JSON comes."""
    try:
        return canonical_json(value)
    except (ValueError, TypeError):
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _change_field(draft: Draft, rng: Random) -> Draft:
    changed = change_somewhere(draft.fields, rng)
    return dataclasses.replace(draft, fields=changed) if isinstance(changed, dict) else draft


def _change_keys(draft: Draft, rng: Random) -> Draft:
    fields = dict(draft.fields)
    if fields and rng.random() < 0.5:
        del fields[rng.choice(sorted(fields))]
    else:
        fields[rng.choice(["extra", "", "round", "job", "weights"])] = rng.choice(ODD)
    return dataclasses.replace(draft, fields=fields)


def _change_run(draft: Draft, rng: Random) -> Draft:
    name = rng.choice([*RUNS, "", "RUN", "../run-1", "-run", "a" * 65, "con"])
    return dataclasses.replace(draft, fields={**draft.fields, "run_id": name})


def _change_round(draft: Draft, rng: Random) -> Draft:
    number = rng.choice([-1, 0, 1, 2, 3, 4, 2**31, 2**62])
    return dataclasses.replace(draft, fields={**draft.fields, "round": number})


def _change_type(draft: Draft, rng: Random) -> Draft:
    return dataclasses.replace(draft, kind=rng.choice([*wire._TYPES, "", "Admit", "reserve"]))


def _change_payload(draft: Draft, rng: Random) -> Draft:
    payload = bytearray(draft.payload)
    odd = rng.choice([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, 3e38, -3e38, 1.0])
    match rng.randrange(4):
        case 0:
            del payload[rng.randrange(len(payload) + 1) :]
        case 1:
            payload += struct.pack("<f", odd)
        case 2 if payload:
            place = rng.randrange(len(payload)) // 4 * 4
            payload[place : place + 4] = struct.pack("<f", odd)
        case _:
            payload = bytearray(struct.pack("<f", odd) * (len(payload) // 4))
    return dataclasses.replace(draft, payload=bytes(payload))


def _change_job(draft: Draft, rng: Random) -> Draft:
    """The submitter signs another job: what a hostile scientist can do."""
    job = draft.fields.get("job")
    try:
        facts: Json = json.loads(str(job["body"]) if isinstance(job, dict) else "")
    except (ValueError, KeyError, RecursionError):
        return draft
    return _with_job(draft, {"body": _spell(change_somewhere(facts, rng)).decode("ascii")})


def _change_nonce(draft: Draft, rng: Random) -> Draft:
    """A fresh signature over the same job, good for another run."""
    return _with_job(
        draft, {"nonce": rng.randbytes(16).hex() if rng.random() < 0.9 else rng.choice(ODD)}
    )


def _with_job(draft: Draft, changes: dict[str, Json]) -> Draft:
    """The draft with another job, which the submitter signs."""
    job = draft.fields.get("job")
    if not isinstance(job, dict):
        return draft
    fields: dict[str, Json] = {**draft.fields, "job": {**job, **changes}}
    return dataclasses.replace(draft, fields=fields, job_signed_by="scientist")


def _change_signers(draft: Draft, rng: Random) -> Draft:
    names = ("server", "scientist", "nobody")
    return dataclasses.replace(
        draft,
        sender=rng.choice([*names, "cleveland", "", "é"]),
        signed_by=rng.choice(names),
        job_signed_by=rng.choice(["", "server", "scientist"]),
    )


def _change_bits(draft: Draft, rng: Random) -> Draft:
    return dataclasses.replace(draft, flips=(*draft.flips, rng.randrange(2**20))[-3:])


def _change_version(draft: Draft, rng: Random) -> Draft:
    return dataclasses.replace(draft, version=rng.randrange(256))


# What gets past the checks in front is tried more often than what does not.
_MUTATIONS: Sequence[Callable[[Draft, Random], Draft]] = (
    *(_change_run, _change_round, _change_job, _change_nonce) * 3,
    *(_change_field, _change_payload) * 2,
    *(_change_keys, _change_type, _change_signers, _change_bits, _change_version),
)


def change_somewhere(value: Json, rng: Random) -> Json:
    """A copy of a JSON value with one thing in it changed, which may be all of it."""
    changed = copy.deepcopy(value)
    paths = list(_paths(changed))
    path = rng.choice(paths[1:] or paths)
    if not path:
        return rng.choice(ODD)
    place = changed
    for step in path[:-1]:
        place = place[step]  # type: ignore[index]  # the path came from this value
    _change_at(place, path[-1], rng)
    return changed


def _change_at(place: Json, step: str | int, rng: Random) -> None:
    if isinstance(place, dict) and isinstance(step, str):
        if rng.random() < 0.1:
            del place[step]
        else:
            place[step] = _other(place[step], rng)
    elif isinstance(place, list) and isinstance(step, int):
        place[step] = _other(place[step], rng)


def _other(value: Json, rng: Random) -> Json:
    """Something else; of the same type half of the time, so that it is looked at further."""
    if rng.random() < 0.5 or value is None or isinstance(value, bool):
        return copy.deepcopy(rng.choice(ODD))
    match value:
        case int():
            return rng.choice([value + 1, value - 1, -value, value * 2, value * 1000, 0, 1])
        case float():
            return rng.choice([value / 2, value * 2, value * 1e6, value * 1e-6, -value, 1.0])
        case str():
            cut = rng.randrange(len(value) + 1)
            return value[:cut] + rng.choice(["", "0", "a", "\x7f", "é", '"']) + value[cut + 1 :]
        case _:
            return copy.deepcopy(rng.choice(ODD))


def _paths(value: Json, above: Path = ()) -> list[Path]:
    """The place of everything in a value, its own first."""
    if isinstance(value, dict):
        below: list[tuple[str | int, Json]] = list(value.items())
    elif isinstance(value, list):
        below = list(enumerate(value))
    else:
        below = []
    return [above, *(path for step, each in below for path in _paths(each, (*above, step)))]
