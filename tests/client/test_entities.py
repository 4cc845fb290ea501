"""Grouping rows by the entity behind them, and splitting tables without tearing one apart."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from statistical import assert_rate

from sordino_client.data.table import Table, split
from sordino_client.entities import Entities, group
from sordino_protocols.errors import InputError

KEY = bytes(range(32))
CANARY = "canary-31337"

keys = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=12)
Row = tuple[str, int]
Divide = Callable[[Table], tuple[Table, Table]]


def column(cells: list[object]) -> NDArray[np.object_]:
    array = np.empty(len(cells), dtype=np.object_)
    array[:] = cells
    return array


def rows_by_entity(entities: Entities) -> list[list[int]]:
    return [
        entities.order[start:end].tolist()
        for start, end in zip(entities.starts[:-1], entities.starts[1:], strict=True)
    ]


def table_of(rows: list[Row]) -> Table:
    values = np.array([value for _, value in rows], dtype=np.float32)
    return Table(values[:, np.newaxis], values, group(column([key for key, _ in rows])))


@given(keys)
def test_each_row_is_in_its_own_entity_in_order(cells: list[str]) -> None:
    expected: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        expected.setdefault(cell, []).append(row)
    entities = group(column(list(cells)))
    assert rows_by_entity(entities) == list(expected.values())
    assert len(entities) == len(expected)
    assert entities.order.dtype == entities.starts.dtype == np.int64


def test_keys_are_compared_as_text_stripped_of_nothing() -> None:
    cells: list[object] = ["1", 1, "1 ", "\u00e9", "e\u0301", "E", "e", True, "True"]
    assert rows_by_entity(group(column(cells))) == [[0, 1], [2], [3], [4], [5], [6], [7, 8]]


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan")])
def test_a_missing_key_is_an_error_that_tells_nothing(missing: object) -> None:
    with pytest.raises(InputError) as caught:
        group(column([CANARY, missing]))
    assert str(caught.value) == "table: a cell of the unit column is missing"


def test_entities_show_neither_keys_nor_number() -> None:
    assert repr(group(column([CANARY, CANARY, "b"]))) == "Entities(...)"


@pytest.mark.parametrize(
    ("order", "starts"),
    [([0, 1], [0, 1]), ([0, 1], [1, 2]), ([0], [0, 0, 1]), ([0], []), ([[0]], [0, 1])],
)
def test_refuses_what_groups_no_rows(order: list[int], starts: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Entities(np.array(order, dtype=np.int64), np.array(starts, dtype=np.int64))


def divide(table: Table) -> tuple[Table, Table]:
    return split(table, fraction=0.4, key=KEY)


def divide_by_record(table: Table) -> tuple[Table, Table]:
    """A split that forgets the entities; each row's value names its entity and itself."""
    return split(Table(table.features, table.labels), fraction=0.4, key=KEY)


def values(table: Table) -> list[float]:
    return [float(label) for label in table.labels]


def changed_sides(divide_: Divide, rows: list[Row], new: Row, places: list[int]) -> tuple[int, int]:
    """Of the sides: how many change, and on how many the other entities' rows change."""
    others = [row for row in rows if row[0] != new[0]]
    more = list(others)
    for place in places:
        more.insert(place, new)
    before, after = divide_(table_of(others)), divide_(table_of(more))
    kept = [[value for value in values(side) if value != new[1]] for side in after]
    changed = sum(values(old) != values(young) for old, young in zip(before, after, strict=True))
    disturbed = sum(values(old) != left for old, left in zip(before, kept, strict=True))
    return changed, disturbed


entity_rows = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), max_size=12)


@given(entity_rows, st.sampled_from("abcdef"), st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_one_entity_more_changes_one_side_by_its_rows_alone(
    rows: list[Row], entity: str, places: list[int]
) -> None:
    assert changed_sides(divide, rows, (entity, 99), places) == (1, 0)


def test_a_split_by_record_would_be_found_out() -> None:
    assert changed_sides(divide_by_record, [("a", 1)], ("b", 99), [0] * 20) == (2, 0)


def test_a_split_by_entity_number_would_be_found_out() -> None:
    def by_number(table: Table) -> tuple[Table, Table]:
        assert table.entities is not None
        odd = table.entities.rows_of(np.arange(len(table.entities)) % 2 == 1)
        even = ~odd
        return (
            Table(table.features[even], table.labels[even]),
            Table(table.features[odd], table.labels[odd]),
        )

    assert changed_sides(by_number, [("a", 1), ("b", 2)], ("c", 99), [0])[1] == 2


@given(entity_rows)
def test_both_sides_know_whose_their_rows_are(rows: list[Row]) -> None:
    numbered = [(key, number) for number, (key, _) in enumerate(rows)]
    sides = divide(table_of(numbered))
    whole = [
        {numbered[int(side.labels[row])][0] for row in entity}
        for side in sides
        if side.entities is not None
        for entity in rows_by_entity(side.entities)
    ]
    assert all(len(owners) == 1 for owners in whole)
    assert len(whole) == len({key for key, _ in rows})
    for side in sides:
        assert side.entities is not None
        assert sorted(side.entities.order.tolist()) == list(range(len(side.labels)))
        assert side.labels.tolist() == sorted(side.labels.tolist())
        assert side.entities.digests is None


def test_a_share_of_the_entities_is_held_out_by_key() -> None:
    rows = [(f"{entity}", entity) for entity in range(4000) for _ in range(3)]
    table = table_of(rows)
    _, held_out = split(table, fraction=0.25, key=KEY)
    assert held_out.entities is not None
    assert_rate(len(held_out.entities), 4000, 0.25)
    _, other = split(table, fraction=0.25, key=KEY[::-1])
    assert values(other)[:50] != values(held_out)[:50]


def test_the_side_of_an_entity_is_this() -> None:
    # Pinned: sides are computed anew at each start, and must not change.
    _, held_out = divide(table_of([(name, index) for index, name in enumerate("abcdefghijkl")]))
    assert values(held_out) == [1.0, 3.0, 11.0]


def test_entities_are_split_once() -> None:
    training, _ = divide(table_of([("a", 1)]))
    with pytest.raises(ValueError, match="split once"):
        divide(training)
