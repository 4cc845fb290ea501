"""Which rows of a source are records of the data set: the admin's conditions, applied on reading.

A column that only a condition names is read, and ends here.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sordino_client.data.cells import plain
from sordino_client.data.sources import Condition
from sordino_protocols.errors import InputError


def kept(rows: "pa.Table", conditions: Sequence[Condition], *, place: str) -> "pa.Table":
    """The rows that meet every condition, in their order.

    Raises:
        InputError: a cell that `min` or `max` looks at is not a number; names the column alone.
    """
    for condition in conditions:
        rows = rows.filter(_holds(rows, condition, place))
    return rows


def _holds(rows: "pa.Table", condition: Condition, place: str) -> "pa.ChunkedArray":
    """True, False, or null where the cell is missing; a filter keeps what is True."""
    cells, where = rows.column(condition.column), f"{place}: column {condition.column!r}"
    words = condition.one_of or condition.none_of
    if words is not None:
        text = plain(cells, pa.string(), where)
        is_one = pc.is_in(text, value_set=pa.array(words, type=text.type))
        chosen = is_one if condition.one_of is not None else pc.invert(is_one)
        return pc.and_(chosen, pc.is_valid(text))
    numbers = plain(cells, pa.float64(), where)
    if numbers.type != pa.float64():
        raise InputError(f"{where}: a cell is not a number, and [source] where compares it")
    at_least = True if condition.min is None else pc.greater_equal(numbers, condition.min)
    at_most = True if condition.max is None else pc.less_equal(numbers, condition.max)
    return pc.and_(pc.and_(at_least, at_most), pc.is_valid(numbers))
