"""Counting queries: conditions on declared columns, read against a schema and checked on cells.

A condition is answered from cells, by the site from its records' and by anybody from a synthetic
record's, so both mean the same. It may therefore ask only for what cells tell apart: a bound must
be where a fine cell begins. Everything here follows from the query and the public schema; a
condition on a word that nobody has is as good as any other.

Conditions, by the type of the column:

- integer: `">= 30"`, `"> 30"`, `"< 30"`, `"<= 30"`, `"= 30"`, and `"30..65"` with both ends in;
- number: `">= 30"`, `"< 30"`, and `"30..65"`, which goes up to 65 and leaves it to the next cell,
  unless it is the largest value;
- category: one of the declared words;
- set: words of which a record has at least one (`any`), every one (`all`), or not one (`none`);
- any nullable column: `"missing"`, unless that is a declared word.

A missing value fulfils no other condition.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.columns import IntegerColumn
from sordino_protocols.errors import InputError
from sordino_protocols.plan import CountQuery, ItemsWanted
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import (
    CategoryDomain,
    NumericDomain,
    SetDomain,
    domain_of,
)

Cells = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

MISSING = "missing"

_NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_COMPARISON = re.compile(rf"\s*(>=|<=|>|<|=)\s*({_NUMBER})\s*")
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")
# A bound that a person wrote is the decimal nearest to a boundary that is computed.
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class CellCondition:
    """A condition on a single column.

    Attributes:
        position: of the column in a record's cells.
        allowed: [fine], which of its cells fulfil it.
    """

    position: int
    allowed: Bools

    def holds(self, cells: Cells) -> Bools:
        """For which records [n] of cells [n, positions] it is fulfilled."""
        fulfilled: Bools = self.allowed[cells[:, self.position]]
        return fulfilled


@dataclass(frozen=True, slots=True)
class SetCondition:
    """A condition on a set; attributes are positions of items in a record's cells."""

    some: Positions
    every: Positions
    none: Positions

    def holds(self, cells: Cells) -> Bools:
        """For which records [n] of cells [n, positions] it is fulfilled."""
        fulfilled: Bools = np.all(cells[:, self.every] > 0, axis=1)
        fulfilled &= ~np.any(cells[:, self.none] > 0, axis=1)
        if len(self.some):
            fulfilled &= np.any(cells[:, self.some] > 0, axis=1)
        return fulfilled


@dataclass(frozen=True, slots=True)
class Predicate:
    """A query as it is checked on cells: all conditions must hold."""

    name: str
    conditions: tuple[CellCondition | SetCondition, ...]

    def holds(self, cells: Cells) -> Bools:
        """For which records [n] of cells [n, positions] all conditions hold."""
        fulfilled = np.ones(len(cells), dtype=np.bool_)
        for condition in self.conditions:
            fulfilled &= condition.holds(cells)
        return fulfilled


def predicates_of(queries: Sequence[CountQuery], schema: Schema) -> tuple[Predicate, ...]:
    """Read queries against a schema.

    Raises:
        InputError: a query names a column or a word that is not declared, or asks for what cells do
            not tell apart; names query, column and what would do.
    """
    columns = {column.name: (start, column) for start, column in domain_of(schema).starts()}
    return tuple(Predicate(query.name, tuple(_conditions(query, columns))) for query in queries)


def exact_counts(predicates: Sequence[Predicate], cells: Cells) -> npt.NDArray[np.int64]:
    """How many records fulfil each. Of a site's own records that is a secret.

    Args:
        predicates: what to count.
        cells: [n, positions], as the predicates' schema has them.
    """
    counts = [np.count_nonzero(each.holds(cells)) for each in predicates]
    return np.array(counts, dtype=np.int64)


_Columns = dict[str, tuple[int, NumericDomain | CategoryDomain | SetDomain]]


def _conditions(query: CountQuery, columns: _Columns) -> Iterator[CellCondition | SetCondition]:
    for name, wanted in query.where:
        place = f"query {query.name!r}: column {name!r}"
        if name not in columns:
            raise InputError(f"{place} is not declared, or has no cells")
        start, column = columns[name]
        match column, wanted:
            case SetDomain(), ItemsWanted():
                yield _of_items(start, column, wanted, place)
            case SetDomain(), str():
                raise InputError(f"{place} is a set: name items in any, all or none")
            case NumericDomain(), str() as text:
                yield CellCondition(start, _of_numbers(column, text, place))
            case CategoryDomain(), str() as text:
                yield CellCondition(start, _of_words(column, text, place))
            case _:
                raise InputError(f"{place} is no set: any, all and none are for sets")


def _of_items(start: int, column: SetDomain, wanted: ItemsWanted, place: str) -> SetCondition:
    index = {word: start + each for each, word in enumerate(column.column.words)}
    for word in (*wanted.any, *wanted.all, *wanted.none):
        if word not in index:
            raise InputError(f"{place}: {word!r} is none of its values")

    def positions(words: Sequence[str]) -> Positions:
        return np.array([index[word] for word in words], dtype=np.int64)

    return SetCondition(positions(wanted.any), positions(wanted.all), positions(wanted.none))


def _of_words(column: CategoryDomain, text: str, place: str) -> Bools:
    allowed = np.zeros(column.shape.fine, dtype=np.bool_)
    words = column.column.words
    if text in words:
        allowed[words.index(text)] = True
    elif text == MISSING and column.missing is not None:
        allowed[column.missing] = True
    else:
        raise InputError(f"{place}: {text!r} is none of its values")
    return allowed


def _of_numbers(column: NumericDomain, text: str, place: str) -> Bools:
    allowed = np.zeros(column.shape.fine, dtype=np.bool_)
    if text.strip() == MISSING and column.missing is not None:
        allowed[column.missing] = True
        return allowed
    first, end = _run(column, text, place)
    allowed[first:end] = True
    return allowed


def _run(column: NumericDomain, text: str, place: str) -> tuple[int, int]:
    """The first cell of those that fulfil the condition, and the one behind the last."""
    whole = isinstance(column.column, IntegerColumn)
    last = len(column.boundaries) + 1
    if found := _RANGE.fullmatch(text):
        low, high = float(found[1]), float(found[2])
        first = _cell_at(column, low, place)
        return first, _cell_behind(column, high, place, whole=whole)
    if not (found := _COMPARISON.fullmatch(text)):
        raise InputError(f"{place}: {text!r} is no condition such as '>= 30' or '30..65'")
    bound = float(found[2])
    match found[1]:
        case ">=":
            return _cell_at(column, bound, place), last
        case "<":
            return 0, _cell_at(column, bound, place)
        case ">" if whole:
            return _cell_behind(column, bound, place, whole=True), last
        case "<=" if whole or bound >= column.column.max:
            return 0, _cell_behind(column, bound, place, whole=whole)
        case "=" if whole:
            first = _cell_at(column, bound, place)
            return first, _cell_behind(column, bound, place, whole=True)
        case operator:
            raise InputError(
                f"{place} is of real numbers, whose cells begin at a bound: use '>=' or '<' in"
                f" place of {operator!r}"
            )


def _cell_behind(column: NumericDomain, bound: float, place: str, *, whole: bool) -> int:
    """The first cell of values above the bound; of real numbers the one that begins there."""
    if bound >= column.column.max:
        return len(column.boundaries) + 1
    return _cell_at(column, np.floor(bound) + 1 if whole else bound, place)


def _cell_at(column: NumericDomain, bound: float, place: str) -> int:
    """The cell that begins at a bound; the first for one at or below the smallest value."""
    low, high, boundaries = float(column.column.min), float(column.column.max), column.boundaries
    if bound <= low:
        return 0
    if bound > high:
        return len(boundaries) + 1
    if isinstance(column.column, IntegerColumn):
        bound = np.ceil(bound)
    if not len(boundaries):
        raise InputError(f"{place}: {bound:g} cuts its only cell")
    nearest = int(np.argmin(np.abs(boundaries - bound)))
    if abs(boundaries[nearest] - bound) > _SAME * (high - low):
        raise InputError(
            f"{place}: no fine cell begins at {bound:.12g}; the nearest does at"
            f" {boundaries[nearest]:.12g}"
        )
    return nearest + 1
