"""The keys from which sites make the masks of a sum, as files: X25519, pinned by the admins.

A site makes its pair where it is used and hands the public half to the admins of the other sites,
who put it among their `peers`. The server passes no key on, so it cannot put itself between two
sites. What must stay true: a private key is never readable by others, and a public key speaks for
the one site that its file is named after.
"""

import base64
import binascii
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import read_secret, write_public, write_secret
from sordino_protocols.signing import check_name

SECRET_SUFFIX, PUBLIC_SUFFIX = ".mask.key", ".mask.pub"

_ALGORITHM = "x25519"
_PUBLIC_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class MaskKeys:
    """What a site needs to take part in sums.

    Attributes:
        site: its own name.
        key: its private key; never shown by `repr`.
        peers: the other sites' public keys, by name.
    """

    site: str
    key: X25519PrivateKey
    peers: Mapping[str, X25519PublicKey]

    def __repr__(self) -> str:
        return f"MaskKeys(site={self.site!r}, peers={sorted(self.peers)!r})"

    def unknown(self, sites: Collection[str]) -> tuple[str, ...]:
        """The sites, other than this one, whose key nobody pinned here; sorted."""
        return tuple(sorted(set(sites) - set(self.peers) - {self.site}))


def save_mask_keypair(directory: Path, site: str) -> X25519PrivateKey:
    """Make a pair: `<site>.mask.key` (mode 0600, PEM PKCS8) and `<site>.mask.pub` (one line).

    Raises:
        InputError: one of the files is there already, or the name is no site's.
    """
    key = X25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    secret = directory / f"{check_name(site)}{SECRET_SUFFIX}"
    write_secret(secret, pem)
    raw = base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")
    try:
        write_public(
            directory / f"{site}{PUBLIC_SUFFIX}", f"{_ALGORITHM} {raw} {site}\n".encode("ascii")
        )
    except InputError:
        secret.unlink()
        raise
    return key


def load_mask_keys(secret: Path, peers: Path, *, site: str) -> MaskKeys:
    """Read a site's own key and every `<name>.mask.pub` among its peers.

    Args:
        secret: the private key's file.
        peers: the directory; the site's own public key may lie there too.
        site: its own name.

    Raises:
        NotFoundError: a file or the directory is absent.
        InputError: others may read the private key, a file holds no such key, two names have the
            same key, or a key shares nothing with this site's.
    """
    key = _load_secret(secret)
    if not peers.is_dir():
        raise NotFoundError(f"{peers}: no such directory of the other sites' keys")
    known, names = dict[str, X25519PublicKey](), {key.public_key().public_bytes_raw(): site}
    for path in sorted(peers.glob(f"*{PUBLIC_SUFFIX}")):
        name, public = _load_public(path)
        owner = names.setdefault(public.public_bytes_raw(), name)
        if owner != name:
            raise InputError(f"{path}: {owner!r} has the same key; one key, one site")
        if name == site and public != key.public_key():
            raise InputError(f"{path}: is not the public half of {secret}")
        if name != site:
            _require_shared(key, public, path)
            known[name] = public
    return MaskKeys(site, key, types.MappingProxyType(known))


def _load_secret(path: Path) -> X25519PrivateKey:
    pem = read_secret(path)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise InputError(f"{path}: expected an unencrypted X25519 private key in PEM PKCS8")
    return key


def _load_public(path: Path) -> tuple[str, X25519PublicKey]:
    name = check_name(path.name.removesuffix(PUBLIC_SUFFIX))
    try:
        words = path.read_text(encoding="ascii").split()
    except UnicodeDecodeError:
        words = []
    raw = b""
    match words:
        case [algorithm, encoded, owner] if (algorithm, owner) == (_ALGORITHM, name):
            try:
                raw = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                raw = b""
        case _:
            pass
    if len(raw) != _PUBLIC_KEY_BYTES:
        raise InputError(f"{path}: expected one line '{_ALGORITHM} <base64 of 32 bytes> {name}'")
    return name, X25519PublicKey.from_public_bytes(raw)


def _require_shared(key: X25519PrivateKey, public: X25519PublicKey, path: Path) -> None:
    """A point of small order gives a secret that everybody knows."""
    try:
        key.exchange(public)
    except ValueError:
        raise InputError(f"{path}: no secret can be shared with this key") from None
