"""Distances from synthetic rows to real records: asked for by many, and no measure of privacy.

A table can pass any of these and give a person away, and a table with differential privacy can
fail: rows that are common among people are close to people. So they are shown as diagnostics with
that label, and no verdict rests on them. They look at real records, and must stay at the site.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]

LABEL = "inadequate: says nothing of what the records' owners were promised"

_BLOCK = 256


@dataclass(frozen=True, slots=True)
class NearestRecords:
    """How close synthetic rows are to records, beside how close strangers are.

    Attributes:
        label: what this is worth; shown wherever the figures are.
        identical: share of rows that some record equals in every position.
        identical_among_strangers: the same for records that were not there.
        median: of the distance from a row to its closest record, in positions that differ.
        median_of_strangers: the same for records that were not there.
    """

    label: str
    identical: float
    identical_among_strangers: float
    median: float
    median_of_strangers: float


def nearest_records(rows: Cells, members: Cells, strangers: Cells) -> NearestRecords:
    """The diagnostic.

    Args:
        rows: synthetic, [rows, positions].
        members: the real records.
        strangers: real records of the same population that were not there.

    Raises:
        ValueError: one of the three is empty.
    """
    if not (len(rows) and len(members) and len(strangers)):
        raise ValueError("expected rows, members and strangers")
    of_rows, of_strangers = closest(rows, members), closest(strangers, members)
    return NearestRecords(
        LABEL,
        identical=float(np.mean(of_rows == 0)),
        identical_among_strangers=float(np.mean(of_strangers == 0)),
        median=float(np.median(of_rows)),
        median_of_strangers=float(np.median(of_strangers)),
    )


def closest(rows: Cells, records: Cells) -> Counts:
    """Of each row, in how many positions it differs from the record that it is closest to."""
    found = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        differs = sum(
            (block[:, None, place] != records[None, :, place]).astype(np.int16)
            for place in range(rows.shape[1])
        )
        found[start : start + len(block)] = np.min(differs, axis=1)
    return found
