"""Tables with something odd in them: none of it may change the structure of what is released.

Libraries were seen to take domains from the data, to drop constant columns, to grow a column with
the first missing cell, and to tell an undeclared word in an error. A table for each of these is
made here from any public schema, beside an ordinary one of the same schema.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sordino_audit.replay.made_up import made_up_frame
from sordino_protocols.columns import (
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    SetColumn,
)
from sordino_protocols.schema import Schema

CANARY = "canary-7f3a9c"
"""A word that no schema declares; it must come out nowhere."""
RECORDS = 60
"""In the ordinary table."""

_FAR = 1e300
Change = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True, slots=True)
class CanaryTable:
    """A table that differs from the ordinary one in one respect.

    Attributes:
        name: what is odd about it.
        frame: its records.
        is_refused: whether the schema says that it is an error for the admin.
    """

    name: str
    frame: pd.DataFrame
    is_refused: bool = False


def canary_schema() -> Schema:
    """A schema in which every kind of column occurs, and every rule for what is undeclared."""
    return Schema.model_validate(
        {
            "dataset": {
                "name": "canaries",
                "version": 1,
                "order_of_magnitude": RECORDS,
                "holdout_fraction": 0.2,
            },
            "columns": {
                "age": {"type": "integer", "min": 17, "max": 90},
                "income": {
                    "type": "number",
                    "min": 0.0,
                    "max": 1e5,
                    "bins": 20,
                    "scale": "log1p",
                    "outside": "missing",
                    "nullable": True,
                },
                "work": {
                    "type": "category",
                    "values": ("private", "state", "none"),
                    "other": "other",
                    "nullable": True,
                },
                "sex": {"type": "category", "values": ("female", "male")},
                "towers": {
                    "type": "set",
                    "values": ("a", "b", "c", "d"),
                    "max_items": 2,
                    "outside": "drop",
                },
                "notes": {"type": "text"},
                "rich": {"type": "category", "values": ("no", "yes")},
            },
            "roles": {"label": "rich", "positive_values": ("yes",)},
        }
    )


def ordinary_table(schema: Schema, *, rng: np.random.Generator) -> pd.DataFrame:
    """Records of all kinds."""
    return made_up_frame(schema, RECORDS, rng=rng)


def canary_tables(schema: Schema, ordinary: pd.DataFrame) -> Iterator[CanaryTable]:
    """All that the schema's columns give occasion to.

    Args:
        schema: the public declaration.
        ordinary: what they are made of; it is not changed.
    """
    full = _filled(ordinary)
    yield CanaryTable("nothing missing", full)
    yield CanaryTable("one record less", ordinary.iloc[1:])
    yield CanaryTable("no record", ordinary.iloc[:0])
    yield CanaryTable("an undeclared column", ordinary.assign(**{CANARY: CANARY}))
    yield CanaryTable("columns in another order", ordinary[ordinary.columns[::-1]])
    for name in schema.source_names():
        yield CanaryTable(f"{name}: constant", _constant(ordinary, name))
    for name, column in schema.columns.items():
        match column:
            case IntegerColumn() | NumberColumn():
                yield from _odd_numbers(full, name, column)
            case CategoryColumn():
                yield from _odd_words(full, name, column)
            case SetColumn():
                yield from _odd_sets(full, name, column)
            case _:
                pass


def _odd_numbers(
    full: pd.DataFrame, name: str, column: IntegerColumn | NumberColumn
) -> Iterator[CanaryTable]:
    is_refused = column.outside == "reject"
    for value in (_FAR, -_FAR):
        odd = _with_first(full, name, value)
        yield CanaryTable(f"{name}: a value far out of bounds", odd, is_refused)
    yield CanaryTable(f"{name}: numbers as text", _as_text(full, name))
    yield from _odd_nulls(full, name, is_nullable=column.nullable)


def _odd_words(full: pd.DataFrame, name: str, column: CategoryColumn) -> Iterator[CanaryTable]:
    is_refused = column.other is None and column.outside == "reject"
    yield CanaryTable(f"{name}: an undeclared word", _with_first(full, name, CANARY), is_refused)
    first, *_, last = (*column.words, column.words[0])
    rare = full.assign(**{name: first})
    yield CanaryTable(f"{name}: a word that one record has", _with_first(rare, name, last))
    yield from _odd_nulls(full, name, is_nullable=column.nullable)


def _odd_sets(full: pd.DataFrame, name: str, column: SetColumn) -> Iterator[CanaryTable]:
    undeclared = column.separator.join([column.words[0], CANARY])
    is_refused = column.outside == "reject"
    odd = _with_first(full, name, undeclared)
    yield CanaryTable(f"{name}: an undeclared item", odd, is_refused)
    everything = column.separator.join(column.words)
    yield CanaryTable(f"{name}: all items at once", _with_first(full, name, everything))
    yield from _odd_nulls(full, name, is_nullable=True)


def _odd_nulls(full: pd.DataFrame, name: str, *, is_nullable: bool) -> Iterator[CanaryTable]:
    is_refused = not is_nullable
    yield CanaryTable(f"{name}: one cell missing", _with_first(full, name, None), is_refused)
    yield CanaryTable(f"{name}: all cells missing", full.assign(**{name: None}), is_refused)


def _filled(ordinary: pd.DataFrame) -> pd.DataFrame:
    """The table with the first cell that is there in place of each that is missing."""
    filled = ordinary.copy()
    for name in ordinary.columns:
        present = ordinary[name].dropna()
        if len(present):
            filled[name] = ordinary[name].where(ordinary[name].notna(), present.iloc[0])
    return filled


def _constant(ordinary: pd.DataFrame, name: str) -> pd.DataFrame:
    present = ordinary[name].dropna()
    return ordinary.assign(**{name: present.iloc[0] if len(present) else None})


def _as_text(ordinary: pd.DataFrame, name: str) -> pd.DataFrame:
    text = ordinary[name].map(lambda value: None if pd.isna(value) else str(value))
    return ordinary.assign(**{name: text.astype(object)})


def _with_first(ordinary: pd.DataFrame, name: str, value: object) -> pd.DataFrame:
    """The table with another cell in its first record."""
    changed = ordinary[name].astype(object).to_list()
    changed[0] = value
    return ordinary.assign(**{name: pd.Series(changed, index=ordinary.index, dtype=object)})
