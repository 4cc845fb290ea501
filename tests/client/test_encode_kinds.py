"""Labels of three tasks, vectors and tokens, from cells to arrays, and the units behind them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.data.encode import encode
from sordino_client.data.table import Table
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

HEAD = """
[dataset]
name = "visits"
version = 1
order_of_magnitude = 10
holdout_fraction = 0.2
"""
UNIT = '\nunit = "patient"\nmax_records_per_unit = 4\n'
SIGNAL = """
[columns.signal]
type = "vector"
count = 3
min = -10
max = 10
"""
WORDS = """
[columns.word]
type = "tokens"
length = 2
vocabulary = 1048576
"""
GRADE = """
[columns.grade]
type = "integer"
min = 1
max = 4
"""
LABELS = (
    GRADE
    + """
[columns.kind]
type = "category"
values = ["cat", "dog"]
other = "rest"
[columns.cost]
type = "number"
min = 0
max = 1000
scale = "log1p"
"""
)
CELLS: dict[str, object] = {
    "signal_0": "-10",
    "signal_1": "0",
    "signal_2": "5",
    "word_0": "0",
    "word_1": "1048575",
    "grade": "3",
    "kind": "dog",
    "cost": "0",
}


def schema_of(columns: str = SIGNAL, *, label: str = "grade", task: str = "classes") -> Schema:
    """A schema with one of the labels; the others are declared by nobody."""
    [declared] = [part for part in LABELS.split("[columns.") if part.startswith(label)]
    text = f'{HEAD}{columns}[columns.{declared}[roles]\nlabel = "{label}"\ntask = "{task}"\n'
    return parse_toml(text, Schema, source="visits.toml")


def frame(*rows: Mapping[str, object]) -> pd.DataFrame:
    full = [CELLS | dict(row) for row in rows]
    return pd.DataFrame({n: pd.Series([row[n] for row in full], dtype=object) for n in CELLS})


@pytest.mark.parametrize(
    ("label", "task", "cells", "expected"),
    [
        ("grade", "classes", ["1", 4, 2.4, "99"], [0, 3, 1, 3]),
        ("kind", "classes", ["cat", "dog", "rest", "bird"], [0, 1, 2, 2]),
        ("grade", "number", ["1", "4", "2.5", "99"], [-1, 1, -1 / 3, 1]),
        ("cost", "number", ["0", 1000, "1e9", np.sqrt(1001) - 1], [-1, 1, 1, 0]),
    ],
)
def test_labels_are_what_the_task_learns(
    label: str, task: str, cells: list[object], expected: list[float]
) -> None:
    table = encode(frame(*({label: cell} for cell in cells)), schema_of(label=label, task=task))
    assert table.labels.dtype == np.float32
    np.testing.assert_allclose(table.labels, expected, atol=1e-6)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=5))
def test_a_scaled_label_goes_back_to_its_units(costs: list[float]) -> None:
    schema = schema_of(label="cost", task="number")
    table = encode(frame(*({"cost": cost} for cost in costs)), schema)
    back = schema.label_in_units(table.labels.astype(np.float64))
    np.testing.assert_allclose(back, costs, rtol=1e-4, atol=1e-3)


def test_a_vector_is_scaled_as_one_block() -> None:
    table = encode(frame({}, {"signal_1": 99, "signal_2": "-1e300"}), schema_of())
    assert table.features.dtype == np.float32
    assert table.features.tolist() == [[-1.0, 0.0, 0.5], [-1.0, 1.0, -1.0]]
    assert table.features.flags.c_contiguous


def test_a_vector_stands_beside_other_columns() -> None:
    schema = schema_of(SIGNAL + LABELS.replace("grade", "z"), label="grade")
    table = encode(frame({"z": "4"}).assign(z="4"), schema)
    named = dict(zip(schema.feature_names(), table.features[0].tolist(), strict=True))
    assert [named["signal[2]"], named["kind=dog"], named["kind=cat"], named["z"]] == [0.5, 1, 0, 1]


def test_tokens_stay_what_they_are() -> None:
    table = encode(frame({}, {"word_0": None, "word_1": 7.0}), schema_of(WORDS))
    assert table.features.dtype == np.int64
    assert table.features.tolist() == [[0, 1048575], [0, 7]]


@pytest.mark.parametrize("kind", ["object", "float64", "Int64", "int32"])
def test_the_type_that_numbers_are_stored_in_has_no_effect(kind: str) -> None:
    cells = frame({}, {"signal_0": "4"})
    stored = cells.assign(**{f"signal_{i}": cells[f"signal_{i}"].astype(float) for i in range(3)})
    stored = stored.astype(dict.fromkeys(["signal_0", "signal_1", "signal_2"], kind))
    assert np.array_equal(encode(stored, schema_of()).features, encode(cells, schema_of()).features)


@pytest.mark.parametrize(
    ("columns", "cells", "expected"),
    [
        (SIGNAL, {"signal_1": "canary-31337"}, "column 'signal': a cell is not a number"),
        (SIGNAL, {"signal_1": "nan"}, "column 'signal': a cell is not a number"),
        (SIGNAL, {"signal_1": None}, "column 'signal': a cell is missing; a vector has none"),
        (WORDS, {"word_1": "31337.5"}, "column 'word': a cell is no whole number from 0 to"),
        (WORDS, {"word_1": -31337}, "column 'word': a cell is no whole number from 0 to"),
        (WORDS, {"word_1": 2**20}, "column 'word': a cell is no whole number from 0 to"),
        (WORDS, {"word_1": "inf"}, "column 'word': a cell is no whole number from 0 to"),
        (WORDS, {"word_1": "nan"}, "column 'word': a cell is not a number"),
        (SIGNAL, {"grade": None}, "column 'grade': a cell is missing"),
    ],
)
def test_errors_name_column_and_rule_only(
    columns: str, cells: dict[str, object], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        encode(frame({}, cells), schema_of(columns), source="file.csv")
    assert str(caught.value).startswith(f"file.csv: {expected}")
    assert "31337" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_absent_column_of_a_block_is_named() -> None:
    with pytest.raises(InputError, match="column 'signal_1' is absent"):
        encode(frame({}).drop(columns="signal_1"), schema_of())


NAMES = ("signal_0", "signal_1", "signal_2", "grade")
HEADER = "patient," + ",".join(NAMES) + "\n"
ROWS = HEADER + "b,1,2,3,1\na,4,5,6,2\nb,7,8,9,3\n 1,0,0,0,4\n"


def write(directory: Path, content: str, *, kind: str = "csv") -> Path:
    text = (HEAD + SIGNAL + GRADE).replace("version = 1", "version = 1" + UNIT)
    source = f'[source]\nkind = "{kind}"\npath = "visits.{kind}"\n'
    (directory / "visits.csv").write_text(content)
    (directory / "visits.toml").write_text(
        f'{text}[roles]\nlabel = "grade"\ntask = "classes"\n{source}'
    )
    return directory / "visits.toml"


def rows_by_entity(table: Table) -> list[list[int]]:
    assert table.entities is not None
    order, starts = table.entities.order, table.entities.starts
    return [each.tolist() for each in np.split(order, starts[1:-1])]


def test_rows_are_grouped_by_the_unit_column(tmp_path: Path) -> None:
    table = load_table(read_dataset(write(tmp_path, ROWS)))
    assert rows_by_entity(table) == [[0, 2], [1], [3]]
    assert table.labels.tolist() == [0, 1, 2, 3]


def test_a_file_without_records_has_no_entities(tmp_path: Path) -> None:
    table = load_table(read_dataset(write(tmp_path, HEADER)))
    assert rows_by_entity(table) == [[]]
    assert table.features.shape == (0, 3)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_a_unit_may_be_stored_in_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    path = write(tmp_path, "", kind="parquet")
    text = pa.array(["7", "8", "7"])
    unit = text.dictionary_encode() if pa.types.is_dictionary(kind) else text.cast(kind)
    columns = {name: pa.array([1, 2, 3]) for name in NAMES}
    pyarrow.parquet.write_table(pa.table(columns | {"patient": unit}), tmp_path / "visits.parquet")
    assert rows_by_entity(load_table(read_dataset(path))) == [[0, 2], [1]]


def test_a_unit_column_that_is_absent_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS.replace("patient", "who"))
    with pytest.raises(InputError, match=r"visits\.csv: column 'patient' is absent"):
        load_table(read_dataset(path))


def test_a_missing_unit_is_an_error_that_tells_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, ROWS.replace("a,4", ",4"))
    with pytest.raises(InputError) as caught:
        load_table(read_dataset(path))
    place = tmp_path / "visits.csv"
    assert str(caught.value) == f"{place}: a cell of the unit column is missing"
