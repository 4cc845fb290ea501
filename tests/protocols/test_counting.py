"""Counting queries mean on cells what they say on values, or are refused with the nearest bound."""

import operator
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.counting import exact_counts, predicates_of
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.plan import CountQuery, ItemsWanted
from sordino_protocols.schema import Schema

SCHEMA = parse_toml(
    """
[dataset]
name = "claims"
version = 1
order_of_magnitude = 100
holdout_fraction = 0.5
[columns.age]
type = "integer"
min = 17
max = 40
nullable = true
[columns.income]
type = "number"
min = 0
max = 100
bins = 10
[columns.job]
type = "category"
values = ["clerk", "smith"]
nullable = true
[columns.memo]
type = "text"
[columns.towers]
type = "set"
values = ["north", "south", "west"]
max_items = 3
[columns.wide]
type = "integer"
min = 0
max = 999
[roles]
label = "income"
task = "number"
""",
    Schema,
    source="claims.toml",
)
AGE, INCOME, JOB, NORTH, SOUTH, WEST, WIDE = range(7)


def holds(column: str, wanted: str | ItemsWanted, cells: list[int]) -> bool:
    (predicate,) = predicates_of((CountQuery("q", ((column, wanted),)),), SCHEMA)
    return bool(predicate.holds(np.array([cells], dtype=np.int32))[0])


def record(position: int, value: int) -> list[int]:
    cells = [0] * 7
    cells[position] = value
    return cells


COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@given(st.sampled_from(sorted(COMPARISONS)), st.integers(10, 50), st.integers(17, 40))
def test_a_comparison_of_whole_numbers_is_that_of_their_values(
    symbol: str, bound: int, age: int
) -> None:
    for each in (bound, bound + 0.5):
        expected = COMPARISONS[symbol](age, each)
        assert holds("age", f"{symbol} {each}", record(AGE, age - 17)) == expected


@given(st.integers(10, 50), st.integers(10, 50), st.integers(17, 40))
def test_a_range_of_whole_numbers_has_both_ends_in(low: int, high: int, age: int) -> None:
    assert holds("age", f"{low}..{high}", record(AGE, age - 17)) == (low <= age <= high)


@pytest.mark.parametrize(
    ("wanted", "cells"),
    [
        (">= 30", range(3, 10)),
        ("< 30", range(3)),
        ("30..60", range(3, 6)),
        ("30 .. 100", range(3, 10)),
        ("<= 100", range(10)),
        (">= 0", range(10)),
        (">= 101", range(0)),
        ("-5..10", range(1)),
    ],
)
def test_a_real_number_is_compared_where_cells_begin(wanted: str, cells: range) -> None:
    assert [cell for cell in range(10) if holds("income", wanted, record(INCOME, cell))] == [*cells]


def test_words_and_missing_values() -> None:
    assert [holds("job", "smith", record(JOB, cell)) for cell in range(3)] == [False, True, False]
    assert [holds("job", "missing", record(JOB, cell)) for cell in range(3)] == [False, False, True]
    assert holds("age", "missing", record(AGE, 24))
    # Whatever is asked of a number, a missing one does not have it.
    assert not any(holds("age", wanted, record(AGE, 24)) for wanted in (">= 0", "< 99", "17..40"))


@given(
    st.lists(st.booleans(), min_size=3, max_size=3),
    *(st.sets(st.sampled_from(["north", "south", "west"])) for _ in range(3)),
)
def test_sets_have_some_every_or_none_of_the_items(
    has: list[bool], some: set[str], every: set[str], none: set[str]
) -> None:
    visited = {word for word, is_in in zip(("north", "south", "west"), has, strict=True) if is_in}
    wanted = ItemsWanted(tuple(some), tuple(every), tuple(none))
    expected = (not some or bool(visited & some)) and every <= visited and not visited & none
    assert holds("towers", wanted, [0, 0, 0, *map(int, has), 0]) == expected


def test_all_conditions_of_a_query_must_hold_and_queries_are_counted_alone() -> None:
    cells = np.array(
        [[3, 3, 0, 1, 0, 0, 0], [3, 3, 1, 1, 0, 0, 0], [9, 3, 0, 1, 1, 0, 0]], dtype=np.int32
    )
    queries = (
        CountQuery("young clerks", (("age", "< 25"), ("job", "clerk"))),
        CountQuery("of the north", (("towers", ItemsWanted(any=("north",))),)),
        CountQuery("nobody", (("towers", ItemsWanted(all=("north", "west"))),)),
    )
    assert exact_counts(predicates_of(queries, SCHEMA), cells).tolist() == [1, 3, 0]
    assert exact_counts(predicates_of(queries, SCHEMA), cells[:0]).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("column", "wanted", "problem"),
    [
        ("income", ">= 33", "the nearest does at 30"),
        ("income", "30..33", "the nearest does at 30"),
        ("income", "> 30", "use '>=' or '<'"),
        ("income", "= 30", "use '>=' or '<'"),
        ("wide", "= 33", "no fine cell begins at 33; the nearest does at 30"),
        ("age", "young", "no condition such as"),
        ("age", ">= 1e", "no condition such as"),
        ("age", "__import__('os')", "no condition such as"),
        ("income", "missing", "no condition such as"),
        ("job", "king", "'king' is none of its values"),
        ("memo", "x", "not declared, or has no cells"),
        ("shoe", "x", "not declared, or has no cells"),
        ("towers", "north", "is a set"),
        ("towers", ItemsWanted(any=("east",)), "'east' is none of its values"),
        ("job", ItemsWanted(any=("clerk",)), "is no set"),
    ],
)
def test_what_cells_do_not_tell_apart_is_refused_by_name(
    column: str, wanted: str | ItemsWanted, problem: str
) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        predicates_of((CountQuery("mine", ((column, wanted),)),), SCHEMA)
    assert f"query 'mine': column {column!r}" in str(caught.value)
