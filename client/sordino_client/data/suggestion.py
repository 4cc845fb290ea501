"""A first draft of a schema, made from records, for the eyes of their admin alone.

Everything in a draft is taken from records: which values there are, their range, which are missing,
how many rows. A schema is public, so none of that may stay unread. A draft therefore says
`derived_from_data = true`, under which no site releases anything; the admin puts public knowledge
in place of what the records said, and removes the line. To help with that, a draft already hides
what it can: bounds are rounded outwards, words of fewer than ten records are not written down, and
of text and of keys there is only the name.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from sordino_client.data.object_store import READ_ERRORS
from sordino_protocols.columns import RESERVED
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.words import LARGEST_WORD_LENGTH

Declaration = dict[str, object]
"""One table of `[columns]`, as a file holds it."""

Floats = NDArray[np.float64]

LEAST_RECORDS_OF_A_WORD = 10
LARGEST_WHOLE = 2**53
MOST_WORDS = 200
_MOST_ITEMS = 1_000
_LEAST_SHARE_OF_SETS = 0.2
_MEAN_OVER_MEDIAN_OF_A_LOG_SCALE = 4.0
_WIDTH_OF_CODES = 20
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Draft:
    """A schema as it may be, for a person to correct. Secret: all of it is from records.

    Attributes:
        tables: the file's: `dataset`, `source`, `columns`, `roles`.
        remarks: what to look at first, one line each.
    """

    tables: Mapping[str, Mapping[str, object]]
    remarks: tuple[str, ...]

    def __repr__(self) -> str:
        return "Draft(...)"


def read_records(path: Path) -> pd.DataFrame:
    """All cells of a CSV or Parquet file as a site would read them: text, or what Parquet says.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is neither, garbled, or has no row or no column.
    """
    if not path.exists():
        raise NotFoundError(f"{path}: no such file")
    frame = _read(path)
    if frame is None or frame.empty:
        raise InputError(
            f"{path}: no CSV file in UTF-8 with a header line, and no Parquet file, that has rows"
        )
    return frame


def suggest_schema(
    frame: pd.DataFrame,
    *,
    name: str,
    source: Mapping[str, object],
    label: str | None = None,
    unit: str | None = None,
    separator: str = "|",
) -> Draft:
    """Draft a schema for records.

    Whole numbers and numbers get bounds, rounded outwards; few different words a category, words
    with `separator` between them a set; everything else is text, which no job ever reads.

    Args:
        frame: cells are text, numbers or missing.
        name: of the data set.
        source: the table `[source]`.
        label: the column to predict; None: the last one that can be.
        unit: the column that names the entity behind a record; it is no feature.
        separator: between the words of one cell of a set.

    Raises:
        InputError: `label` or `unit` is no column, the label is no single value without gaps, or
            there are fewer than two columns to declare.
    """
    for role, column in (("label", label), ("unit", unit)):
        if column is not None and column not in frame.columns:
            raise InputError(f"{role}: there is no column {column!r}")
    columns = {
        str(each): _declaration(frame[each], separator)
        for each in frame.columns
        if each != unit and not set(str(each)) & set(RESERVED)
    }
    chosen = _label(columns, label)
    return Draft(
        {
            "dataset": _dataset(frame, name, unit),
            "source": source,
            "columns": columns,
            "roles": {"label": chosen, **_task(columns[chosen])},
        },
        tuple(_remarks(frame, columns, chosen)),
    )


def _read(path: Path) -> pd.DataFrame | None:
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            parquet: pd.DataFrame = pyarrow.parquet.read_table(path).to_pandas()
            return parquet
        return pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])
    except (*READ_ERRORS, pa.ArrowException, ValueError):  # pandas' errors are ValueErrors
        return None


def _dataset(frame: pd.DataFrame, name: str, unit: str | None) -> Mapping[str, object]:
    units = len(frame) if unit is None else frame[unit].nunique()
    facts: dict[str, object] = {"name": name, "version": 1, "derived_from_data": True}
    if unit is not None:
        facts["unit"] = unit
    # One digit: a count of the rows would be a release.
    return (
        facts
        | {"order_of_magnitude": round(units, -len(str(units)) + 1) or 1}
        | {"holdout_fraction": 0.2}
    )


def _declaration(cells: pd.Series, separator: str) -> Declaration:
    present = cells[cells.notna()]
    is_nullable = len(present) < len(cells)
    found = _numbers(present) or _set(present, separator) or _category(present)
    if found is None:
        return {"type": "text"}
    return found | ({"nullable": True} if is_nullable and found["type"] != "set" else {})


def _numbers(present: pd.Series) -> Declaration | None:
    numbers = pd.to_numeric(present, errors="coerce").to_numpy(dtype=np.float64)
    if not len(numbers) or not bool(np.all(np.isfinite(numbers))):
        return None
    low, high = float(numbers.min()), float(numbers.max())
    is_whole = bool(np.all(numbers == np.rint(numbers))) and max(-low, high) <= LARGEST_WHOLE
    lower, upper = _outwards(low, high, is_whole=is_whole)
    scale = _scale(numbers - lower, upper - lower)
    if is_whole:
        return {"type": "integer", "min": round(lower), "max": round(upper), **scale}
    return {"type": "number", "min": lower, "max": upper, **scale}


def _outwards(low: float, high: float, *, is_whole: bool) -> tuple[float, float]:
    """Bounds on round numbers: the largest and the smallest value are each somebody's."""
    width = (high - low) or max(abs(high), 1.0)
    step = 10.0 ** math.floor(math.log10(width))
    if is_whole and width < _WIDTH_OF_CODES:
        step = 1.0  # codes and scores, such as a yes or no
    digits = max(0, -math.floor(math.log10(step)))
    lower = round(math.floor(low / step) * step, digits)
    upper = round(math.ceil(high / step) * step, digits)
    return lower, upper if upper > lower else lower + step


def _scale(above: Floats, width: float) -> Declaration:
    is_skewed = above.mean() > _MEAN_OVER_MEDIAN_OF_A_LOG_SCALE * np.median(above)
    return {"scale": "log1p"} if is_skewed and width > MOST_WORDS else {}


def _set(present: pd.Series, separator: str) -> Declaration | None:
    words = present.astype(str)
    if words.str.contains(separator, regex=False).mean() < _LEAST_SHARE_OF_SETS:
        return None
    items = [[item.strip() for item in cell.split(separator) if item.strip()] for cell in words]
    # Of one record an item counts once: what few records have shows nowhere.
    counts = pd.Series([item for each in items for item in set(each)], dtype=str).value_counts()
    kept = sorted(counts.index[counts >= LEAST_RECORDS_OF_A_WORD], key=_natural)
    if not 1 <= len(kept) <= _MOST_ITEMS or any(len(word) > LARGEST_WORD_LENGTH for word in kept):
        return None
    longest = max(len(set(each)) for each in items)
    at_most = min(len(kept), _round_up_count(longest))
    declared = {"type": "set", "values": kept, "max_items": at_most, "separator": separator}
    return declared if len(kept) == len(counts) else declared | {"outside": "drop"}


def _category(present: pd.Series) -> Declaration | None:
    counts = present.astype(str).value_counts()
    kept = sorted(counts.index[counts >= LEAST_RECORDS_OF_A_WORD], key=_natural)
    if not 1 <= len(kept) <= MOST_WORDS or counts[kept].sum() < len(present) / 2:
        return None
    if any(len(word) > LARGEST_WORD_LENGTH for word in kept):
        return None
    if len(kept) == len(counts):
        return {"type": "category", "values": kept}
    other = _OTHER if _OTHER not in kept else f"{_OTHER}_words"
    return {"type": "category", "values": kept, "other": other}


def _round_up_count(count: int) -> int:
    """To one digit."""
    step = int(10 ** (len(str(count)) - 1))
    return -(-count // step) * step


def _natural(word: str) -> list[tuple[int, int, str]]:
    """To sort `cell2` before `cell10`."""
    parts = re.split(r"(\d+)", word)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _label(columns: Mapping[str, Declaration], wanted: str | None) -> str:
    able = [name for name, column in columns.items() if _can_be_label(column)]
    if wanted is None and able and len(columns) > 1:
        return able[-1]
    if wanted is None or len(columns) < 2:  # noqa: PLR2004
        raise InputError("no two columns, one of them without gaps for a label, can be declared")
    if wanted not in able:
        raise InputError(f"label: {wanted!r} is text or a set, has one value only or has gaps")
    return wanted


def _can_be_label(column: Declaration) -> bool:
    if column.get("nullable"):
        return False
    match column["type"]:
        case "integer" | "number":
            return True
        case "category":
            return len(_words(column)) > 1
        case _:
            return False


def _task(column: Declaration) -> Declaration:
    """What is learnt of the label: two words or whole numbers tell a positive class."""
    words = _words(column)
    if len(words) == 2:  # noqa: PLR2004
        return {"positive_values": [words[-1]]}
    if words:
        return {"task": "classes"}
    if column["type"] == "integer" and column["max"] == 1 and column["min"] == 0:
        return {"positive_above": 0}
    return {"task": "number"}


def _words(column: Declaration) -> Sequence[str]:
    values = column.get("values", [])
    words = [str(each) for each in values] if isinstance(values, list) else []
    return [*words, str(column["other"])] if "other" in column else words


def _remarks(frame: pd.DataFrame, columns: Mapping[str, Declaration], label: str) -> list[str]:
    remarks = [
        "drafted from records: every bound, word, gap and size below is theirs until you check it",
        "against what is public (a code book, a law, a measuring range); then remove the line",
        "derived_from_data. Until then no site releases anything of this data set",
        f"the label, {label!r}, is a guess, and so is what is learnt of it",
    ]
    if len(columns) < frame.shape[1]:
        names = [str(each) for each in frame.columns if str(each) not in columns]
        remarks.append(f"not declared: {', '.join(names)}")
    if texts := [name for name, each in columns.items() if each["type"] == "text"]:
        remarks.append(f"text, which no job reads: {', '.join(texts)}")
    shortened = [name for name, each in columns.items() if "other" in each]
    if shortened:
        least = LEAST_RECORDS_OF_A_WORD
        remarks.append(f"words of fewer than {least} records left out: {', '.join(shortened)}")
    return remarks
