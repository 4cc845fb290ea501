import dataclasses
import hashlib
import json
import struct
import typing
from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sordino_protocols.errors import AuthenticationError, PeerError
from sordino_protocols.heads import GENESIS, SignedHead
from sordino_protocols.job import SignedJob
from sordino_protocols.messages import (
    Admit,
    Integers,
    Message,
    Quote,
    Refusal,
    Refused,
    RoundPlan,
    Settle,
    Tabulated,
    Update,
    Vector,
)
from sordino_protocols.signing import Signer, TrustStore, canonical_json
from sordino_protocols.wire import open_sealed, seal
from sordino_protocols.wire_values import UnreadableError

FRAME = struct.Struct(">4sBI")
SIGNER = Signer("server", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = Signer("cleveland", Ed25519PrivateKey.generate())
TRUST = TrustStore(
    {each.name: each.key.public_key() for each in (SIGNER, OTHER)},
)
PLAN = RoundPlan(
    "run-1",
    "ab" * 32,
    3,
    np.array([0.5, -1.25, 3e38], dtype=np.float32),
    scaling=np.array([0.25, 2.0], dtype=np.float32),
)
QUOTE = Quote("run-1", None, False, "policy.toml: datasets.heart", 1.5, 2.5, 0.0, 3, 0.5)  # noqa: FBT003

run_ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True)
names = st.from_regex(r"[a-z0-9._-]{1,64}", fullmatch=True)
ascii_text = st.text(st.characters(max_codepoint=127), max_size=20)
vectors = hnp.arrays(
    np.float32,
    st.integers(0, 20),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)
integers = hnp.arrays(np.int32, st.integers(0, 20))
by_type: dict[object, st.SearchStrategy[object]] = {
    str: ascii_text,
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    SignedHead: st.builds(
        SignedHead,
        st.integers(1, 2**53 - 1),
        st.from_regex(r"[0-9a-f]{63}1", fullmatch=True),
        st.from_regex(r"[0-9a-f]{128}", fullmatch=True),
    ),
    SignedJob: st.builds(
        SignedJob,
        ascii_text.map(str.encode),
        names,
        st.binary(max_size=80),
        st.sampled_from(["train", "price"]),
        ascii_text,
    ),
    Refusal: st.sampled_from(Refusal),
    Refusal | None: st.none() | st.sampled_from(Refusal),
    Vector: vectors,
    Integers: integers,
}
KINDS: tuple[type[Message], ...] = typing.get_args(Message)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.sampled_from(KINDS))
    hints = typing.get_type_hints(kind)
    values = {
        each.name: draw(run_ids if each.name == "run_id" else by_type[hints[each.name]])
        for each in dataclasses.fields(kind)
    }
    return kind(**values)  # type: ignore[arg-type]  # each value is of its field's type


def values_of(message: Message) -> list[object]:
    values = [getattr(message, each.name) for each in dataclasses.fields(message)]
    return [each.tobytes() if isinstance(each, np.ndarray) else each for each in values]


def parts(envelope: bytes) -> tuple[bytes, bytes]:
    _, _, length = FRAME.unpack_from(envelope)
    return envelope[FRAME.size : FRAME.size + length], envelope[FRAME.size + length : -64]


def resealed(header: bytes, payload: bytes = b"", *, signer: Signer = SIGNER) -> bytes:
    """An envelope as an insider with the key could make it, whatever the header says."""
    signature = signer.sign(b"sordino/wire/3\n" + header)
    return FRAME.pack(b"SRDN", 3, len(header)) + header + payload + signature


def changed(change: Callable[[dict[str, object]], object], *, of: Message = QUOTE) -> bytes:
    """An envelope of a message whose fields were changed before it was signed."""
    header, payload = parts(seal(of, SIGNER))
    raw = json.loads(header)
    change(raw["fields"])
    return resealed(canonical_json(raw), payload)


def refusal_of(envelope: bytes) -> Refusal:
    with pytest.raises(UnreadableError) as caught:
        open_sealed(envelope, TRUST)
    assert caught.value.__cause__ is None
    return caught.value.refusal


# --- what is sealed is what is opened -----------------------------------------------------------


def test_counts_arrive_to_the_last_bit_and_larger_ones_are_not_cut_off() -> None:
    head = SignedHead(1, "1" * 64, "2" * 128)
    extremes = np.array([-(2**31), -1, 2**24 + 1, 2**31 - 1], dtype=np.int32)
    message = open_sealed(seal(Tabulated("run-1", "ab", head, extremes), SIGNER), TRUST).message
    assert isinstance(message, Tabulated)
    assert message.numbers.dtype == np.int32
    assert message.numbers.tolist() == extremes.tolist()
    wider = Tabulated("run-1", "ab", head, extremes.astype(np.int64))
    with pytest.raises(TypeError, match="int64"):
        seal(wider, SIGNER)


@settings(max_examples=300, deadline=None)
@given(messages())
def test_every_message_arrives_as_it_was_sent(message: Message) -> None:
    opened = open_sealed(seal(message, SIGNER), TRUST)
    assert type(opened.message) is type(message)
    # By repr, so that -0.0 is not taken for 0.0.
    assert repr(values_of(opened.message)) == repr(values_of(message))
    assert opened.sender == SIGNER.name


@given(messages())
def test_the_same_message_has_the_same_bytes_and_another_another_digest(message: Message) -> None:
    assert seal(message, SIGNER) == seal(message, SIGNER)
    digest = open_sealed(seal(message, SIGNER), TRUST).digest
    assert digest != open_sealed(seal(message, OTHER), TRUST).digest
    assert digest != open_sealed(seal(Settle("zzz", "other"), SIGNER), TRUST).digest


def test_every_kind_of_message_is_generated() -> None:
    assert len(KINDS) == 21
    assert all(set(typing.get_type_hints(kind).values()) <= set(by_type) for kind in KINDS)


def test_weights_make_a_difference_to_the_digest() -> None:
    other = dataclasses.replace(PLAN, weights=np.array([0.5, -1.25, 3.1e38], dtype=np.float32))
    digests = {open_sealed(seal(plan, SIGNER), TRUST).digest for plan in (PLAN, other)}
    assert len(digests) == 2


# --- bytes that nobody meant --------------------------------------------------------------------


def test_a_message_cut_short_anywhere_is_refused() -> None:
    envelope = seal(PLAN, SIGNER)
    for length in range(len(envelope)):
        with pytest.raises((UnreadableError, AuthenticationError)):
            open_sealed(envelope[:length], TRUST)


def test_a_message_with_something_behind_it_is_refused() -> None:
    for surplus in (b"\x00", bytes(4), bytes(64)):
        with pytest.raises((UnreadableError, AuthenticationError)):
            open_sealed(seal(PLAN, SIGNER) + surplus, TRUST)


def test_a_bit_flipped_anywhere_is_found() -> None:
    envelope = seal(PLAN, SIGNER)
    for position in range(8 * len(envelope)):
        flipped = bytearray(envelope)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises((UnreadableError, AuthenticationError)):
            open_sealed(bytes(flipped), TRUST)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_refused(noise: bytes) -> None:
    length = max(0, len(noise) - 64)
    framed = [FRAME.pack(b"SRDN", version, length) + noise for version in (2, 3)]
    for envelope in (noise, *framed):
        with pytest.raises(PeerError if len(envelope) else UnreadableError):
            open_sealed(envelope, TRUST)


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 4 * 1024 * 1024 + 1, 500])
def test_a_header_longer_than_the_envelope_is_refused(length: int) -> None:
    envelope = FRAME.pack(b"SRDN", 3, length) + bytes(100)
    assert refusal_of(envelope) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 4_000_000,
        b"[" * 2_000_000 + b"]" * 2_000_000,
        b'{"a":' * 700_000 + b"1" + b"}" * 700_000,
        b"9" * 4_000_000,
        b'"' + b"a" * 4_000_000,
    ],
    ids=["open", "nested", "objects", "digits", "text"],
)
def test_a_header_made_to_hurt_the_parser_is_refused(header: bytes) -> None:
    assert refusal_of(resealed(header)) is Refusal.MALFORMED


# --- headers that a person with the key could make ----------------------------------------------


@pytest.mark.parametrize(
    "spell",
    [
        lambda raw: json.dumps(raw).encode(),
        lambda raw: canonical_json(raw) + b" ",
        lambda raw: canonical_json(raw).decode().encode("utf-16"),
        lambda raw: b"\xef\xbb\xbf" + canonical_json(raw),
        lambda raw: canonical_json(raw).replace(b'"type":', b'"type":"quote","type":'),
        lambda raw: canonical_json(raw).replace(b"1.5", b"1.50"),
        lambda raw: canonical_json(raw).replace(b"1.5", b"NaN"),
        lambda raw: canonical_json(raw).replace(b"1.5", b"Infinity"),
        lambda raw: canonical_json(raw).replace(b"1.5", b"1e999"),
        lambda raw: canonical_json(raw).replace(b'"run-1"', rb'"\u0072un-1"'),
        lambda raw: canonical_json(raw | {"surplus": 1}),
        lambda raw: canonical_json({k: v for k, v in raw.items() if k != "payload"}),
        lambda raw: canonical_json([raw]),
        lambda raw: canonical_json(raw | {"type": "shell"}),
        lambda raw: canonical_json(raw | {"type": None}),
        lambda raw: canonical_json(raw | {"fields": [1]}),
        lambda raw: canonical_json(raw | {"payload": None}),
        lambda raw: canonical_json(raw | {"sender": 1}),
        lambda raw: canonical_json(raw | {"sender": ""}),
        lambda raw: canonical_json(raw | {"sender": "a" * 65}),
        lambda raw: canonical_json(raw | {"sender": "server\n"}),
        lambda raw: canonical_json(raw | {"sender": "../server"}),
        lambda _: b"",
        lambda _: b"null",
        lambda _: b"\xff",
    ],
)
def test_a_header_in_another_spelling_or_form_is_refused(
    spell: Callable[[dict[str, object]], bytes],
) -> None:
    header, _ = parts(seal(QUOTE, SIGNER))
    assert refusal_of(resealed(spell(json.loads(header)))) is Refusal.MALFORMED


@pytest.mark.parametrize("field", [each.name for each in dataclasses.fields(QUOTE)])
def test_exactly_the_fields_of_a_message_are_read(field: str) -> None:
    assert refusal_of(changed(lambda fields: fields.pop(field))) is Refusal.MALFORMED
    assert refusal_of(changed(lambda fields: fields.update({f"{field}2": 1}))) is Refusal.MALFORMED


WRONG: dict[str, tuple[object, ...]] = {
    "run_id": (None, 1, ["run-1"], "", "Run", "run/1", "../run", "-run", "a" * 65, "run\n", "é"),
    "refusal": ("", "unheard_of", 1, False, {}),
    "rule": (None, 1, [], "ü", "\ud800"),
    "epsilon_pld": (None, "1.5", 1, True, [1.5]),
    "budget_left": (None, 10**400),
}


@pytest.mark.parametrize(("field", "value"), [(k, v) for k, vs in WRONG.items() for v in vs])
def test_a_field_of_another_type_is_refused(field: str, value: object) -> None:
    envelope = changed(lambda fields: fields.update({field: value}))
    assert refusal_of(envelope) is Refusal.MALFORMED


@pytest.mark.parametrize("value", [None, "3", 3.0, True, 2**63, -(2**63) - 1, 10**4000])
def test_an_integer_is_one_of_64_bits(value: object) -> None:
    envelope = changed(lambda fields: fields.update({"round": value}), of=PLAN)
    assert refusal_of(envelope) is Refusal.MALFORMED


JOB: dict[str, object] = {
    "body": "{}",
    "submitter": "scientist",
    "signature": "00",
    "purpose": "train",
    "nonce": "0" * 32,
}


@pytest.mark.parametrize(
    "job",
    [
        None,
        "job",
        {},
        JOB | {"surplus": ""},
        JOB | {"body": 1},
        JOB | {"body": "é"},
        JOB | {"signature": "0"},
        JOB | {"signature": "zz"},
        JOB | {"submitter": None},
        JOB | {"submitter": "a" * 65},
        JOB | {"submitter": "x\ny"},
        JOB | {"purpose": "audit"},
        JOB | {"purpose": None},
        JOB | {"nonce": 7},
    ],
)
def test_a_job_that_cannot_be_read_is_refused(job: object) -> None:
    admit = Admit("run-1", SignedJob(b"{}", "scientist", b"\x00", "train", "0" * 32))
    envelope = changed(lambda fields: fields.update({"job": job}), of=admit)
    assert refusal_of(envelope) is Refusal.MALFORMED


def test_the_changes_above_start_from_messages_that_can_be_read() -> None:
    admit = Admit("run-1", SignedJob(b"{}", "scientist", b"\x00", "train", "0" * 32))
    for message in (QUOTE, PLAN, admit):
        envelope = changed(lambda _: None, of=message)
        assert envelope == seal(message, SIGNER)
        assert open_sealed(envelope, TRUST).sender == "server"


@pytest.mark.parametrize("run_id", ["Run", "../run", "run/1", "\n", " "])
def test_even_a_refusal_names_no_path(run_id: str) -> None:
    # A server makes names of files from what sites say.
    envelope = seal(Refused(run_id, Refusal.INTERNAL), SIGNER)
    assert refusal_of(envelope) is Refusal.MALFORMED
    anonymous = open_sealed(seal(Refused("", Refusal.INTERNAL), SIGNER), TRUST)
    assert anonymous.message == Refused("", Refusal.INTERNAL)
    assert refusal_of(seal(Settle("", "ab"), SIGNER)) is Refusal.MALFORMED


# --- payloads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("name", ["weights", "scaling"])
def test_a_vector_that_is_not_finite_is_refused(value: float, position: int, name: str) -> None:
    vector = np.zeros(3, dtype=np.float32)
    vector[position] = value
    plan = (
        dataclasses.replace(PLAN, weights=vector)
        if name == "weights"
        else dataclasses.replace(PLAN, scaling=vector)
    )
    assert refusal_of(seal(plan, SIGNER)) is Refusal.NOT_FINITE


@pytest.mark.parametrize(
    ("weights", "scaling"), [(2, 2), (4, 2), (5, -1), (-1, 5), (5, None), ("3", 2), (3.0, 2)]
)
def test_lengths_that_are_not_the_payloads_are_refused(weights: object, scaling: object) -> None:
    lengths = {"weights": weights, "scaling": scaling}
    assert refusal_of(changed(lambda fields: fields.update(lengths), of=PLAN)) is Refusal.MALFORMED


def test_where_one_vector_ends_is_signed() -> None:
    # The same payload, cut elsewhere, is another message.
    moved = open_sealed(
        changed(lambda fields: fields.update({"weights": 5, "scaling": 0}), of=PLAN), TRUST
    )
    assert isinstance(moved.message, RoundPlan)
    assert (len(moved.message.weights), len(moved.message.scaling)) == (5, 0)
    assert moved.digest != open_sealed(seal(PLAN, SIGNER), TRUST).digest


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_payload_of_broken_floats_is_refused(size: int) -> None:
    payload = bytes(size)
    raw = json.loads(parts(seal(PLAN, SIGNER))[0])
    raw["payload"] = hashlib.sha256(payload).hexdigest()
    assert refusal_of(resealed(canonical_json(raw), payload)) is Refusal.MALFORMED


def test_a_payload_where_none_belongs_is_refused() -> None:
    raw = json.loads(parts(seal(QUOTE, SIGNER))[0])
    raw["payload"] = hashlib.sha256(bytes(4)).hexdigest()
    assert refusal_of(resealed(canonical_json(raw), bytes(4))) is Refusal.MALFORMED


def test_the_payload_of_another_message_is_refused() -> None:
    other = dataclasses.replace(PLAN, weights=np.zeros(3, dtype=np.float32))
    header, _ = parts(seal(PLAN, SIGNER))
    _, replayed = parts(seal(other, SIGNER))
    assert refusal_of(resealed(header, replayed)) is Refusal.MALFORMED


def test_a_vector_that_was_read_cannot_be_written() -> None:
    opened = open_sealed(seal(PLAN, SIGNER), TRUST).message
    assert isinstance(opened, RoundPlan)
    with pytest.raises(ValueError, match="read-only"):
        opened.weights[0] = 1.0


# --- senders ------------------------------------------------------------------------------------


def test_a_message_of_a_stranger_is_refused() -> None:
    stranger = Signer("stranger", Ed25519PrivateKey.generate())
    impostor = Signer("server", Ed25519PrivateKey.generate())
    for signer in (stranger, impostor):
        with pytest.raises(AuthenticationError):
            open_sealed(seal(PLAN, signer), TRUST)


def test_one_trusted_sender_cannot_speak_for_another() -> None:
    header, payload = parts(seal(PLAN, SIGNER))
    with pytest.raises(AuthenticationError, match="'server'"):
        open_sealed(resealed(header, payload, signer=OTHER), TRUST)


def test_a_signature_made_for_something_else_is_refused() -> None:
    header, payload = parts(seal(PLAN, SIGNER))
    frame = FRAME.pack(b"SRDN", 3, len(header))
    for signed in (header, b"sordino/job/1\n" + header):
        with pytest.raises(AuthenticationError):
            open_sealed(frame + header + payload + SIGNER.sign(signed), TRUST)


def test_what_a_stranger_wrote_is_not_looked_at() -> None:
    # An unknown type of a stranger is a stranger's, not an unknown type.
    raw = json.loads(parts(seal(QUOTE, SIGNER))[0]) | {"sender": "nobody", "type": "shell"}
    with pytest.raises(AuthenticationError):
        open_sealed(resealed(canonical_json(raw)), TRUST)


def test_vectors_are_not_printed() -> None:
    update = Update(
        "run-1", "ab", 1, SignedHead(0, GENESIS, "00" * 64), np.array([123.25], dtype=np.float32)
    )
    assert "123.25" not in repr(update)
    assert "weights" not in repr(PLAN)
