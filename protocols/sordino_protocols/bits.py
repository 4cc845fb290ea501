"""Rows of bits as text: eight to a byte, the first in the highest bit, bytes as hex."""

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError

Bits = npt.NDArray[np.bool_]


def pack_bits(bits: Bits) -> str:
    """Bits as hex; trailing zeros fill the last byte."""
    return np.packbits(bits).tobytes().hex()


def unpack_bits(packed: str, count: int) -> Bits:
    """The inverse of `pack_bits`.

    Raises:
        InputError: the text is no spelling of `count` bits.
    """
    try:
        raw = np.frombuffer(bytes.fromhex(packed), dtype=np.uint8)
    except ValueError:
        raise InputError("bits are written as hex") from None
    bits = np.unpackbits(raw)[:count].astype(np.bool_)
    # One spelling only: no other length, no set bit behind the last.
    if len(bits) != count or pack_bits(bits) != packed:
        raise InputError(f"the text is no spelling of {count} bits")
    return bits
