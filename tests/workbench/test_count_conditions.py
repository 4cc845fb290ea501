"""Conditions as a person types them, and what is said of those that mean nothing."""

import pytest
from plausible_synthesis import SCHEMA, visits

from sordino.count_conditions import as_asked, query_of
from sordino_client.data.cell_encoding import encode_cells
from sordino_protocols.counting import exact_counts, predicates_of
from sordino_protocols.errors import InputError

ROWS = 500


def counted(*conditions: str) -> int:
    query = query_of(conditions, SCHEMA, name="count")
    cells = encode_cells(visits(ROWS, seed=0), SCHEMA)
    return int(exact_counts(predicates_of([as_asked(query)], SCHEMA), cells)[0])


def test_counts_what_the_conditions_say() -> None:
    real = visits(ROWS, seed=0)
    towers = real["towers"].str.split("|")
    has_a = towers.map(lambda items: "a" in items)
    has_b = towers.map(lambda items: "b" in items)
    assert counted("age >= 50") == (real["age"] >= 50).sum()
    assert counted("age>=50", "ill = 1") == ((real["age"] >= 50) & (real["ill"] == 1)).sum()
    assert counted("age 30..40") == real["age"].between(30, 40).sum()
    assert counted("ward = north") == (real["ward"] == "north").sum()
    assert counted("cost missing") == real["cost"].isna().sum()
    assert counted("towers any a,b") == (has_a | has_b).sum()
    assert counted("towers all a, b") == (has_a & has_b).sum()
    assert counted("towers none a,b") == (~has_a & ~has_b).sum()


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        (["weight >= 3"], "begins with no column"),
        (["ages >= 3"], "begins with no column"),
        (["age >= 3", "age < 9"], "two conditions"),
        (["towers = a"], "is a set"),
        (["ward = east"], "east"),
        (["cost >= 33.3"], "cost"),
    ],
)
def test_says_what_means_nothing(conditions: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        query_of(conditions, SCHEMA, name="count")


def test_the_longest_name_wins() -> None:
    columns = {**SCHEMA.columns, "age group": SCHEMA.columns["ward"]}
    schema = SCHEMA.model_copy(update={"columns": columns})
    assert query_of(["age group = north"], schema, name="q").where == {"age group": "north"}
