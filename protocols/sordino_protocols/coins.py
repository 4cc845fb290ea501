"""Commitments to a site's canary coins: fixed before the run, opened after it.

A site that could choose its coins after seeing the readings could make any audit look clean, and
a server that knew them before the run could treat the inserted lanes specially. So the site draws
them itself, sends a hash first, and reveals coins and salt when the last round is over. Under
SHA-256 the commitment is binding; it hides the coins because the salt is 32 secret bytes. Run and
site are hashed too: one site's reveal cannot be passed off as another's.
"""

import hashlib
import hmac
from collections.abc import Sequence

from sordino_protocols.errors import InputError

SALT_BYTES = 32
_DOMAIN = b"sordino canary coins v1\x00"


def commit(inserted: Sequence[bool], *, salt: bytes, run_id: str, site: str) -> str:
    """The commitment that a site publishes before the first round.

    Args:
        inserted: one coin a lane, in the order of the lanes; true where a canary is inserted.
        salt: `SALT_BYTES` fresh random bytes, kept secret until the run is over.
        run_id: the run.
        site: the site's name.

    Returns:
        SHA-256 over an injective encoding of all four, as 64 lowercase hex digits.

    Raises:
        InputError: the salt has the wrong length.
    """
    if len(salt) != SALT_BYTES:
        raise InputError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    parts = (_DOMAIN, _text(run_id), _text(site), salt, _packed(inserted))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def matches(
    commitment: str, inserted: Sequence[bool], *, salt: bytes, run_id: str, site: str
) -> bool:
    """Whether revealed coins are the ones that were committed to.

    A salt of the wrong length does not match: it comes from a peer, and is no error of ours.
    """
    if len(salt) != SALT_BYTES or not commitment.isascii():
        return False
    return hmac.compare_digest(commitment, commit(inserted, salt=salt, run_id=run_id, site=site))


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def _packed(coins: Sequence[bool]) -> bytes:
    # The count goes first: without it, trailing zeros of the last byte could pass as coins.
    size = len(coins)
    bits = sum(1 << lane for lane, coin in enumerate(coins) if coin)
    return size.to_bytes(4, "big") + bits.to_bytes((size + 7) // 8, "little")
