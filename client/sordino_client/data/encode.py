"""From a frame of raw cells to numbers, by the public schema alone.

Nothing is fitted: no mean, no range, no category comes from the records, so the encoding of one
record never depends on another. Errors name the column and the rule, never a cell, a row or a
count. How many cells a declaration had to change is counted for the site's own log, and for nobody
else: it depends on the records.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sordino_client.data.label_cells import Cells, says_its_cell, scaled_cells
from sordino_client.data.scaling import linear, on_scale
from sordino_client.data.storage import FeatureArray
from sordino_client.data.table import Table
from sordino_protocols.columns import (
    AnyColumn,
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    SetColumn,
    SingleColumn,
    TextColumn,
    TokensColumn,
    VectorColumn,
    source_names_of,
)
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema

Floats = NDArray[np.float64]
Words = NDArray[np.object_]
Violations = Counter[tuple[str, str]]
"""How many cells broke their declaration, by column and by what became of them: "clip", "other",
"missing", "drop" or "reject". A secret."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A column in an error, and where its violations are counted."""

    text: str
    column: str
    violations: Violations

    def count(self, became: str, cells: NDArray[np.bool_]) -> None:
        if found := int(np.count_nonzero(cells)):
            self.violations[self.column, became] += found

    def error(self, problem: str) -> InputError:
        return InputError(f"{self.text}: {problem}")


def encode(
    frame: pd.DataFrame,
    schema: Schema,
    *,
    source: str = "table",
    violations: Violations | None = None,
) -> Table:
    """Encode records as the model reads them.

    A number is scaled from its public bounds to [-1, 1]; a category becomes one column a declared
    word, 1 or 0. A missing cell is 0 everywhere and 1 in the column's indicator. A vector's numbers
    are scaled alike; tokens stay what they are. A set becomes one column a declared word, 1 or 0.
    Shapes and order are `schema.feature_names()`.

    A label is 0 or 1, the index of a class, or a number scaled like a feature, by `schema.task`.
    Where it says less than its column, the column's cell is kept beside it.

    Args:
        frame: has at least `schema.source_names()`; cells are text, numbers, booleans or missing.
        schema: the public declaration.
        source: what errors call the frame.
        violations: counts the cells that their declaration had to change, or refused: of the
            columns up to the first that is refused.

    Returns:
        A table without entities; features are int64 where they are tokens, else float32.

    Raises:
        InputError: a column is absent, or a cell breaks its column's declaration: missing though
            not nullable, or outside where the declaration says reject. Only the site's admin may
            see this error.
    """
    present = set(frame.columns)
    for name in schema.source_names():
        if name not in present:
            raise InputError(f"{source}: column {name!r} is absent")
    counted = Violations() if violations is None else violations
    places = {name: _Place(f"{source}: column {name!r}", name, counted) for name in schema.columns}
    label = schema.roles.label
    labels = _encode_label(frame[label], schema, places[label])
    return Table(
        _encode_features(frame, schema, places),
        labels.astype(np.float32),
        label_cells=None if says_its_cell(schema) else _cells_beside(frame[label], schema),
    )


def _encode_features(
    frame: pd.DataFrame, schema: Schema, places: Mapping[str, _Place]
) -> FeatureArray:
    shape = (len(frame), schema.feature_count)
    features: FeatureArray = np.empty(shape, dtype=np.float32)
    if schema.vocabulary is not None:
        features = np.empty(shape, dtype=np.int64)
    begin = 0
    for name, column in schema.features:
        block = _encode_column(frame, name, column, places[name])
        features[:, begin : begin + block.shape[1]] = block
        begin += block.shape[1]
    return features


def _encode_column(frame: pd.DataFrame, name: str, column: AnyColumn, place: _Place) -> Floats:
    """One column's block, [n, width_of(column)]."""
    match column:
        case CategoryColumn():
            words = _read_words(frame[name], column, place)
            block = np.column_stack([words == word for word in column.words]).astype(np.float64)
            missing = words == None  # noqa: E711 (elementwise)
        case IntegerColumn() | NumberColumn():
            numbers = _read_numbers(frame[name], column, place)
            missing = np.isnan(numbers)
            block = np.where(missing, 0.0, on_scale(numbers, column))[:, np.newaxis]
        case VectorColumn():
            return _read_vector(frame[list(source_names_of(name, column))], column, place)
        case TokensColumn():
            return _read_tokens(frame[list(source_names_of(name, column))], column, place)
        case SetColumn():
            return _read_items(frame[name], column, place)
        case TextColumn():
            raise AssertionError("text is no feature")
    return np.column_stack([block, missing]) if column.nullable else block


def _encode_label(cells: pd.Series, schema: Schema, place: _Place) -> Floats | NDArray[np.bool_]:
    match schema.task:
        case "binary":
            return _is_positive(cells, schema, place)
        case "classes":
            return _class_of(cells, schema.label, place)
        case "number":
            column = schema.label
            if isinstance(column, CategoryColumn):
                raise AssertionError("a schema pairs its label with its task")  # noqa: TRY004 (a bug)
            return on_scale(_read_numbers(cells, column, place), column)


def _cells_beside(cells: pd.Series, schema: Schema) -> Cells:
    """The fine cell of each label's column; what is wrong with one was said before."""
    place = _Place("label", schema.roles.label, Violations())
    match schema.label:
        case CategoryColumn() as column:
            index = {word: each for each, word in enumerate(column.words)}
            words = _read_words(cells, column, place)
            return np.array([index[word] for word in words], dtype=np.int32)
        case IntegerColumn() | NumberColumn() as column:
            scaled = on_scale(_read_numbers(cells, column, place), column)
            return scaled_cells(scaled.astype(np.float32), column)


def _is_positive(cells: pd.Series, schema: Schema, place: _Place) -> NDArray[np.bool_]:
    match schema.label, schema.roles.positive_above:
        case CategoryColumn() as column, _:
            words = _read_words(cells, column, place)
            return np.isin(words, list(schema.roles.positive_values or ()))
        case (IntegerColumn() | NumberColumn()) as column, float(above):
            return np.greater(_read_numbers(cells, column, place), above)
        case _:
            raise AssertionError("a schema pairs its label with its rule")


def _class_of(cells: pd.Series, column: SingleColumn, place: _Place) -> Floats:
    match column:
        case CategoryColumn():
            index = {word: float(each) for each, word in enumerate(column.words)}
            return np.array([index[word] for word in _read_words(cells, column, place)])
        case IntegerColumn() | NumberColumn():
            return _read_numbers(cells, column, place) - column.min


def _read_vector(cells: pd.DataFrame, column: VectorColumn, place: _Place) -> Floats:
    """A block of numbers [n, count], scaled."""
    numbers, is_missing = _read_block(cells, place)
    place.count("reject", is_missing)
    if bool(np.any(is_missing)):
        raise place.error("a cell is missing; a vector has none")
    place.count("clip", (numbers < column.min) | (numbers > column.max))
    return linear(np.clip(numbers, column.min, column.max), column)


def _read_tokens(cells: pd.DataFrame, column: TokensColumn, place: _Place) -> Floats:
    """A block of tokens [n, length]."""
    numbers, is_missing = _read_block(cells, place)
    tokens = np.where(is_missing, 0.0, numbers)
    is_none = (tokens != np.floor(tokens)) | (tokens < 0) | (tokens >= column.vocabulary)
    place.count("reject", is_none)
    if bool(np.any(is_none)):
        raise place.error("a cell is no whole number from 0 to vocabulary - 1")
    return tokens


def _read_block(cells: pd.DataFrame, place: _Place) -> tuple[Floats, NDArray[np.bool_]]:
    """All cells as numbers [n, columns], read at once, and which are missing."""
    if all(kind.kind in "biuf" for kind in cells.dtypes):
        numbers = cells.to_numpy(dtype=np.float64, na_value=np.nan)
        return numbers, np.isnan(numbers)
    flat = cells.to_numpy(dtype=np.object_).ravel()
    numbers = np.array(pd.to_numeric(flat, errors="coerce"), dtype=np.float64).reshape(cells.shape)
    is_missing = pd.isna(flat).reshape(cells.shape)
    unreadable = np.isnan(numbers) & ~is_missing
    place.count("reject", unreadable)
    if bool(np.any(unreadable)):
        raise place.error("a cell is not a number")
    return numbers, is_missing


def _read_numbers(cells: pd.Series, column: IntegerColumn | NumberColumn, place: _Place) -> Floats:
    """Cells as numbers within the bounds; missing is NaN."""
    numbers = np.array(pd.to_numeric(cells, errors="coerce"), dtype=np.float64)
    unreadable = np.isnan(numbers) & cells.notna().to_numpy(dtype=np.bool_)
    if isinstance(column, IntegerColumn):
        numbers = np.rint(numbers)
    outside = (numbers < column.min) | (numbers > column.max)
    match column.outside:
        case "missing":
            place.count("missing", outside | unreadable)
            numbers[outside] = np.nan
        case "clip":
            place.count("clip", outside)
            numbers = np.clip(numbers, column.min, column.max)
        case "reject":
            place.count("reject", outside)
            if bool(np.any(outside)):
                raise place.error("a cell is outside [min, max] and outside = 'reject'")
    # No bound is nearest to a cell that is no number.
    if column.outside != "missing" and bool(np.any(unreadable)):
        place.count("reject", unreadable)
        raise place.error("a cell is not a number")
    _require_present(np.isnan(numbers), nullable=column.nullable, place=place)
    return numbers


def _read_words(cells: pd.Series, column: CategoryColumn, place: _Place) -> Words:
    """Cells as declared words; missing is None."""
    present = cells.notna().to_numpy(dtype=np.bool_)
    words = np.array([str(cell) for cell in cells], dtype=np.object_)
    undeclared = present & ~np.isin(words, list(column.words))
    place.count("other" if column.other is not None else column.outside, undeclared)
    if column.other is not None:
        words[undeclared] = column.other
    elif column.outside == "missing":
        present = present & ~undeclared
    elif bool(np.any(undeclared)):
        raise place.error("a cell is none of the values and outside = 'reject'")
    words[~present] = None
    _require_present(~present, nullable=column.nullable, place=place)
    return words


def _read_items(cells: pd.Series, column: SetColumn, place: _Place) -> Floats:
    """A set's items [n, words], 0 or 1, of each record at most `column.at_most`."""
    index = {word: each for each, word in enumerate(column.words)}
    items = np.zeros((len(cells), len(index)))
    undeclared = np.zeros(len(cells), dtype=np.bool_)
    present = cells.notna().to_numpy(dtype=np.bool_)
    for row, cell in enumerate(cells):
        for word in str(cell).split(column.separator) if present[row] else ():
            place_of_word = index.get(word.strip())
            if place_of_word is not None:
                items[row, place_of_word] = 1.0
            elif word.strip():
                undeclared[row] = True
    place.count(column.outside, undeclared)
    if column.outside == "reject" and bool(np.any(undeclared)):
        raise place.error("a cell has a word that is none of the values and outside = 'reject'")
    is_kept: NDArray[np.bool_] = np.cumsum(items, axis=1) <= column.at_most
    place.count("drop", np.any(~is_kept, axis=1))
    return np.where(is_kept, items, 0.0)


def _require_present(missing: NDArray[np.bool_], *, nullable: bool, place: _Place) -> None:
    if not nullable and bool(np.any(missing)):
        place.count("reject", missing)
        raise place.error("a cell is missing and the column is not nullable")
