"""The kinds of columns that a schema declares, and what each becomes.

How many features a column makes, what they are called, and which cells of the source it reads are
functions of the declaration alone.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from sordino_protocols.binning import (
    LARGEST_BIN_COUNT,
    Floats,
    boundaries_of_integers,
    boundaries_of_numbers,
    runs_between,
)
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT, read_text
from sordino_protocols.words import LARGEST_WORD_LENGTH, Word

LARGEST_CATEGORY_COUNT = 10_000
LARGEST_FEATURE_COUNT = 1_000_000
LARGEST_VOCABULARY = 2**20
"""Every token below it is exact in float32 too."""

RESERVED = "=:["
"""Feature names are made with them."""

Outside = Literal["clip", "missing", "reject"]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
FeatureCount = Annotated[int, Field(ge=1, le=LARGEST_FEATURE_COUNT)]
BinCount = Annotated[int, Field(ge=1, le=LARGEST_BIN_COUNT)]


class IntegerColumn(BaseModel):
    """Whole numbers between public bounds.

    Attributes:
        min: smallest value; scaled to -1.
        max: largest value; scaled to 1.
        bins: fine cells of a marginal, of equal width on the scale. None: one a value where there
            are at most 200, else 100. Training ignores it.
        coarse: where coarse cells begin, the first excepted: each where a fine cell begins. None:
            at most 16 runs of fine cells, of nearly the same length.
        scale: "log1p" scales `log1p(value - min)` in place of the value.
        outside: what a value out of bounds becomes: the nearest bound, missing, or an error for the
            admin.
        nullable: cells may be missing; adds an indicator feature.
    """

    model_config = STRICT

    type: Literal["integer"]
    min: Whole
    max: Whole
    bins: BinCount | None = None
    coarse: tuple[Whole, ...] | None = Field(default=None, min_length=1)
    scale: Literal["linear", "log1p"] = "linear"
    outside: Outside = "clip"
    nullable: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> "IntegerColumn":
        return _check_coarse(_check_outside(_check_bounds(self)))

    def boundaries(self) -> Floats:
        """Where each fine cell but the first begins, ascending; a value there is in that cell."""
        return boundaries_of_integers(self.min, self.max, bins=self.bins, scale=self.scale)


class NumberColumn(BaseModel):
    """Real numbers between public bounds.

    Attributes are as for `IntegerColumn`; there are 100 fine cells without `bins`.
    """

    model_config = STRICT

    type: Literal["number"]
    min: float
    max: float
    bins: BinCount | None = None
    coarse: tuple[float, ...] | None = Field(default=None, min_length=1)
    scale: Literal["linear", "log1p"] = "linear"
    outside: Outside = "clip"
    nullable: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> "NumberColumn":
        return _check_coarse(_check_outside(_check_bounds(self)))

    def boundaries(self) -> Floats:
        """Where each fine cell but the first begins, ascending; a value there is in that cell."""
        return boundaries_of_numbers(self.min, self.max, bins=self.bins, scale=self.scale)


class CategoryColumn(BaseModel):
    """One of the declared words.

    Attributes:
        values: the words, compared exactly.
        other: the word that undeclared ones become; absent: `outside` rules.
        outside: what an undeclared word becomes without `other`: missing, or an error for the
            admin.
        coarse_groups: coarse cells as lists of words: all words, once each, in the order of
            `values` with `other` at the end. None: a coarse cell a word up to 32 words, else 32
            runs of words of nearly the same length.
        nullable: cells may be missing; adds an indicator feature.
    """

    model_config = STRICT

    type: Literal["category"]
    values: tuple[Word, ...] = Field(min_length=1, max_length=LARGEST_CATEGORY_COUNT)
    other: Word | None = None
    outside: Literal["missing", "reject"] = "reject"
    coarse_groups: tuple[tuple[Word, ...], ...] | None = None
    nullable: bool = False

    @model_validator(mode="after")
    def _distinct(self) -> "CategoryColumn":
        if len(set(self.words)) < len(self.words):
            raise ValueError("values and other must all differ")
        if self.outside == "missing" and not self.nullable:
            raise ValueError("outside = 'missing' needs nullable = true")
        if self.coarse_groups is not None and (
            not all(self.coarse_groups)
            or tuple(word for group in self.coarse_groups for word in group) != self.words
        ):
            raise ValueError("coarse_groups must hold all words once, in the order of the values")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """Every word a cell can hold after reading: the values, then `other`."""
        return self.values if self.other is None else (*self.values, self.other)


class VectorColumn(BaseModel):
    """A block of numbers with the same public bounds: an image's pixels, a signal's samples.

    The source has a column for each, `<name>_0` to `<name>_<count - 1>`; none may be missing.

    Attributes:
        count: how many numbers a record has.
        min: smallest value; scaled to -1. What is below is clipped to it.
        max: largest value; scaled to 1. What is above is clipped to it.
    """

    model_config = STRICT

    type: Literal["vector"]
    count: FeatureCount
    min: float
    max: float

    @model_validator(mode="after")
    def _bounded(self) -> "VectorColumn":
        return _check_bounds(self)


class TokensColumn(BaseModel):
    """A sequence of whole numbers that stand for words, which a network looks up in a table.

    The source has a column for each, `<name>_0` to `<name>_<length - 1>`. A missing cell is token
    0; what is no token is an error for the admin. The vocabulary comes from public text, never from
    the records.

    Attributes:
        length: how many tokens a record has.
        vocabulary: how many tokens there are: 0 to `vocabulary - 1`.
    """

    model_config = STRICT

    type: Literal["tokens"]
    length: FeatureCount
    vocabulary: int = Field(ge=2, le=LARGEST_VOCABULARY)


class SetColumn(BaseModel):
    """Several of the declared words: the towers that a phone was near, the codes of a diagnosis.

    The source has one text cell a record, its words apart by `separator`; a missing cell, like an
    empty one, is the empty set. Of more than `max_items` words, those declared first are kept.

    Attributes:
        values: the words, compared exactly.
        values_file: a text file that holds them, one a line, in place of `values`; a relative path
            starts where the declaration lies. The words are public, the path is not.
        max_items: how many words of a record are looked at; a public bound.
        separator: what stands between two words of a cell.
        outside: what an undeclared word becomes: nothing, or an error for the admin.
    """

    model_config = STRICT

    type: Literal["set"]
    values: tuple[Word, ...] | None = Field(
        default=None, min_length=1, max_length=LARGEST_CATEGORY_COUNT
    )
    values_file: Path | None = None
    max_items: int = Field(ge=1, le=LARGEST_CATEGORY_COUNT)
    separator: str = Field(default="|", min_length=1, max_length=8)
    outside: Literal["drop", "reject"] = "reject"

    @model_validator(mode="after")
    def _distinct(self) -> "SetColumn":
        if (self.values is None) == (self.values_file is None):
            raise ValueError("exactly one of values and values_file is required")
        if len(set(self.words)) < len(self.words):
            raise ValueError("values must all differ")
        if any(self.separator in word or word != word.strip() for word in self.words):
            raise ValueError("no value may contain the separator, or begin or end with a space")
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """The declared words; none as long as they are in a file alone."""
        return self.values or ()

    @property
    def at_most(self) -> int:
        """How many words a record has at most."""
        return min(self.max_items, len(self.words))

    def with_words(self, directory: Path) -> "SetColumn":
        """The same column with the words in it that its file holds.

        Args:
            directory: where a relative path starts.

        Raises:
            NotFoundError: there is no such file.
            InputError: the file has no words, or a word that cannot be one.
        """
        if self.values_file is None:
            return self
        path = directory / self.values_file
        words = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        facts = self.model_dump(exclude={"values_file"}) | {"values": tuple(words)}
        try:
            return SetColumn.model_validate(facts)
        except ValueError:
            raise InputError(
                f"{path}: expected 1 to {LARGEST_CATEGORY_COUNT} different words, one a line, none"
                f" longer than {LARGEST_WORD_LENGTH} characters or with the column's separator"
            ) from None


class TextColumn(BaseModel):
    """Free text, which is declared and never read: no feature, no cell, in no release."""

    model_config = STRICT

    type: Literal["text"]


def _type_of(column: object) -> str | None:
    kind = column.get("type") if isinstance(column, dict) else getattr(column, "type", None)
    return kind if isinstance(kind, str) else None


NumericColumn = IntegerColumn | NumberColumn
SingleColumn = NumericColumn | CategoryColumn
AnyColumn = SingleColumn | VectorColumn | TokensColumn | SetColumn | TextColumn
Column = Annotated[
    Annotated[IntegerColumn, Tag("integer")]
    | Annotated[NumberColumn, Tag("number")]
    | Annotated[CategoryColumn, Tag("category")]
    | Annotated[VectorColumn, Tag("vector")]
    | Annotated[TokensColumn, Tag("tokens")]
    | Annotated[SetColumn, Tag("set")]
    | Annotated[TextColumn, Tag("text")],
    Discriminator(
        _type_of,
        custom_error_type="column_type",
        custom_error_message="type must be 'integer', 'number', 'category', 'vector', 'tokens',"
        " 'set' or 'text'",
    ),
]
"""One table of `[columns]` as a file holds it."""

_Bounded = TypeVar("_Bounded", IntegerColumn, NumberColumn, VectorColumn)
_Numeric = TypeVar("_Numeric", IntegerColumn, NumberColumn)


def width_of(column: AnyColumn) -> int:
    """How many features the column makes."""
    match column:
        case CategoryColumn():
            return len(column.words) + column.nullable
        case IntegerColumn() | NumberColumn():
            return 1 + column.nullable
        case VectorColumn():
            return column.count
        case TokensColumn():
            return column.length
        case SetColumn():
            return len(column.words)
        case TextColumn():
            return 0


def feature_names_of(name: str, column: AnyColumn) -> Iterator[str]:
    """What its features are called, in order: `age`, `cp=2`, `chol:missing`, `pixel[3]`."""
    match column:
        case SetColumn():
            yield from (f"{name}={word}" for word in column.words)
            return
        case TextColumn():
            return
        case CategoryColumn():
            yield from (f"{name}={word}" for word in column.words)
        case IntegerColumn() | NumberColumn():
            yield name
        case VectorColumn() | TokensColumn():
            yield from (f"{name}[{index}]" for index in range(width_of(column)))
            return
    if column.nullable:
        yield f"{name}:missing"


def source_names_of(name: str, column: AnyColumn) -> tuple[str, ...]:
    """The columns of the source that it is read from: `age`, or `pixel_0`, `pixel_1` and so on."""
    if isinstance(column, VectorColumn | TokensColumn):
        return tuple(f"{name}_{index}" for index in range(width_of(column)))
    return () if isinstance(column, TextColumn) else (name,)


def _check_bounds(column: _Bounded) -> _Bounded:
    if not column.min < column.max:
        raise ValueError("min must be below max")
    if not math.isfinite(float(column.max) - float(column.min)):
        raise ValueError("max - min must be finite")
    return column


def _check_outside(column: _Numeric) -> _Numeric:
    if column.outside == "missing" and not column.nullable:
        raise ValueError("outside = 'missing' needs nullable = true")
    return column


def _check_coarse(column: _Numeric) -> _Numeric:
    if column.coarse is not None:
        runs_between(column.boundaries(), column.coarse, width=float(column.max) - column.min)
    return column
