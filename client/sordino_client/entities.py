"""Which rows belong to one entity, where the privacy unit is an entity and not a record.

Neighbouring data sets then differ by all rows of one entity. Grouping looks at the entities' keys
alone, so an entity more or less moves no row of another. A key is as secret as a record: here it
becomes a digest at once, is named in no error, and after the split even the digest is gone.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sordino_protocols.errors import InputError

Digests = NDArray[np.uint64]
Rows = NDArray[np.int64]

_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Entities:
    """A table's rows by entity. How many entities there are is as secret as who they are.

    The rows of entity `e` are `order[starts[e] : starts[e + 1]]`, in the table's order; entities
    are numbered as they first appear.

    Attributes:
        order: int64 [rows], each row once.
        starts: int64 [entities + 1], strictly increasing from 0 to the number of rows.
        digests: uint64 [entities, 2], what `split` tells entities apart by; None once it has.
    """

    order: Rows
    starts: Rows
    digests: Digests | None = None

    def __post_init__(self) -> None:
        if self.order.ndim != 1 or self.starts.ndim != 1 or len(self.starts) == 0:
            raise ValueError("expected order [rows] and starts [entities + 1]")
        if self.starts[0] != 0 or self.starts[-1] != len(self.order):
            raise ValueError("expected starts from 0 to the number of rows")
        if bool(np.any(np.diff(self.starts) <= 0)):
            raise ValueError("expected at least one row an entity")
        if self.digests is not None and self.digests.shape != (len(self), 2):
            raise ValueError("expected digests [entities, 2]")

    def __len__(self) -> int:
        """How many entities there are; a secret."""
        return len(self.starts) - 1

    def __repr__(self) -> str:
        return "Entities(...)"

    def rows_of(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which rows [rows] belong to the chosen entities [entities]."""
        rows = np.empty(len(self.order), dtype=np.bool_)
        rows[self.order] = np.repeat(chosen, np.diff(self.starts))
        return rows

    def only(self, chosen: NDArray[np.bool_]) -> "Entities":
        """The entities of the table that keeps just the chosen entities' rows, without digests."""
        kept = self.rows_of(chosen)
        renumbered = np.cumsum(kept, dtype=np.int64) - 1
        sizes = np.diff(self.starts)[chosen]
        return Entities(renumbered[self.order[kept[self.order]]], _starts(sizes))


def group(keys: NDArray[np.object_]) -> Entities:
    """Put rows with the same key together.

    Args:
        keys: one a row; compared as text, stripped of nothing.

    Raises:
        InputError: a key is None or NaN. It says neither which nor where.
    """
    return group_digests(digest_keys(keys))


def digest_keys(keys: NDArray[np.object_], *, source: str = "table") -> Digests:
    """What stands for each row's key [rows, 2]: its BLAKE2b-128, equal where the texts are.

    Two of 2**32 different keys share a digest with a probability below 2**-64.

    Args:
        keys: one a row; compared as text, stripped of nothing.
        source: what errors call the table.

    Raises:
        InputError: a key is None or NaN.
    """
    if any(key is None or (isinstance(key, float) and math.isnan(key)) for key in keys):
        raise InputError(f"{source}: a cell of the unit column is missing")
    digests = b"".join(map(_digest, keys))
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64, copy=False).reshape(-1, 2)


def group_digests(digests: Digests) -> Entities:
    """Put rows with the same digest [rows, 2] together."""
    by_digest = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: rows of one stay in order
    grouped = digests[by_digest]
    is_first = np.ones(len(grouped), dtype=np.bool_)
    is_first[1:] = np.any(grouped[1:] != grouped[:-1], axis=1)
    begins = np.flatnonzero(is_first)
    appearance = np.argsort(by_digest[begins])  # of each group's first row
    number = np.empty(len(begins), dtype=np.int64)
    number[appearance] = np.arange(len(begins))
    order = by_digest[np.argsort(number[np.cumsum(is_first) - 1], kind="stable")]
    sizes = np.diff(begins, append=len(grouped))[appearance]
    return Entities(order, _starts(sizes), grouped[begins][appearance])


def _digest(key: object) -> bytes:
    text = str(key).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES, person=b"sordino-entity").digest()


def _starts(sizes: Rows) -> Rows:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
