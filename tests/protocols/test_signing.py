import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.errors import AuthenticationError, InputError, NotFoundError
from sordino_protocols.signing import (
    SIGNATURE_BYTES,
    TrustStore,
    canonical_json,
    check_name,
    load_signer,
    load_trust,
    save_keypair,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_canonical_bytes_read_back_and_are_a_fixed_point(value: object) -> None:
    spelled = canonical_json(value)
    assert json.loads(spelled) == value
    assert canonical_json(json.loads(spelled)) == spelled


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_keys_is_irrelevant(value: dict[str, int]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


def test_canonical_bytes_are_these() -> None:
    # Pinned: a change of spelling would break every signature and hash in the field.
    value = {"b": [1, 1.0, -0.0, 1e-5, 1e22], "a": {"é": None, "t": True}}
    assert canonical_json(value) == (
        rb'{"a":{"t":true,"\u00e9":null},"b":[1,1.0,-0.0,1e-05,1e+22]}'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, [{"a": -math.inf}]])
def test_no_spelling_for_what_is_not_finite(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": [{None: 1}]}, {"a": {1, 2}}, b"bytes"])
def test_no_spelling_for_what_json_lacks(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name in ("cleveland", "va"):
        save_keypair(tmp_path, name)
    return tmp_path


def test_a_signature_holds_for_its_signer_and_data_only(keys: Path) -> None:
    signer = load_signer(keys / "va.key", "va")
    trust = load_trust(keys)
    signature = signer.sign(b"data")
    assert len(signature) == SIGNATURE_BYTES
    trust.verify("va", b"data", signature)
    forgeries = [
        ("va", b"Data", signature),
        ("va", b"data", signature[:-1] + bytes([signature[-1] ^ 1])),
        ("va", b"data", b""),
        ("cleveland", b"data", signature),
    ]
    for name, data, forged in forgeries:
        with pytest.raises(AuthenticationError, match=name):
            trust.verify(name, data, forged)


def test_a_stranger_is_refused(keys: Path) -> None:
    signature = load_signer(keys / "va.key", "va").sign(b"data")
    with pytest.raises(AuthenticationError, match="nobody called 'mallory'"):
        load_trust(keys).verify("mallory", b"data", signature)
    with pytest.raises(AuthenticationError):
        TrustStore({}).verify("va", b"data", signature)


def test_private_keys_are_private_and_never_printed(keys: Path) -> None:
    assert (keys / "va.key").stat().st_mode & 0o777 == 0o600
    assert repr(load_signer(keys / "va.key", "va")) == "Signer(name='va')"


def test_refuses_a_private_key_that_others_may_read(keys: Path) -> None:
    (keys / "va.key").chmod(0o640)
    with pytest.raises(InputError, match=r"mode 0640\); fix: chmod 600"):
        load_signer(keys / "va.key", "va")


def test_refuses_to_overwrite_a_key(keys: Path) -> None:
    before = (keys / "va.key").read_bytes()
    with pytest.raises(InputError, match="exists already"):
        save_keypair(keys, "va")
    assert (keys / "va.key").read_bytes() == before


def test_a_half_made_pair_is_not_left_behind(keys: Path) -> None:
    (keys / "new.pub").write_text("occupied")
    with pytest.raises(InputError, match=r"new\.pub: exists already"):
        save_keypair(keys, "new")
    assert not (keys / "new.key").exists()


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"]
)
def test_refuses_what_is_no_private_key(tmp_path: Path, content: bytes) -> None:
    descriptor = os.open(tmp_path / "a.key", os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)
    with pytest.raises(InputError, match="Ed25519 private key"):
        load_signer(tmp_path / "a.key", "a")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "ed25519 AAAA va",
        "ed25519 !!!! va",
        "rsa AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= va",
        "ed25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= cleveland",
        "ed25519 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= vä",
    ],
)
def test_refuses_what_is_no_public_key_of_that_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "va.pub").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"va\.pub"):
        load_trust(tmp_path)


def test_one_key_never_stands_under_two_names(keys: Path) -> None:
    line = (keys / "va.pub").read_text()
    (keys / "double.pub").write_text(line.replace(" va", " double"))
    with pytest.raises(InputError, match="one key, one name"):
        load_trust(keys)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"a\.key"):
        load_signer(tmp_path / "a.key", "a")
    with pytest.raises(NotFoundError, match="gone"):
        load_trust(tmp_path / "gone")


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a b", "-a", "a.", "ä", "a" * 65, "a\n"])
def test_refuses_names_that_are_no_file_names(name: str) -> None:
    with pytest.raises(InputError, match="must be 1 to 64"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "va", "ann@x".replace("@", "."), "site-1_b.c"])
def test_accepts_plain_names(name: str) -> None:
    assert check_name(name) == name
