from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statistical import assert_rate

from sordino_client.data.table import Table, split

KEY = bytes(range(32))
tables = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=12)


def table_of(rows: list[tuple[int, int]]) -> Table:
    array = np.array(rows, dtype=np.float32).reshape(-1, 2)
    return Table(array[:, :1], array[:, 1])


def contents(table: Table) -> Counter[tuple[float, float]]:
    return Counter(zip(table.features[:, 0].tolist(), table.labels.tolist(), strict=True))


def distance_after_adding(
    divide: Callable[[Table], tuple[Table, Table]],
    rows: list[tuple[int, int]],
    new: tuple[int, int],
    place: int,
) -> int:
    """How many records the two sides gain or lose when one record is added."""
    before = divide(table_of(rows))
    after = divide(table_of([*rows[:place], new, *rows[place:]]))
    pairs = [(contents(old), contents(young)) for old, young in zip(before, after, strict=True)]
    return sum(((old - young) + (young - old)).total() for old, young in pairs)


@given(tables, st.tuples(st.integers(0, 2), st.integers(0, 1)), st.integers(0, 12))
def test_one_record_more_changes_one_side_by_one_record(
    rows: list[tuple[int, int]], new: tuple[int, int], place: int
) -> None:
    def divide(table: Table) -> tuple[Table, Table]:
        return split(table, fraction=0.4, key=KEY)

    assert distance_after_adding(divide, rows, new, place) == 1


def test_a_split_by_row_number_would_be_found_out() -> None:
    def divide(table: Table) -> tuple[Table, Table]:
        even = np.arange(len(table.labels)) % 2 == 0
        return (
            Table(table.features[even], table.labels[even]),
            Table(table.features[~even], table.labels[~even]),
        )

    assert distance_after_adding(divide, [(0, 0), (1, 1), (2, 0)], (0, 1), 0) > 1


def test_a_split_has_its_fraction_and_its_key() -> None:
    rows = np.random.default_rng(5).uniform(-1, 1, (4000, 3)).astype(np.float32)
    table = Table(rows, np.zeros(4000, np.float32))
    train, held_out = split(table, fraction=0.25, key=KEY)
    assert len(train.labels) + len(held_out.labels) == 4000
    assert_rate(len(held_out.labels), 4000, 0.25)
    again = split(table, fraction=0.25, key=KEY)
    assert np.array_equal(again[1].features, held_out.features)
    other = split(table, fraction=0.25, key=KEY[::-1])
    assert not np.array_equal(other[1].features[:50], held_out.features[:50])


def test_identical_records_are_split_too() -> None:
    table = Table(np.zeros((4000, 3), np.float32), np.zeros(4000, np.float32))
    assert_rate(len(split(table, fraction=0.25, key=KEY)[1].labels), 4000, 0.25)


def test_the_sign_of_zero_has_no_effect() -> None:
    zeros = np.array([[0.0], [-0.0], [0.0], [-0.0]] * 20, dtype=np.float32)
    labels = np.zeros(80, np.float32)
    mixed = split(Table(zeros, labels), fraction=0.5, key=KEY)
    plain = split(Table(np.abs(zeros), labels), fraction=0.5, key=KEY)
    assert len(mixed[0].labels) == len(plain[0].labels)


@pytest.mark.parametrize(("fraction", "key"), [(0.0, KEY), (1.0, KEY), (0.5, b"short")])
def test_refuses_a_split_that_is_none(fraction: float, key: bytes) -> None:
    with pytest.raises(ValueError, match="must"):
        split(table_of([(0, 0)]), fraction=fraction, key=key)


def test_a_table_does_not_show_its_size() -> None:
    assert repr(table_of([(0, 0)] * 7)) == "Table(...)"
