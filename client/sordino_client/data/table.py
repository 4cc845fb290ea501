"""Encoded records, and their split into what is learnt from and what is held out.

Neighbouring data sets must stay neighbours: what a record becomes, and the side it falls on, may
not depend on any other record.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST_KEY_BYTES = 16
_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Table:
    """Encoded records. The number of rows is as private as the rows: `repr` shows neither.

    Attributes:
        features: float32 [n, d], C-contiguous, every entry finite and in [-1, 1].
        labels: float32 [n], 0 or 1.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.float32]

    def __repr__(self) -> str:
        return "Table(...)"


def split(table: Table, *, fraction: float, key: bytes) -> tuple[Table, Table]:
    """Split into (training, held-out) tables; about `fraction` of the records are held out.

    A record's side is a keyed hash of its own encoded content and of how many identical records
    stand before it. Adding a record to k identical ones adds exactly the pair (content, k) to the
    multiset of pairs and changes no other, and identical records are exchangeable, so
    neighbouring tables give neighbouring training tables and neighbouring held-out tables, one of
    the two pairs being equal. The rows keep their order.

    Args:
        table: the records.
        fraction: in (0, 1), public.
        key: at least 16 random bytes, kept at the site for as long as it holds the data set: the
            same key gives the same split, and without it nobody can tell a record's side.

    Raises:
        ValueError: fraction or key are out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError("fraction must be between 0 and 1, both excluded")
    if len(key) < SMALLEST_KEY_BYTES:
        raise ValueError(f"key must have at least {SMALLEST_KEY_BYTES} bytes")
    threshold = math.ceil(fraction * 2 ** (8 * _HASH_BYTES))
    held_out = np.fromiter((hash_ < threshold for hash_ in _hashes(table, key)), dtype=np.bool_)
    return _rows(table, ~held_out), _rows(table, held_out)


def _hashes(table: Table, key: bytes) -> Iterator[int]:
    seen = Counter[bytes]()
    hash_key = hashlib.blake2b(key, digest_size=32, person=b"sordino-split").digest()
    # Adding 0.0 turns -0.0 into 0.0: equal records must have equal bytes.
    content = np.column_stack([table.features, table.labels]).astype("<f4") + np.float32(0.0)
    for row in content:
        record = row.tobytes()
        occurrence = seen[record].to_bytes(8, "little")
        seen[record] += 1
        digest = hashlib.blake2b(occurrence + record, digest_size=_HASH_BYTES, key=hash_key)
        yield int.from_bytes(digest.digest(), "little")


def _rows(table: Table, chosen: NDArray[np.bool_]) -> Table:
    return Table(
        np.ascontiguousarray(table.features[chosen]), np.ascontiguousarray(table.labels[chosen])
    )
