"""Ed25519 signatures over canonical bytes.

Who may say what is a directory of public keys that a person filled: a name is trusted because its
`.pub` file lies there, and for nothing else. What must stay true: equal values have equal canonical
bytes, a private key is never readable by others, and one key never stands under two names.
"""

import base64
import binascii
import json
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from sordino_protocols.errors import AuthenticationError, InputError, NotFoundError
from sordino_protocols.files import read_secret, write_public, write_secret

SIGNATURE_BYTES = 64
REVOKED = "revoked"
"""Below a directory of trusted keys: those that count no more."""

_PUBLIC_KEY_BYTES = 32
_ALGORITHM = "ed25519"
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$"
"""What may name a key, a site, a person, a job or a data set, and a file."""

_NAME = re.compile(NAME_PATTERN)


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, ASCII, shortest floats.

    Floats are spelled by `repr`, so they round-trip exactly; -0.0 and 0.0, and 1 and 1.0, have
    different bytes. Tuples are spelled as lists.

    Raises:
        ValueError: a float that is not finite.
        TypeError: a key that is not a string, or a value JSON does not have.
    """
    _check_keys(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


@dataclass(frozen=True, slots=True)
class Signer:
    """Somebody with a private key.

    Attributes:
        name: what trust stores call the key's owner.
        key: the private key; never shown by `repr`.
    """

    name: str
    key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"Signer(name={self.name!r})"

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`, 64 bytes; the same for the same data (RFC 8032)."""
        return self.key.sign(data)


@dataclass(frozen=True, slots=True)
class TrustStore:
    """The public keys of those who are trusted, by name.

    Attributes:
        keys: of those who are trusted now.
        revoked: of those who were, for what they signed before.
    """

    keys: Mapping[str, Ed25519PublicKey]
    revoked: Mapping[str, Ed25519PublicKey] = field(default_factory=dict)

    def verify(self, name: str, data: bytes, signature: bytes) -> None:
        """Return if `name` signed exactly `data`.

        Raises:
            AuthenticationError: nobody of that name is trusted, or the signature is not theirs.
        """
        key = self.keys.get(name)
        if key is None:
            raise AuthenticationError(f"nobody called {name!r} is trusted here")
        try:
            key.verify(signature, data)
        except InvalidSignature:
            raise AuthenticationError(f"the signature is not {name!r}'s") from None

    def with_revoked(self) -> "TrustStore":
        """Trust as it was before revocations, to check what was signed and kept before them."""
        return TrustStore({**self.revoked, **self.keys})


def check_name(name: str) -> str:
    """Return `name` if it can name a key, a site or a person, and a file.

    Raises:
        InputError: it is not 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter
            or digit.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"name {name!r} must be 1 to 64 of a-z 0-9 . _ - that begin and end with a letter or"
            " digit"
        )
    return name


def save_keypair(directory: Path, name: str) -> Signer:
    """Make a key pair as `<name>.key` (mode 0600, PEM PKCS8) and `<name>.pub` (one line).

    Raises:
        InputError: one of the files is there already, or the name is no key's name.
    """
    signer = Signer(check_name(name), Ed25519PrivateKey.generate())
    pem = signer.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    secret = directory / f"{name}.key"
    write_secret(secret, pem)
    try:
        write_public(directory / f"{name}.pub", public_line(signer).encode("ascii"))
    except InputError:
        secret.unlink()
        raise
    return signer


def public_line(signer: Signer) -> str:
    """The public key as its `.pub` file has it: algorithm, base64 of 32 bytes, name, newline."""
    raw = signer.key.public_key().public_bytes_raw()
    return f"{_ALGORITHM} {base64.b64encode(raw).decode('ascii')} {signer.name}\n"


def load_signer(path: Path, name: str) -> Signer:
    """Read the private key in `path`, which speaks for `name`.

    Raises:
        NotFoundError: there is no such file.
        InputError: others may read the file, or it holds no Ed25519 key in PEM PKCS8.
    """
    check_name(name)
    pem = read_secret(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path}: expected an unencrypted Ed25519 private key in PEM PKCS8")
    return Signer(name, key)


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read a `.pub` file; the name inside must be the file's own.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is not `ed25519 <base64 of 32 bytes> <file name without .pub>`.
    """
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such public key file") from None
    except UnicodeDecodeError:
        text = ""
    match text.split():
        case [algorithm, encoded, name] if algorithm == _ALGORITHM and name == path.stem:
            return _public_key(encoded, path)
        case _:
            raise InputError(f"{path}: expected one line '{_ALGORITHM} <base64> {path.stem}'")


def load_trust(directory: Path) -> TrustStore:
    """Trust every `<name>.pub` in `directory`, each by its name; those in `revoked/` once were.

    Raises:
        NotFoundError: there is no such directory.
        InputError: a file is no public key, or two files hold the same key.
    """
    if not directory.is_dir():
        raise NotFoundError(f"{directory}: no such directory of trusted keys")
    revoked = directory / REVOKED
    before = _load_keys(revoked) if revoked.is_dir() else {}
    return TrustStore(_load_keys(directory), before)


def _load_keys(directory: Path) -> Mapping[str, Ed25519PublicKey]:
    keys: dict[str, Ed25519PublicKey] = {}
    names: dict[bytes, str] = {}
    for path in sorted(directory.glob("*.pub")):
        name, key = check_name(path.stem), load_public_key(path)
        known = names.setdefault(key.public_bytes_raw(), name)
        if known != name:
            raise InputError(f"{path}: the same key is trusted as {known!r}; one key, one name")
        keys[name] = key
    return types.MappingProxyType(keys)


def _public_key(encoded: str, path: Path) -> Ed25519PublicKey:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _PUBLIC_KEY_BYTES:
        raise InputError(f"{path}: expected the base64 of 32 bytes as the second word")
    return Ed25519PublicKey.from_public_bytes(raw)


def _check_keys(value: object) -> None:
    # json.dumps turns the key 1 into "1": two values would share their bytes.
    match value:
        case dict():
            if not all(isinstance(key, str) for key in value):
                raise TypeError("canonical JSON has string keys only")
            for each in value.values():
                _check_keys(each)
        case list() | tuple():
            for each in value:
                _check_keys(each)
        case _:
            pass
