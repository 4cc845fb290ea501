"""Several files are one data set, and an admin's conditions say which rows are records."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from wards import CANARY, COLUMNS, ROWS, Row, csv_text, read

from sordino_client.data.connectors import load_table, read_cells
from sordino_client.data.table import Table
from sordino_protocols.errors import InputError

PARTS = 'kind = "csv"\npath = "part-*.csv"'
SOURCES = ['kind = "csv"\npath = "records.csv"', 'kind = "parquet"\npath = "records.parquet"']


def write_parquet(path: Path, rows: list[Row]) -> None:
    cells = map(pa.array, zip(*rows, strict=True))
    pyarrow.parquet.write_table(pa.table(dict(zip(COLUMNS, cells, strict=True))), path)


def load(directory: Path, source: str) -> Table:
    return load_table(read(directory, source))


def expected(directory: Path, keep: Callable[[Row], bool]) -> Table:
    (directory / "kept.csv").write_text(csv_text([row for row in ROWS if keep(row)]))
    return load(directory, 'kind = "csv"\npath = "kept.csv"')


def assert_same(table: Table, other: Table) -> None:
    assert table.features.tobytes() == other.features.tobytes()
    assert np.array_equal(table.labels, other.labels)
    assert table.entities is not None
    assert other.entities is not None
    assert np.array_equal(table.entities.order, other.entities.order)


# --- several files --------------------------------------------------------------------------------


def test_files_of_a_pattern_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        part = ROWS[10 * (number - 1) : 10 * number]
        (tmp_path / f"part-{number}.csv").write_text(csv_text(part))
        write_parquet(tmp_path / f"part-{number}.parquet", part)
    assert_same(load(tmp_path, PARTS), expected(tmp_path, lambda _: True))
    assert_same(load(tmp_path, PARTS.replace("csv", "parquet")), load(tmp_path, PARTS))


def test_parquet_files_may_spell_numbers_differently(tmp_path: Path) -> None:
    write_parquet(tmp_path / "part-1.parquet", ROWS[:15])
    table = pyarrow.parquet.read_table(tmp_path / "part-1.parquet")
    wider = table.set_column(1, "age", table.column("age").cast(pa.float64()))
    pyarrow.parquet.write_table(wider, tmp_path / "part-2.parquet")
    both = load(tmp_path, PARTS.replace("csv", "parquet"))
    assert both.features[:15].tobytes() == both.features[15:].tobytes()


def test_a_name_with_a_pattern_in_it_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "part-[1].csv").write_text(csv_text())
    (tmp_path / "part-1.csv").write_text("not,this\n")
    assert len(load(tmp_path, PARTS.replace("*", "[1]")).labels) == 30


def test_files_of_a_pattern_must_have_one_header(tmp_path: Path) -> None:
    (tmp_path / "part-1.csv").write_text(csv_text(ROWS[:3]))
    (tmp_path / "part-2.csv").write_text(csv_text(ROWS[3:], header=(*COLUMNS[:-1], "more")))
    with pytest.raises(InputError, match=r"part-2\.csv: has another header than the first"):
        load(tmp_path, PARTS)


def test_a_pattern_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"part-\*\.csv: no file has such a name"):
        load(tmp_path, PARTS)


# --- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("where", "keep"),
    [
        ('{column = "consent", in = ["yes"]}', lambda row: row[5] == "yes"),
        ('{column = "consent", in = ["yes", "no"]}', lambda _: True),
        ('{column = "ward", not_in = ["a", "z"]}', lambda row: row[3] == "b"),
        ('{column = "ill", in = ["1"]}', lambda row: row[4] == 1),
        ('{column = "age", min = 30, max = 60}', lambda row: row[1] and 30 <= row[1] <= 60),
        ('{column = "age", max = 50}', lambda row: row[1] is not None and row[1] <= 50),
        ('{column = "age", not_in = ["18"]}', lambda row: row[1] not in {None, 18}),
        (
            '{column = "consent", in = ["yes"]}, {column = "dose", min = 2.5}',
            lambda row: row[5] == "yes" and row[2] >= 2.5,
        ),
    ],
)
def test_records_are_the_rows_that_meet_every_condition(
    tmp_path: Path, source: str, where: str, keep: Callable[[Row], bool]
) -> None:
    (tmp_path / "records.csv").write_text(csv_text())
    write_parquet(tmp_path / "records.parquet", ROWS)
    table = load(tmp_path, f"{source}\nwhere = [{where}]")
    assert 0 < len(table.labels) <= 30
    assert_same(table, expected(tmp_path, keep))


def test_a_condition_that_no_row_meets_leaves_no_record(tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_text(csv_text())
    table = load(tmp_path, SOURCES[0] + '\nwhere = [{column = "ward", in = ["nowhere"]}]')
    assert table.features.shape == (0, 6)


@pytest.mark.parametrize("source", SOURCES)
def test_what_only_a_condition_names_is_no_feature_and_what_nobody_names_is_not_read(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "records.csv").write_text(csv_text())
    write_parquet(tmp_path / "records.parquet", ROWS)
    declared = read(tmp_path, source + '\nwhere = [{column = "consent", in = ["yes"]}]')
    assert "consent" not in str(declared.feature_names())
    batches = list(read_cells(declared))
    assert {name for batch in batches for name in batch.column_names} == {*COLUMNS[:5]}
    assert not any(CANARY in str(batch.to_pydict()) for batch in batches)


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ('{column = "concent", in = ["yes"]}', "column 'concent' is absent"),
        ('{column = "secret", min = 1}', "column 'secret': a cell is not a number"),
    ],
)
@pytest.mark.parametrize("source", SOURCES)
def test_a_condition_that_does_not_fit_the_source_is_an_error(
    tmp_path: Path, source: str, where: str, problem: str
) -> None:
    (tmp_path / "records.csv").write_text(csv_text())
    write_parquet(tmp_path / "records.parquet", ROWS)
    with pytest.raises(InputError, match=problem) as caught:
        load(tmp_path, f"{source}\nwhere = [{where}]")
    assert CANARY not in str(caught.value)
