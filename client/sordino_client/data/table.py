"""Encoded records, and their split into what is learnt from and what is held out.

Neighbouring data sets must stay neighbours: what a privacy unit becomes, and the side it falls on,
may not depend on any other unit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sordino_client.data.sides import HASH_BITS, entity_hashes, record_hashes, row_chunks
from sordino_client.data.storage import FeatureArray, RowStore, Spill
from sordino_client.entities import Entities

SMALLEST_KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Table:
    """Encoded records. The number of rows is as private as the rows: `repr` shows neither.

    Attributes:
        features: [n, d], C-contiguous: float32, every entry finite and in [-1, 1], or int64 where
            the features are tokens. Large ones lie in a mapped file.
        labels: float32 [n]: 0 or 1, a class, or a scaled number, as the schema's task says.
        entities: the rows of each privacy unit; None where each record is one.
        label_cells: int32 [n], the fine cell of each label's column; None where labels say it.
    """

    features: FeatureArray
    labels: NDArray[np.float32]
    entities: Entities | None = None
    label_cells: NDArray[np.int32] | None = None

    def __repr__(self) -> str:
        return "Table(...)"

    def select(self, positions: Sequence[int], *, spill: Spill | None = None) -> "Table":
        """The same records with only the features at these positions, in ascending order.

        No more than a few megabytes of the copy are in memory beyond what `spill` allows.

        Args:
            positions: of features [d], ascending.
            spill: when features go to disk; None: never.

        Raises:
            InputError: the disk is full.
        """
        store = RowStore(spill)
        store.append(self.features[:0, list(positions)])
        for rows in row_chunks(self.features):
            store.append(self.features[rows][:, list(positions)])
        return replace(self, features=store.finish())


def split(
    table: Table, *, fraction: float, key: bytes, spill: Spill | None = None
) -> tuple[Table, Table]:
    """Split into (training, held-out) tables; about `fraction` of the units are held out.

    A record's side is a keyed hash of its own encoded content and of how many identical records
    stand before it. The label's cell is part of the content where it is kept. Adding a record to k
    identical ones adds exactly the pair (content, k) to the multiset of pairs and changes no other,
    and identical records are exchangeable, so neighbouring tables give neighbouring training tables
    and neighbouring held-out tables, one of the two pairs being equal. The rows keep their order.

    Where the table has entities, all rows of one are on the side that a keyed hash of its own key
    names, so the same holds for tables that differ by all rows of one entity.

    Args:
        table: the records.
        fraction: in (0, 1), public.
        key: at least 16 random bytes, kept at the site for as long as it holds the data set: the
            same key gives the same split, and without it nobody can tell a unit's side.
        spill: when features go to disk; None: never.

    Raises:
        ValueError: fraction or key are out of range, or the entities were split before.
        InputError: the disk is full.
    """
    if not 0 < fraction < 1:
        raise ValueError("fraction must be between 0 and 1, both excluded")
    if len(key) < SMALLEST_KEY_BYTES:
        raise ValueError(f"key must have at least {SMALLEST_KEY_BYTES} bytes")
    threshold = np.uint64(math.ceil(fraction * 2**HASH_BITS))
    if table.entities is None:
        held_out = record_hashes(table.features, _outcomes(table), key) < threshold
        return _rows(table, ~held_out, spill), _rows(table, held_out, spill)
    if table.entities.digests is None:
        raise ValueError("entities can be split once; their digests are gone")
    held_out = entity_hashes(table.entities.digests, key) < threshold
    return (
        _entities(table, table.entities, ~held_out, spill),
        _entities(table, table.entities, held_out, spill),
    )


def _outcomes(table: Table) -> NDArray[np.float32]:
    """All that a record is besides its features: its label, and the label's cell if it is kept."""
    if table.label_cells is None:
        return table.labels
    # Cells are exact in float32: there are at most 100,000.
    return np.column_stack([table.labels, table.label_cells]).astype(np.float32)


def _rows(table: Table, chosen: NDArray[np.bool_], spill: Spill | None) -> Table:
    store = RowStore(spill)
    store.append(table.features[:0])
    for rows in row_chunks(table.features):
        store.append(table.features[rows][chosen[rows]])
    kept = None if table.label_cells is None else table.label_cells[chosen]
    labels = np.ascontiguousarray(table.labels[chosen])
    return Table(store.finish(), labels, label_cells=kept)


def _entities(
    table: Table, entities: Entities, chosen: NDArray[np.bool_], spill: Spill | None
) -> Table:
    kept = _rows(table, entities.rows_of(chosen), spill)
    return replace(kept, entities=entities.only(chosen))
