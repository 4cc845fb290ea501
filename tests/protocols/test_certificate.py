"""The document: one spelling, a published schema, signatures that bind what they should."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from certified import AUDITOR, SERVER, certificate, made, summary
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.certificate import (
    Certificate,
    attach,
    bytes_of,
    is_signed_by,
    public_key_of,
    read_certificate,
    schema_json,
)
from sordino_protocols.certificate_standards import STANDARDS
from sordino_protocols.errors import IntegrityError

SCHEMA = Path(__file__).parents[2] / "docs" / "certificate.schema.json"


def test_the_published_schema_is_the_models() -> None:
    """To publish it anew: `sordino cert schema > docs/certificate.schema.json`."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_json()


def test_every_field_is_described_and_required() -> None:
    schema = json.loads(schema_json())
    parts = [schema, *schema["$defs"].values()]
    objects = [part for part in parts if part.get("type") == "object"]
    assert len(objects) > 15
    for part in objects:
        assert part["description"]
        # Certificates from before there were tables have none.
        optional = {"table"} if part is schema else set[str]()
        assert set(part["required"]) == set(part["properties"]) - optional
        assert part["additionalProperties"] is False


def test_what_is_written_is_read() -> None:
    content = certificate().canonical()
    assert read_certificate(content) == certificate()
    assert read_certificate(content).canonical() == content


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text + "\n",
        lambda text: text.replace(":", ": ", 1),
        lambda text: text.replace('{"', '{"run_id":"other","', 1),
        lambda text: text.replace('"limits"', '"limit"'),
        lambda text: text.replace("certificate/1", "certificate/2"),
        lambda text: text[:-1],
        lambda _: "",
        lambda _: "[" * 100_000,
        lambda text: re.sub(r'"confidence":0.95', '"confidence":NaN', text),
        lambda text: re.sub(r'"is_settled":true', '"is_settled":1', text),
    ],
)
def test_another_spelling_is_no_certificate(edit: Callable[[str], str]) -> None:
    text = certificate().canonical().decode("ascii")
    assert edit(text) != text
    with pytest.raises(IntegrityError):
        read_certificate(edit(text).encode("ascii"))


@given(st.binary(max_size=200))
def test_reading_any_bytes_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_certificate(content)


@given(st.integers(0, 20_000), st.binary(min_size=1, max_size=3))
def test_reading_a_changed_file_never_fails_otherwise(place: int, patch: bytes) -> None:
    content = bytearray(certificate().canonical())
    place %= len(content)
    content[place : place + len(patch)] = patch
    with contextlib.suppress(IntegrityError):
        assert read_certificate(bytes(content)).canonical() == content


def test_an_audit_added_later_leaves_the_servers_signature_as_it_is() -> None:
    bare = made().certificate()
    audited = attach(bare, summary(), AUDITOR)
    assert audited.signature == bare.signature
    assert is_signed_by(SERVER.key.public_key(), audited.signed_bytes(), audited.signature)
    assert len(attach(audited, summary(), AUDITOR).audits) == 2


def test_a_signature_has_one_spelling() -> None:
    issued = certificate()
    key = SERVER.key.public_key()
    assert is_signed_by(key, issued.signed_bytes(), issued.signature)
    assert not is_signed_by(key, issued.signed_bytes(), issued.signature.upper())
    assert not is_signed_by(key, issued.signed_bytes(), f"{issued.signature} ")
    assert not is_signed_by(key, issued.signed_bytes(), "no hex")


def test_base64_has_one_spelling() -> None:
    assert bytes_of("AAE=") == b"\x00\x01"
    for other in ("AAF=", "AAE", "AA E=", "AAE=\n", "ä"):
        with pytest.raises(IntegrityError):
            bytes_of(other)
    with pytest.raises(IntegrityError, match="32 bytes"):
        public_key_of("AAE=")


def test_every_field_that_the_mapping_names_exists() -> None:
    issued = json.loads(certificate().canonical())
    for standard in STANDARDS:
        for entry in standard.entries:
            assert entry.stays, entry.clause
            for path in entry.answered_by:
                assert _exists(issued, path.split(".")), path


def _exists(value: object, path: list[str]) -> bool:
    if not path:
        return True
    if not isinstance(value, dict):
        return False
    below = list(value.values()) if path[0] == "*" else [value[k] for k in value if k == path[0]]
    return bool(below) and all(_exists(each, path[1:]) for each in below)


def test_a_certificate_never_shows_a_key() -> None:
    text = certificate().canonical()
    assert SERVER.key.private_bytes_raw().hex().encode() not in text
    assert isinstance(certificate(), Certificate)
