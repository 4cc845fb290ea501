"""What is public about a data set: columns with declared bounds and categories, and the label.

A site admin declares it; nothing in it may be taken from records. Feature names, their number and
their order are functions of the schema alone, so a constant column, a null or a new category in the
records changes no shape. This module reads no record: the encoder lives where the records are.
"""

import hashlib
from collections import Counter
from collections.abc import Collection
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, field_validator, model_validator

from sordino_protocols.columns import (
    LARGEST_CATEGORY_COUNT,
    LARGEST_FEATURE_COUNT,
    RESERVED,
    AnyColumn,
    CategoryColumn,
    Column,
    ColumnName,
    IntegerColumn,
    NumberColumn,
    SingleColumn,
    TokensColumn,
    VectorColumn,
    Word,
    feature_names_of,
    source_names_of,
    width_of,
)
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.signing import canonical_json, check_name

__all__ = [
    "LARGEST_CATEGORY_COUNT",
    "LARGEST_COLUMN_COUNT",
    "LARGEST_FEATURE_COUNT",
    "SCHEMA_VERSION",
    "DatasetFacts",
    "Roles",
    "Schema",
    "Task",
]

SCHEMA_VERSION = 1
LARGEST_COLUMN_COUNT = 10_000

Task = Literal["binary", "classes", "number"]
Floats = npt.NDArray[np.float64]


class DatasetFacts(BaseModel):
    """The `[dataset]` table.

    Attributes:
        name: what jobs and policies call the data set.
        lineage: what its records are counted under; a view, a filter or a copy of a data set names
            the lineage of what it is made of. None: the data set's own name.
        version: raised by the admin whenever the meaning of the records changes.
        unit: the column that names the entity behind a record, whose values are compared as text;
            absent: each record is a unit. It is no feature.
        max_records_per_unit: how many records of one entity a step uses at most; a public bound.
        order_of_magnitude: public number of units that training divides by. A declared constant,
            not a count: a count would be a release.
        holdout_fraction: share of the units kept out of training, for evaluation.
    """

    model_config = STRICT

    name: str
    lineage: str | None = None
    version: int = Field(ge=1)
    unit: ColumnName | None = None
    max_records_per_unit: int = Field(default=1, ge=1)
    order_of_magnitude: int = Field(ge=1, le=10**12)
    holdout_fraction: float = Field(gt=0, lt=1)

    @field_validator("name", "lineage")
    @classmethod
    def _named(cls, name: str | None) -> str | None:
        return None if name is None else _checked_name(name)

    @model_validator(mode="after")
    def _one_record_is_one(self) -> "DatasetFacts":
        if self.unit is None and self.max_records_per_unit > 1:
            raise ValueError("max_records_per_unit above 1 needs dataset.unit")
        return self


class Roles(BaseModel):
    """The `[roles]` table: what is learnt, and whom errors must not fall on unevenly.

    Attributes:
        label: the column to predict; no feature.
        task: "binary" learns a positive and a negative class; "classes" learns every word of a
            category or every whole number of an integer column; "number" learns the value.
        positive_above: a numeric label is positive above this; for the task "binary".
        positive_values: a category label is positive at these words; for the task "binary".
        protected: columns whose groups a fairness report compares.
    """

    model_config = STRICT

    label: ColumnName
    task: Task = "binary"
    positive_above: float | None = None
    positive_values: tuple[Word, ...] | None = Field(default=None, min_length=1)
    protected: tuple[ColumnName, ...] = ()

    @model_validator(mode="after")
    def _one_rule(self) -> "Roles":
        rules = (self.positive_above is not None) + (self.positive_values is not None)
        if self.task == "binary" and rules != 1:
            raise ValueError(
                "exactly one of positive_above and positive_values is required,"
                " or task = 'classes' or 'number'"
            )
        if self.task != "binary" and rules:
            raise ValueError(f"task = {self.task!r} has no positive_above and no positive_values")
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
            if set(column) & set(RESERVED):
                raise ValueError(f"columns: name {column!r} must not contain '=', ':' or '['")
        for column in (self.roles.label, *self.roles.protected):
            if column not in self.columns:
                raise ValueError(f"roles names {column!r}, which is not in columns")
            if isinstance(self.columns[column], VectorColumn | TokensColumn):
                raise ValueError(f"roles names {column!r}, a block of columns")  # noqa: TRY004
        _check_label(self.label, self.roles)
        _check_features(self)
        _check_source(self)
        return self

    @property
    def lineage(self) -> str:
        """What the ledger and the policy's budgets count the data set under."""
        return self.dataset.lineage or self.dataset.name

    @property
    def label(self) -> SingleColumn:
        """The column to predict."""
        column = self.columns[self.roles.label]
        if isinstance(column, VectorColumn | TokensColumn):
            raise AssertionError("a schema is checked when it is made")  # noqa: TRY004 (a bug)
        return column

    @property
    def task(self) -> Task:
        """What is learnt of the label."""
        return self.roles.task

    @property
    def outputs(self) -> int:
        """How many outputs a network needs: a logit, one a class, or a number."""
        match self.label:
            case CategoryColumn() as label if self.task == "classes":
                return len(label.words)
            case IntegerColumn() as label if self.task == "classes":
                return label.max - label.min + 1
            case _:
                return 1

    @property
    def label_scale(self) -> float:
        """What an error of 1.0 in a scaled label is, for the task "number"; else 1.

        In units of the label, or of `log1p(label - min)` where that is its scale.
        """
        match self.label:
            case (IntegerColumn() | NumberColumn()) as label if self.task == "number":
                width = float(label.max) - float(label.min)
                return (float(np.log1p(width)) if label.scale == "log1p" else width) / 2
            case _:
                return 1.0

    def label_in_units(self, scaled: Floats) -> Floats:
        """Scaled labels, or predictions of them, in units of the label.

        Args:
            scaled: of any shape; -1 becomes the label's `min`, 1 its `max`.

        Raises:
            ValueError: the task is not "number".
        """
        match self.label:
            case (IntegerColumn() | NumberColumn()) as label if self.task == "number":
                above = (scaled + 1.0) * self.label_scale
                return label.min + (np.expm1(above) if label.scale == "log1p" else above)
            case _:
                raise ValueError(f"task = {self.task!r}: a label has no unit")

    @property
    def features(self) -> tuple[tuple[str, AnyColumn], ...]:
        """The columns to predict from, sorted by name."""
        return tuple(
            (name, self.columns[name]) for name in sorted(self.columns) if name != self.roles.label
        )

    @property
    def feature_count(self) -> int:
        """How wide an encoded record is."""
        return sum(width_of(column) for _, column in self.features)

    @property
    def vocabulary(self) -> int | None:
        """If the features are tokens, how many there are to look up; else None."""
        blocks = (column for _, column in self.features if isinstance(column, TokensColumn))
        return max((column.vocabulary for column in blocks), default=None)

    def feature_names(self) -> tuple[str, ...]:
        """The encoder's output columns, in order: `age`, `cp=2`, `chol:missing`, `pixel[3]`."""
        return tuple(name for column in self.features for name in feature_names_of(*column))

    def source_names(self) -> tuple[str, ...]:
        """The source's columns that are read, the unit's excepted."""
        return tuple(name for column in self.columns.items() for name in source_names_of(*column))

    def narrowed(self, columns: Collection[str]) -> "Schema":
        """The schema as if no other feature column had ever been declared.

        The label stays; of the protected columns stay those that are kept. Names, order and digests
        are those of a schema that was declared so.

        Args:
            columns: names of feature columns, in any order; empty: all.

        Raises:
            InputError: a name is no feature column of this schema.
        """
        known = {name for name, _ in self.features}
        for name in columns:
            if name not in known:
                raise InputError(f"columns: {name!r} is no feature column of the data set")
        if not columns or set(columns) == known:
            return self
        kept = {*columns, self.roles.label}
        protected = tuple(name for name in self.roles.protected if name in kept)
        return Schema(
            dataset=self.dataset,
            columns={name: column for name, column in self.columns.items() if name in kept},
            roles=self.roles.model_copy(update={"protected": protected}),
        )

    def positions(self, columns: Collection[str]) -> tuple[int, ...]:
        """Where the features of these columns stand in an encoded record, in ascending order."""
        begin, positions = 0, list[int]()
        for name, column in self.features:
            width = width_of(column)
            if name in columns:
                positions.extend(range(begin, begin + width))
            begin += width
        return tuple(positions)

    def digest(self) -> str:
        """SHA-256 (hex) of everything declared here; the same for the same declarations."""
        return _digest(self, "dataset", "columns", "roles")

    def feature_digest(self) -> str:
        """SHA-256 (hex) of columns and roles: what the sites of one job must share."""
        return _digest(self, "columns", "roles")


def _digest(schema: Schema, *tables: str) -> str:
    facts = schema.model_dump(mode="json", include=set(tables))
    if "dataset" in facts and schema.dataset.lineage is None:
        del facts["dataset"]["lineage"]  # as below: from before there were lineages
    if schema.task == "binary":
        del facts["roles"]["task"]  # so that schemas from before there were tasks keep their digest
    return hashlib.sha256(canonical_json({"schema_version": SCHEMA_VERSION} | facts)).hexdigest()


def _checked_name(name: str) -> str:
    try:
        return check_name(name)
    except InputError as error:
        raise ValueError(str(error)) from None


def _check_features(schema: Schema) -> None:
    if schema.feature_count > LARGEST_FEATURE_COUNT:
        raise ValueError(f"columns: more than {LARGEST_FEATURE_COUNT} features in all")
    are_tokens = {isinstance(column, TokensColumn) for _, column in schema.features}
    if len(are_tokens) > 1:
        raise ValueError(
            "columns: a network looks tokens up in a table, so they cannot be mixed with other"
            " feature columns; declare either"
        )


def _check_source(schema: Schema) -> None:
    names = schema.source_names()
    if schema.dataset.unit in names:
        raise ValueError("dataset.unit is no feature; remove it from columns")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"columns: the source's {twice!r} would be read by two columns")


def _check_label(label: SingleColumn, roles: Roles) -> None:
    if label.nullable:
        raise ValueError(f"the label {roles.label!r} must not be nullable")
    match roles.task:
        case "binary":
            _check_positive(label, roles)
        case "classes":
            _check_classes(label)
        case "number" if isinstance(label, CategoryColumn):
            raise ValueError("task = 'number' needs a label of type 'integer' or 'number'")
        case "number":
            pass


def _check_positive(label: SingleColumn, roles: Roles) -> None:
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


def _check_classes(label: SingleColumn) -> None:
    match label:
        case CategoryColumn() if len(label.words) == 1:
            raise ValueError("task = 'classes' needs a label of at least two words")
        case IntegerColumn() if label.max - label.min >= LARGEST_CATEGORY_COUNT:
            raise ValueError(f"task = 'classes' has at most {LARGEST_CATEGORY_COUNT} classes")
        case NumberColumn():
            raise ValueError("task = 'classes' needs a label of type 'category' or 'integer'")
        case _:
            pass
