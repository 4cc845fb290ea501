"""The kinds of columns that a schema declares, and what each becomes.

How many features a column makes, what they are called, and which cells of the source it reads are
functions of the declaration alone.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from sordino_protocols.files import STRICT

LARGEST_CATEGORY_COUNT = 10_000
LARGEST_FEATURE_COUNT = 1_000_000
LARGEST_VOCABULARY = 2**20
"""Every token below it is exact in float32 too."""

RESERVED = "=:["
"""Feature names are made with them."""

Outside = Literal["clip", "missing", "reject"]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Word = Annotated[str, Field(min_length=1, max_length=256)]
FeatureCount = Annotated[int, Field(ge=1, le=LARGEST_FEATURE_COUNT)]


class IntegerColumn(BaseModel):
    """Whole numbers between public bounds.

    Attributes:
        min: smallest value; scaled to -1.
        max: largest value; scaled to 1.
        bins: cells of a marginal; training ignores it.
        scale: "log1p" scales `log1p(value - min)` in place of the value.
        outside: what a value out of bounds becomes: the nearest bound, missing, or an error for the
            admin.
        nullable: cells may be missing; adds an indicator feature.
    """

    model_config = STRICT

    type: Literal["integer"]
    min: Whole
    max: Whole
    bins: int | None = Field(default=None, ge=1)
    scale: Literal["linear", "log1p"] = "linear"
    outside: Outside = "clip"
    nullable: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> "IntegerColumn":
        return _check_outside(_check_bounds(self))


class NumberColumn(BaseModel):
    """Real numbers between public bounds; attributes as for `IntegerColumn`."""

    model_config = STRICT

    type: Literal["number"]
    min: float
    max: float
    bins: int | None = Field(default=None, ge=1)
    scale: Literal["linear", "log1p"] = "linear"
    outside: Outside = "clip"
    nullable: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> "NumberColumn":
        return _check_outside(_check_bounds(self))


class CategoryColumn(BaseModel):
    """One of the declared words.

    Attributes:
        values: the words, compared exactly.
        other: the word that undeclared ones become; absent: `outside` rules.
        outside: what an undeclared word becomes without `other`: missing, or an error for the
            admin.
        nullable: cells may be missing; adds an indicator feature.
    """

    model_config = STRICT

    type: Literal["category"]
    values: tuple[Word, ...] = Field(min_length=1, max_length=LARGEST_CATEGORY_COUNT)
    other: Word | None = None
    outside: Literal["missing", "reject"] = "reject"
    nullable: bool = False

    @model_validator(mode="after")
    def _distinct(self) -> "CategoryColumn":
        if len(set(self.words)) < len(self.words):
            raise ValueError("values and other must all differ")
        if self.outside == "missing" and not self.nullable:
            raise ValueError("outside = 'missing' needs nullable = true")
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


def _type_of(column: object) -> str | None:
    kind = column.get("type") if isinstance(column, dict) else getattr(column, "type", None)
    return kind if isinstance(kind, str) else None


NumericColumn = IntegerColumn | NumberColumn
SingleColumn = NumericColumn | CategoryColumn
AnyColumn = SingleColumn | VectorColumn | TokensColumn
Column = Annotated[
    Annotated[IntegerColumn, Tag("integer")]
    | Annotated[NumberColumn, Tag("number")]
    | Annotated[CategoryColumn, Tag("category")]
    | Annotated[VectorColumn, Tag("vector")]
    | Annotated[TokensColumn, Tag("tokens")],
    Discriminator(
        _type_of,
        custom_error_type="column_type",
        custom_error_message="type must be 'integer', 'number', 'category', 'vector' or 'tokens';"
        " 'set' and 'text' are not supported for training",
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


def feature_names_of(name: str, column: AnyColumn) -> Iterator[str]:
    """What its features are called, in order: `age`, `cp=2`, `chol:missing`, `pixel[3]`."""
    match column:
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
    return (name,)


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
