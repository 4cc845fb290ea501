"""A counting query as a person types it: `age >= 50`, `sex = female`, `towers any a,b`."""

from collections.abc import Sequence

from sordino_protocols.columns import CategoryColumn, SetColumn
from sordino_protocols.counting import predicates_of
from sordino_protocols.errors import InputError
from sordino_protocols.job_sections import ItemsCondition, QuerySection
from sordino_protocols.plan import CountQuery, ItemsWanted
from sordino_protocols.schema import Schema

_WAYS = ("any", "all", "none")


def query_of(conditions: Sequence[str], schema: Schema, *, name: str) -> QuerySection:
    """Conditions that must all hold, as one query of a job.

    Args:
        conditions: each a column's name and what its cell must be: `age >= 50`, `age 30..65`,
            `sex = female`, `income missing`, `towers any a,b`; for a set also `all` and `none`.
        schema: of the data set.
        name: of the query.

    Raises:
        InputError: a condition cannot be read, its column is not declared or named twice, or the
            schema's cells do not tell it apart.
    """
    where = dict[str, str | ItemsCondition]()
    for text in conditions:
        column, condition = _condition(text, schema)
        if column in where:
            raise InputError(f"{column!r} has two conditions: one of a kind, such as '30..65'")
        where[column] = condition
    query = QuerySection(name=name, where=where)
    predicates_of([as_asked(query)], schema)
    return query


def as_asked(query: QuerySection) -> CountQuery:
    """The query as a plan has it."""
    return CountQuery(
        query.name, tuple((column, _wanted(each)) for column, each in sorted(query.where.items()))
    )


def _wanted(condition: str | ItemsCondition) -> str | ItemsWanted:
    if isinstance(condition, str):
        return condition
    return ItemsWanted(condition.any, condition.all, condition.none)


def _condition(text: str, schema: Schema) -> tuple[str, str | ItemsCondition]:
    # The longest name first: one may begin like another.
    for name in sorted(schema.columns, key=len, reverse=True):
        rest = text.strip().removeprefix(name)
        if rest == text.strip() or rest[:1].isalnum() or rest[:1] in {"_", "-", "."}:
            continue
        return name, _read(rest.strip(), name, schema)
    raise InputError(f"{text!r} begins with no column; there are {', '.join(schema.columns)}")


def _read(rest: str, name: str, schema: Schema) -> str | ItemsCondition:
    match schema.columns[name]:
        case SetColumn():
            way, _, items = rest.partition(" ")
            words = tuple(each.strip() for each in items.split(",") if each.strip())
            if way not in _WAYS or not words:
                raise InputError(f"{name!r} is a set: write '{name} any a,b', or all, or none")
            return ItemsCondition.model_validate({way: words})
        case CategoryColumn() if rest.startswith("="):
            return rest.removeprefix("=").strip()
        case _:
            return rest
