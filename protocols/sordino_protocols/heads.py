"""The newest entry of a site's ledger, signed: what others remember of a file that they never see.

A hash chain shows what was changed inside it, but not that its newest entries are gone. So every
message of a site carries the chain's length and newest hash, under the site's own signature; server
and auditor keep the longest one, and whoever shows it to the site later proves that it was there. A
signature over a head is good for nothing else, and nobody but the site can make one.
"""

import re
from dataclasses import dataclass

from sordino_protocols.errors import InputError
from sordino_protocols.signing import SIGNATURE_BYTES, Signer, TrustStore

GENESIS = "0" * 64
"""What stands for the hash of the entry before the first one."""

LARGEST_LENGTH = 2**53
_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(rf"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A ledger's length and newest hash, as its site signed them.

    Attributes:
        length: entries in all.
        hash: of the newest entry, 64 hex digits; `GENESIS` where there is none.
        signature: Ed25519, 128 hex digits.
    """

    length: int
    hash: str
    signature: str

    def __post_init__(self) -> None:
        if not 0 <= self.length < LARGEST_LENGTH:
            raise InputError(f"a ledger's length must be in [0, {LARGEST_LENGTH})")
        if not _HASH.fullmatch(self.hash) or (self.length == 0) != (self.hash == GENESIS):
            raise InputError("a ledger's head must be 64 hex digits, zeros only where it is empty")
        if not _SIGNATURE.fullmatch(self.signature):
            raise InputError(f"a head's signature must be {2 * SIGNATURE_BYTES} hex digits")


def sign_head(signer: Signer, *, length: int, hash: str) -> SignedHead:  # noqa: A002 (its name)
    """The head of the signer's own ledger, signed."""
    signature = signer.sign(_signed_bytes(signer.name, length, hash))
    return SignedHead(length, hash, signature.hex())


def verify_head(head: SignedHead, *, site: str, trust: TrustStore) -> None:
    """Return if `site` signed this head of its ledger.

    Raises:
        AuthenticationError: nobody of that name is trusted, or the signature is not theirs.
    """
    trust.verify(site, _signed_bytes(site, head.length, head.hash), bytes.fromhex(head.signature))


def _signed_bytes(site: str, length: int, head: str) -> bytes:
    return f"sordino/head/1\n{site}\n{length}\n{head}".encode("ascii")
