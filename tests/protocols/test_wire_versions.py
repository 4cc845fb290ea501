import dataclasses
import json
from base64 import b64decode
from pathlib import Path

import pytest
from wire_examples import EXAMPLES, SIGNER

from sordino_protocols.errors import AuthenticationError
from sordino_protocols.heads import GENESIS
from sordino_protocols.messages import (
    OLDEST_WIRE_VERSION,
    WIRE_VERSION,
    Message,
    Recall,
    Recalled,
    Receipt,
    Refusal,
    Refused,
)
from sordino_protocols.signing import TrustStore
from sordino_protocols.wire import open_sealed, seal, version_for_answer
from sordino_protocols.wire_values import WireVersionError

TRUST = TrustStore({SIGNER.name: SIGNER.key.public_key()})
VERSIONS = (2, 3)


def recorded(version: int) -> dict[str, bytes]:
    """What that version said, byte by byte, when it was new."""
    path = Path(__file__).with_name(f"wire_v{version}.json")
    return {name: b64decode(each) for name, each in json.loads(path.read_bytes()).items()}


def as_known_in(version: int, message: Message) -> Message:
    """What a reader of a version gets of a message."""
    if version == 2 and isinstance(message, Recall | Recalled | Receipt):
        return dataclasses.replace(message, audit_length=0, audit_head=GENESIS)
    return message


def test_every_version_that_is_spoken_was_written_down() -> None:
    assert tuple(range(OLDEST_WIRE_VERSION, WIRE_VERSION + 1)) == VERSIONS
    for version in VERSIONS:
        assert recorded(version).keys() == EXAMPLES.keys()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_version_said_is_still_said_and_read(name: str, version: int) -> None:
    envelope = recorded(version)[name]
    assert seal(EXAMPLES[name], SIGNER, version=version) == envelope
    opened = open_sealed(envelope, TRUST)
    assert opened.version == version
    assert repr(opened.message) == repr(as_known_in(version, EXAMPLES[name]))
    # Vectors are not in a repr.
    assert seal(opened.message, SIGNER, version=version) == envelope


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"Recall", "Recalled", "Receipt"}))
def test_a_request_has_one_digest_in_both_versions(name: str) -> None:
    # What a site stored an answer to is asked again by a server that was upgraded meanwhile.
    digests = {open_sealed(recorded(version)[name], TRUST).digest for version in VERSIONS}
    assert len(digests) == 1


@pytest.mark.parametrize("version", [0, 1, 4, 255])
def test_another_version_is_refused_with_both_versions_named(version: int) -> None:
    envelope = seal(EXAMPLES["Settle"], SIGNER)
    with pytest.raises(WireVersionError, match=rf"wire version {version}, this side 2 and 3"):
        open_sealed(envelope[:4] + bytes([version]) + envelope[5:], TRUST)


@pytest.mark.parametrize(("signed", "shown"), [(2, 3), (3, 2)])
def test_a_signature_is_of_one_version(signed: int, shown: int) -> None:
    envelope = seal(EXAMPLES["Settle"], SIGNER, version=signed)
    with pytest.raises(AuthenticationError):
        open_sealed(envelope[:4] + bytes([shown]) + envelope[5:], TRUST)


@pytest.mark.parametrize(
    ("envelope", "version"),
    [
        (b"", 3),
        (b"SRDN", 3),
        (b"SRDN\x00", 2),
        (b"SRDN\x01" + bytes(80), 2),
        (b"SRDN\x02" + bytes(80), 2),
        (b"SRDN\x03" + bytes(80), 3),
        (b"SRDN\x04" + bytes(80), 3),
        (b"SRDN\xff" + bytes(80), 3),
    ],
)
def test_an_answer_is_in_the_version_of_the_question_or_the_nearest(
    envelope: bytes, version: int
) -> None:
    assert version_for_answer(envelope) == version


def test_a_refusal_that_an_older_peer_does_not_know_is_one_that_it_does() -> None:
    refused = Refused("run-1", Refusal.UNAVAILABLE)
    assert open_sealed(seal(refused, SIGNER), TRUST).message == refused
    told = open_sealed(seal(refused, SIGNER, version=2), TRUST).message
    assert told == Refused("run-1", Refusal.INTERNAL)
