"""A schema's tables beside its columns: what a data set is, what is learnt, what never occurs."""

from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from sordino_protocols.columns import (
    LARGEST_CATEGORY_COUNT,
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    SingleColumn,
)
from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.signing import check_name
from sordino_protocols.words import ColumnName, Word

Task = Literal["binary", "classes", "number"]


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
        derived_from_data: marks a draft that was made by looking at the records. Such a draft is
            never read: its bounds and words are a release that nobody paid for, until the admin has
            replaced them by public knowledge and removed this line.
    """

    model_config = STRICT

    name: str
    lineage: str | None = None
    version: int = Field(ge=1)
    unit: ColumnName | None = None
    max_records_per_unit: int = Field(default=1, ge=1)
    order_of_magnitude: int = Field(ge=1, le=10**12)
    holdout_fraction: float = Field(gt=0, lt=1)
    derived_from_data: bool = False

    @field_validator("derived_from_data")
    @classmethod
    def _declared(cls, derived_from_data: bool) -> bool:  # noqa: FBT001 (pydantic calls it)
        if derived_from_data:
            raise ValueError(
                "this schema was drafted from the records; check every bound and every word against"
                " public knowledge, then remove this line"
            )
        return False

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


class Constraint(BaseModel):
    """One of the `[[constraints]]`: a combination that public knowledge says never occurs.

    No synthetic record has it. Whether a site's records have it is not looked at.

    Attributes:
        never: for each named category column, a word or several; a record never has one of the
            words of each.
    """

    model_config = STRICT

    never: dict[ColumnName, Word | tuple[Word, ...]] = Field(min_length=1)

    @field_validator("never")
    @classmethod
    def _of_words(
        cls, never: dict[ColumnName, Word | tuple[Word, ...]]
    ) -> dict[ColumnName, Word | tuple[Word, ...]]:
        if not all(never.values()):
            raise ValueError("each column needs a word")
        return never

    def words_of(self, column: str) -> tuple[str, ...]:
        """The words of a named column."""
        words = self.never[column]
        return (words,) if isinstance(words, str) else words


def check_label(label: SingleColumn, roles: Roles) -> None:
    """Return if the label can be learnt as the roles say; raise `ValueError` if not."""
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


def _checked_name(name: str) -> str:
    try:
        return check_name(name)
    except InputError as error:
        raise ValueError(str(error)) from None
