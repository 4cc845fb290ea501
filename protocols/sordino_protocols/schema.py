"""What is public about a data set: columns with declared bounds and categories, and the label.

A site admin declares it; nothing in it may be taken from records. Feature names, their number and
their order are functions of the schema alone, so a constant column, a null or a new category in the
records changes no shape. This module reads no record: the encoder lives where the records are.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.signing import canonical_json, check_name

SCHEMA_VERSION = 1
LARGEST_COLUMN_COUNT = 10_000
LARGEST_CATEGORY_COUNT = 10_000

_RESERVED = "=:"  # feature names are made with them

Outside = Literal["clip", "missing", "reject"]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Word = Annotated[str, Field(min_length=1, max_length=256)]


class DatasetFacts(BaseModel):
    """The `[dataset]` table.

    Attributes:
        name: what jobs and policies call the data set.
        version: raised by the admin whenever the meaning of the records changes.
        unit: the column that names the entity behind a record; absent: each record is a unit.
        max_records_per_unit: bound on the records of one unit.
        order_of_magnitude: public size that training divides by. A declared constant, not a count:
            a count would be a release.
        holdout_fraction: share of the records kept out of training, for evaluation.
    """

    model_config = STRICT

    name: str
    version: int = Field(ge=1)
    unit: ColumnName | None = None
    max_records_per_unit: int = Field(default=1, ge=1)
    order_of_magnitude: int = Field(ge=1, le=10**12)
    holdout_fraction: float = Field(gt=0, lt=1)

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        return _checked_name(name)


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
        return _check_bounds(self)


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
        return _check_bounds(self)


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


def _type_of(column: object) -> str | None:
    kind = column.get("type") if isinstance(column, dict) else getattr(column, "type", None)
    return kind if isinstance(kind, str) else None


NumericColumn = IntegerColumn | NumberColumn
Numeric = TypeVar("Numeric", IntegerColumn, NumberColumn)
Column = Annotated[
    Annotated[IntegerColumn, Tag("integer")]
    | Annotated[NumberColumn, Tag("number")]
    | Annotated[CategoryColumn, Tag("category")],
    Discriminator(
        _type_of,
        custom_error_type="column_type",
        custom_error_message="type must be 'integer', 'number' or 'category';"
        " 'set' and 'text' are not supported for training",
    ),
]


class Roles(BaseModel):
    """The `[roles]` table: what is learnt, and whom errors must not fall on unevenly.

    Attributes:
        label: the column to predict; no feature.
        positive_above: a numeric label is positive above this.
        positive_values: a category label is positive at these words.
        protected: columns whose groups a fairness report compares.
    """

    model_config = STRICT

    label: ColumnName
    positive_above: float | None = None
    positive_values: tuple[Word, ...] | None = Field(default=None, min_length=1)
    protected: tuple[ColumnName, ...] = ()

    @model_validator(mode="after")
    def _one_rule(self) -> "Roles":
        if (self.positive_above is None) == (self.positive_values is None):
            raise ValueError("exactly one of positive_above and positive_values is required")
        return self


class Schema(BaseModel):
    """A data set's public schema. The order in which columns are declared has no effect.

    Attributes:
        dataset: name, size and unit.
        columns: every column that is read; others in the source are not looked at.
        roles: which column is the label.
    """

    model_config = STRICT

    dataset: DatasetFacts
    columns: dict[ColumnName, Column] = Field(min_length=2, max_length=LARGEST_COLUMN_COUNT)
    roles: Roles

    @model_validator(mode="after")
    def _consistent(self) -> "Schema":
        for column in self.columns:
            if set(column) & set(_RESERVED):
                raise ValueError(f"columns: name {column!r} must not contain '=' or ':'")
        for column in (self.roles.label, *self.roles.protected):
            if column not in self.columns:
                raise ValueError(f"roles names {column!r}, which is not in columns")
        if self.dataset.unit in self.columns:
            raise ValueError("dataset.unit is no feature; remove it from columns")
        _check_label(self.label, self.roles)
        return self

    @property
    def label(self) -> NumericColumn | CategoryColumn:
        """The column to predict."""
        return self.columns[self.roles.label]

    @property
    def features(self) -> tuple[tuple[str, NumericColumn | CategoryColumn], ...]:
        """The columns to predict from, sorted by name."""
        return tuple(
            (name, self.columns[name]) for name in sorted(self.columns) if name != self.roles.label
        )

    @property
    def feature_count(self) -> int:
        """How wide an encoded record is."""
        return len(self.feature_names())

    def feature_names(self) -> tuple[str, ...]:
        """The encoder's output columns, in order: `age`, `cp=2`, and `chol:missing`."""
        return tuple(name for column in self.features for name in _names_of(*column))

    def digest(self) -> str:
        """SHA-256 (hex) of everything declared here; the same for the same declarations."""
        return _digest(self, "dataset", "columns", "roles")

    def feature_digest(self) -> str:
        """SHA-256 (hex) of columns and roles: what the sites of one job must share."""
        return _digest(self, "columns", "roles")


def _names_of(name: str, column: NumericColumn | CategoryColumn) -> Iterator[str]:
    match column:
        case CategoryColumn():
            yield from (f"{name}={word}" for word in column.words)
        case IntegerColumn() | NumberColumn():
            yield name
    if column.nullable:
        yield f"{name}:missing"


def _digest(schema: Schema, *tables: str) -> str:
    facts = schema.model_dump(mode="json", include=set(tables))
    return hashlib.sha256(canonical_json({"schema_version": SCHEMA_VERSION} | facts)).hexdigest()


def _checked_name(name: str) -> str:
    try:
        return check_name(name)
    except InputError as error:
        raise ValueError(str(error)) from None


def _check_bounds(column: Numeric) -> Numeric:
    if not column.min < column.max:
        raise ValueError("min must be below max")
    if not math.isfinite(float(column.max) - float(column.min)):
        raise ValueError("max - min must be finite")
    if column.outside == "missing" and not column.nullable:
        raise ValueError("outside = 'missing' needs nullable = true")
    return column


def _check_label(label: NumericColumn | CategoryColumn, roles: Roles) -> None:
    if label.nullable:
        raise ValueError(f"the label {roles.label!r} must not be nullable")
    match label:
        case CategoryColumn():
            if roles.positive_values is None or not set(roles.positive_values) <= set(label.words):
                raise ValueError("a category label needs roles.positive_values, each declared")
            if set(roles.positive_values) == set(label.words):
                raise ValueError("roles.positive_values leaves no word for the negative class")
        case IntegerColumn() | NumberColumn():
            above = roles.positive_above
            if above is None or not label.min <= above < label.max:
                raise ValueError("a numeric label needs roles.positive_above in [min, max)")
