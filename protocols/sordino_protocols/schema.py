"""What is public about a data set: columns with declared bounds and categories, and the label.

A site admin declares it; nothing in it may be taken from records. Feature names, their number and
their order are functions of the schema alone, so a constant column, a null or a new category in the
records changes no shape. This module reads no record: the encoder lives where the records are.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from sordino_protocols.columns import (
    LARGEST_CATEGORY_COUNT,
    LARGEST_FEATURE_COUNT,
    RESERVED,
    AnyColumn,
    CategoryColumn,
    Column,
    IntegerColumn,
    NumberColumn,
    SetColumn,
    SingleColumn,
    TextColumn,
    TokensColumn,
    VectorColumn,
    feature_names_of,
    source_names_of,
    width_of,
)
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.schema_sections import Constraint, DatasetFacts, Roles, Task, check_label
from sordino_protocols.signing import canonical_json
from sordino_protocols.words import ColumnName

__all__ = [
    "LARGEST_CATEGORY_COUNT",
    "LARGEST_COLUMN_COUNT",
    "LARGEST_FEATURE_COUNT",
    "SCHEMA_VERSION",
    "Constraint",
    "DatasetFacts",
    "Roles",
    "Schema",
    "Task",
]

SCHEMA_VERSION = 1
LARGEST_COLUMN_COUNT = 10_000

BLOCKS = (VectorColumn, TokensColumn, SetColumn, TextColumn)
"""Columns that are no single value: neither a label nor a group."""

Floats = npt.NDArray[np.float64]


class Schema(BaseModel):
    """A data set's public schema. The order in which columns are declared has no effect.

    Attributes:
        dataset: name, size and unit.
        columns: every column that is read; others in the source are not looked at.
        roles: which column is the label.
        constraints: combinations that no synthetic record has.
    """

    model_config = STRICT

    dataset: DatasetFacts
    columns: dict[ColumnName, Column] = Field(min_length=2, max_length=LARGEST_COLUMN_COUNT)
    roles: Roles
    constraints: tuple[Constraint, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Schema":
        for column in self.columns:
            if set(column) & set(RESERVED):
                raise ValueError(f"columns: name {column!r} must not contain '=', ':' or '['")
        for column in (self.roles.label, *self.roles.protected):
            if column not in self.columns:
                raise ValueError(f"roles names {column!r}, which is not in columns")
            if isinstance(self.columns[column], BLOCKS):
                raise ValueError(f"roles names {column!r}, a block of columns")  # noqa: TRY004
        check_label(self.label, self.roles)
        _check_constraints(self)
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
        if isinstance(column, BLOCKS):
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
        """The columns to predict from, sorted by name; text is not read."""
        return tuple(
            (name, column)
            for name, column in sorted(self.columns.items())
            if name != self.roles.label and not isinstance(column, TextColumn)
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
            constraints=tuple(each for each in self.constraints if set(each.never) <= kept),
        )

    def with_words(self, directory: Path) -> Self:
        """The schema with the words in it that its sets name files for; of the same class.

        Args:
            directory: where the files' relative paths start.

        Raises:
            NotFoundError: there is no such file.
            InputError: a file has no words, or what it has makes the schema invalid.
        """
        columns = {
            name: column.with_words(directory) if isinstance(column, SetColumn) else column
            for name, column in self.columns.items()
        }
        changed = self.model_copy(update={"columns": columns})
        try:
            _check_features(changed)
        except ValueError as error:
            raise InputError(str(error)) from None
        return changed

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
        return _digest(self, "dataset", "columns", "roles", "constraints")

    def feature_digest(self) -> str:
        """SHA-256 (hex) of columns and roles: what the sites of one job must share."""
        return _digest(self, "columns", "roles")

    def synthesis_digest(self) -> str:
        """SHA-256 (hex) of what a synthetic record follows: columns, roles and constraints."""
        return _digest(self, "columns", "roles", "constraints")


def _digest(schema: Schema, *tables: str) -> str:
    # What is declared only since a later version, and is not declared, is left out: schemas from
    # before it keep their digest.
    facts = schema.model_dump(mode="json", include=set(tables))
    if "dataset" in facts:
        _leave_out(facts["dataset"], {"lineage": None, "derived_from_data": False})
    if schema.task == "binary":
        del facts["roles"]["task"]
    _leave_out(facts, {"constraints": []})
    for name, column in schema.columns.items():
        _leave_out(facts["columns"][name], {"coarse": None, "coarse_groups": None})
        if isinstance(column, SetColumn):
            if column.values is None:
                raise InputError(f"columns.{name}: the words of values_file are not read yet")
            # How a source spells a set is no part of what is public about it.
            del facts["columns"][name]["values_file"], facts["columns"][name]["separator"]
    return hashlib.sha256(canonical_json({"schema_version": SCHEMA_VERSION} | facts)).hexdigest()


def _leave_out(facts: dict[str, object], absent: Mapping[str, object]) -> None:
    for name, value in absent.items():
        if name in facts and facts[name] == value:
            del facts[name]


def _check_features(schema: Schema) -> None:
    if schema.feature_count > LARGEST_FEATURE_COUNT:
        raise ValueError(f"columns: more than {LARGEST_FEATURE_COUNT} features in all")
    if not schema.features:
        raise ValueError("columns: there is no feature column besides the label")
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


def _check_constraints(schema: Schema) -> None:
    for constraint in schema.constraints:
        for name in constraint.never:
            column = schema.columns.get(name)
            if not isinstance(column, CategoryColumn):
                raise ValueError(f"constraints names {name!r}, which is no category of columns")  # noqa: TRY004
            for word in constraint.words_of(name):
                if word not in column.words:
                    raise ValueError(f"constraints: {word!r} is none of the values of {name!r}")
