import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino.heart import ORDERS_OF_MAGNITUDE, write_dataset
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.data.encode import encode
from sordino_client.data.table import Table
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

CANARY = "canary-31337"
HEAD = """
[dataset]
name = "patients"
version = 1
order_of_magnitude = 10
holdout_fraction = 0.2
[columns.age]
type = "integer"
min = 20
max = 100
nullable = true
[columns.dose]
type = "number"
min = 1
max = 10
scale = "log1p"
outside = "missing"
nullable = true
[columns.ward]
type = "category"
values = ["a", "b"]
other = "rest"
[columns.blood]
type = "category"
values = ["0", "A"]
outside = "missing"
nullable = true
[columns.ill]
type = "number"
min = 0
max = 4
[roles]
label = "ill"
positive_above = 0
"""
SCHEMA = parse_toml(HEAD, Schema, source="patients.toml")


def frame(**cells: object) -> pd.DataFrame:
    row = {"age": "60", "dose": "1", "ward": "a", "blood": "A", "ill": "1"} | cells
    return pd.DataFrame({name: pd.Series([cell], dtype=object) for name, cell in row.items()})


def features(**cells: object) -> dict[str, float]:
    table = encode(frame(**cells), SCHEMA)
    return dict(zip(SCHEMA.feature_names(), table.features[0].tolist(), strict=True))


def test_numbers_are_scaled_by_public_bounds() -> None:
    assert features(age="20")["age"] == -1.0
    assert features(age=60)["age"] == 0.0
    assert features(age=100.0)["age"] == 1.0
    half_way = math.expm1(math.log1p(9) / 2) + 1
    assert features(dose=half_way)["dose"] == pytest.approx(0.0, abs=1e-6)


def test_out_of_domain_becomes_what_the_schema_says() -> None:
    assert features(age="1e300")["age"] == 1.0
    assert features(age=-math.inf)["age"] == -1.0
    outside = features(dose="0")
    assert (outside["dose"], outside["dose:missing"]) == (0.0, 1.0)
    assert features(ward="elsewhere")["ward=rest"] == 1.0
    assert features(blood="B")["blood:missing"] == 1.0


@pytest.mark.parametrize("cell", [None, math.nan, pd.NA])
def test_missing_is_zero_with_an_indicator(cell: object) -> None:
    got = features(age=cell, blood=cell)
    assert (got["age"], got["age:missing"]) == (0.0, 1.0)
    assert [got[f"blood{end}"] for end in ("=0", "=A", ":missing")] == [0.0, 0.0, 1.0]


def test_one_word_is_one() -> None:
    got = features(ward="b")
    assert [got[f"ward={word}"] for word in ("a", "b", "rest")] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(("cell", "label"), [("0", 0.0), ("0.5", 1.0), ("-3", 0.0), ("9", 1.0)])
def test_labels_follow_the_rule_after_clipping(cell: str, label: float) -> None:
    assert encode(frame(ill=cell), SCHEMA).labels.tolist() == [label]


def test_a_category_label_is_positive_at_its_words() -> None:
    text = HEAD.replace('label = "ill"', 'label = "ward"').replace(
        "positive_above = 0", 'positive_values = ["b", "rest"]'
    )
    schema = parse_toml(text, Schema, source="x")
    data = pd.concat([frame(ward=word) for word in ("a", "b", "z")])
    assert encode(data, schema).labels.tolist() == [0.0, 1.0, 1.0]


numbers = st.none() | st.integers() | st.floats() | st.floats(allow_nan=False).map(repr)
words = st.none() | st.text() | st.integers() | st.booleans() | st.sampled_from(["a", "b", "A"])


@given(
    st.lists(
        st.fixed_dictionaries(
            {"age": numbers, "dose": numbers | st.text(), "ward": st.text(), "blood": words}
        ),
        max_size=5,
    )
)
def test_any_cells_give_finite_features_of_the_declared_shape(
    rows: list[dict[str, object]],
) -> None:
    data = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]}
        if rows
        else {name: pd.Series(dtype=object) for name in SCHEMA.columns}
    ).assign(ill=1)
    table = encode(data, SCHEMA)
    assert table.features.shape == (len(rows), SCHEMA.feature_count)
    assert table.features.dtype == table.labels.dtype == np.float32
    assert table.features.flags.c_contiguous
    assert np.all(np.abs(table.features) <= 1.0)
    for index in range(len(rows)):
        # A record's encoding is its own: alone it is the same.
        alone = encode(data.iloc[[index]], SCHEMA)
        assert np.array_equal(alone.features[0], table.features[index])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"age": CANARY}, "column 'age': a cell is not a number"),
        ({"age": "nan"}, "column 'age': a cell is not a number"),
        ({"ward": None}, "column 'ward': a cell is missing and the column is not nullable"),
        ({"ill": CANARY}, "column 'ill': a cell is not a number"),
        ({"ill": None}, "column 'ill': a cell is missing"),
    ],
)
def test_errors_name_column_and_rule_only(cells: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        encode(frame(**cells), SCHEMA, source="file.csv")
    assert str(caught.value).startswith(f"file.csv: {expected}")
    assert_silent(caught.value)


def test_reject_refuses_what_is_outside() -> None:
    strict = HEAD.replace("max = 100\n", 'max = 100\noutside = "reject"\n').replace(
        'other = "rest"\n', ""
    )
    schema = parse_toml(strict, Schema, source="x")
    for cells in ({"age": "31337"}, {"ward": CANARY}):
        with pytest.raises(InputError, match="outside = 'reject'") as caught:
            encode(frame(**cells), schema)
        assert_silent(caught.value)


def assert_silent(error: BaseException | None) -> None:
    """Nothing of a record in an error, nor in what a log might print of its history."""
    while error is not None:
        assert "31337" not in str(error)
        error = error.__cause__ or error.__context__


HEADER = "age,dose,ward,blood,ill,secret\n"
GOOD = '60,2,a,A,1,x\n,"",b,?,0,y\n'


def write_csv(directory: Path, content: str, *, extra: str = "") -> Path:
    (directory / "patients.csv").write_text(content, encoding="utf-8")
    source = f'[source]\nkind = "csv"\npath = "patients.csv"\n{extra}'
    (directory / "patients.toml").write_text(HEAD + source)
    return directory / "patients.toml"


def load(path: Path) -> Table:
    return load_table(read_dataset(path))


def test_reads_a_csv_file_beside_its_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path, HEADER + GOOD, extra='missing = ["?"]')
    monkeypatch.chdir("/")
    table = load(path)
    assert table.labels.tolist() == [1.0, 0.0]
    missing = [SCHEMA.feature_names().index(f"{name}:missing") for name in ("age", "dose", "blood")]
    assert table.features[:, missing].tolist() == [[0.0] * 3, [1.0] * 3]


def test_reads_a_file_without_records(tmp_path: Path) -> None:
    table = load(write_csv(tmp_path, HEADER))
    assert table.features.shape == (0, SCHEMA.feature_count)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float32(), pa.string(), pa.bool_()])
def test_parquet_and_csv_agree_whatever_the_stored_type(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {
        "ill": pa.array([1, 0, 1]).cast(kind),
        "blood": pa.array([0, None, 1]).cast(pa.int64() if kind == pa.bool_() else kind),
        "age": pa.array([30, None, 40]),
        "dose": pa.array([1.5, 2.5, None]),
        "ward": pa.array(["a", "b", "c"]).dictionary_encode(),
        "unread": pa.array([CANARY] * 3),
    }
    if kind == pa.string():
        columns["age"] = columns["age"].cast(kind)
    if kind == pa.bool_():
        columns["ill"] = pa.array([True, False, True])
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    (tmp_path / "p.toml").write_text(HEAD + '[source]\nkind = "parquet"\npath = "p.parquet"')
    lines = "30,1.5,a,0,1,\n,2.5,b,,0,\n40,,c,1,1,\n"
    expected = load(write_csv(tmp_path, HEADER + lines))
    table = load(tmp_path / "p.toml")
    assert np.array_equal(table.features, expected.features)
    assert np.array_equal(table.labels, expected.labels)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "column 'age' is absent"),
        ("age,dose\n1,2\n", "column 'ward' is absent"),
        ("age," + HEADER + GOOD, "column 'age' stands there twice"),
        (HEADER + f"1,2,{CANARY}\n", "garbled"),
        (HEADER + f"1,2,a,A,1,x,{CANARY}\n", "garbled"),
        (HEADER + f"{CANARY},2,a,A,1,x\n", "column 'age': a cell is not a number"),
        (HEADER + f"=1+1|{CANARY},2,a,A,1,x\n", "column 'age': a cell is not a number"),
        (HEADER + "nan,2,a,A,1,x\n", "column 'age': a cell is not a number"),
    ],
)
def test_a_bad_csv_file_is_named_and_not_quoted(
    tmp_path: Path, content: str, expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(write_csv(tmp_path, content))
    assert expected in str(caught.value)
    assert str(tmp_path / "patients.csv") in str(caught.value)
    assert_silent(caught.value)


def test_a_file_that_is_not_utf8_or_absent_is_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "")
    (tmp_path / "patients.csv").write_bytes(HEADER.encode() + b"1,2,\xff31337,A,1,x\n")
    with pytest.raises(InputError, match="UTF-8") as caught:
        load(path)
    assert_silent(caught.value)
    (tmp_path / "patients.csv").unlink()
    with pytest.raises(InputError, match=r"patients\.csv: no readable CSV file"):
        load(path)


def test_bad_parquet_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(HEAD + '[source]\nkind = "parquet"\npath = "p.parquet"')
    (tmp_path / "p.parquet").write_text(CANARY)
    with pytest.raises(InputError, match="no readable Parquet") as caught:
        load(path)
    assert_silent(caught.value)
    pyarrow.parquet.write_table(pa.table({"age": [31337]}), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="column 'dose' is absent") as caught:
        load(path)
    assert_silent(caught.value)
    columns = {name: ["1"] for name in SCHEMA.columns} | {"age": [["31337"]]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
    with pytest.raises(InputError, match="column 'age': type") as caught:
        load(path)
    assert_silent(caught.value)


def test_what_is_public_has_no_source(tmp_path: Path) -> None:
    dataset = read_dataset(write_csv(tmp_path, HEADER))
    assert type(dataset.public) is Schema
    assert dataset.public.digest() == dataset.digest()
    assert "patients.csv" not in dataset.public.model_dump_json()


@pytest.mark.parametrize(
    ("site", "records", "ill"),
    [("cleveland", 303, 139), ("hungarian", 294, 106), ("switzerland", 123, 115), ("va", 200, 149)],
)
def test_the_hospitals_have_their_published_records(
    tmp_path: Path, site: str, records: int, ill: int
) -> None:
    dataset = read_dataset(write_dataset(site, tmp_path))
    table = load_table(dataset)
    assert table.features.shape == (records, dataset.feature_count)
    assert int(table.labels.sum()) == ill
    assert dataset.dataset.order_of_magnitude == ORDERS_OF_MAGNITUDE[site]
    cholesterol = table.features[:, dataset.feature_names().index("chol:missing")]
    assert int(cholesterol.sum()) == {"switzerland": 123, "va": 56, "hungarian": 23}.get(site, 0)


def test_the_hospitals_share_their_features(tmp_path: Path) -> None:
    datasets = [read_dataset(write_dataset(site, tmp_path / site)) for site in ORDERS_OF_MAGNITUDE]
    assert len({dataset.feature_digest() for dataset in datasets}) == 1
