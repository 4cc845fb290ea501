"""The same records under two names draw on one budget, or the vault does not start."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from wards import COLUMNS, ROWS, csv_text, write_declaration, write_private

from sordino_client.data.copies import require_lineages
from sordino_client.data.declaration import read_dataset
from sordino_client.data.loading import load_datasets
from sordino_client.data.storage import Spill
from sordino_protocols.errors import InputError

RECORDS = 'kind = "csv"\npath = "records.csv"'
WHERE = '\nwhere = [{column = "consent", in = ["yes"]}]'
TABLE = 'kind = "sql"\nurl_file = "db.url"\ntable = "stays"'
OBJECT = 'kind = "csv"\nurl = "s3://wards/part-1.csv"'


def query(text: str) -> str:
    return TABLE.replace('table = "stays"', f'query = "{text}"')


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "records.csv").write_text(csv_text())
    (tmp_path / "copy.csv").write_text(csv_text())
    (tmp_path / "others.csv").write_text(csv_text(ROWS[::-1]))
    (tmp_path / "fewer.csv").write_text(csv_text(ROWS[1:]))
    (tmp_path / "link.csv").symlink_to(tmp_path / "records.csv")
    (tmp_path / "hard.csv").hardlink_to(tmp_path / "others.csv")
    cells = map(pa.array, zip(*ROWS, strict=True))
    table = pa.table(dict(zip(COLUMNS, cells, strict=True)))
    pyarrow.parquet.write_table(table, tmp_path / "records.parquet")
    write_private(tmp_path / "db.url", "postgresql://me:hunter2@db.example/wards")
    write_private(tmp_path / "same.url", "postgresql+psycopg://you@db.example:5432/wards?x=1")
    write_private(tmp_path / "other.url", "postgresql://me:hunter2@db.example/clinic")
    write_private(tmp_path / "file.url", f"sqlite:///{tmp_path}/wards.db")
    return tmp_path


def check(directory: Path, first: str, second: str, *, first_lineage: str = "") -> None:
    paths = [
        write_declaration(directory, first, name="one", dataset=first_lineage),
        write_declaration(directory, second, name="two"),
    ]
    require_lineages({path: read_dataset(path) for path in paths})


SAME = [
    (RECORDS, RECORDS),
    (RECORDS, RECORDS + WHERE),
    (RECORDS, RECORDS.replace("records", "copy")),
    (RECORDS, RECORDS.replace("records", "link")),
    (RECORDS, RECORDS.replace("records", "rec*")),
    (RECORDS.replace("records", "others"), RECORDS.replace("records", "hard")),
    (TABLE, TABLE),
    (TABLE, TABLE.replace("stays", "STAYS")),
    (TABLE, TABLE.replace("db.url", "same.url")),
    (TABLE, query("SELECT * FROM stays WHERE age > 50")),
    (query("SELECT * FROM a, b"), query("select *\\n FROM  a, b")),
    (OBJECT, OBJECT),
    (OBJECT, OBJECT.replace("part-1", "part-*") + WHERE),
]
DIFFERENT = [
    (RECORDS, RECORDS.replace("records", "others")),
    (RECORDS, RECORDS.replace("records", "fewer")),
    (RECORDS, RECORDS.replace("csv", "parquet")),
    (RECORDS, TABLE),
    (TABLE, TABLE.replace("stays", "visits")),
    (TABLE, TABLE.replace("db.url", "other.url")),
    (TABLE, TABLE.replace("db.url", "file.url")),
    (TABLE, query("SELECT * FROM outstays")),
    (query("SELECT * FROM a"), query("SELECT * FROM b")),
    (OBJECT, OBJECT.replace("part-1", "part-2")),
    (OBJECT, RECORDS),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_the_same_records_must_share_a_lineage(directory: Path, first: str, second: str) -> None:
    with pytest.raises(InputError) as caught:
        check(directory, first, second)
    said = str(caught.value)
    assert said.startswith(f"{directory / 'one.toml'} and {directory / 'two.toml'}: ")
    assert said.endswith("fix: set lineage = 'one' in [dataset] of both")
    assert "hunter2" not in said
    check(directory, first, second, first_lineage='lineage = "two"')


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_records_may_have_a_budget_each(directory: Path, first: str, second: str) -> None:
    check(directory, first, second)
    check(directory, second, first)


def test_every_pair_of_data_sets_is_compared(directory: Path) -> None:
    for name in ("one", "two", "three"):
        source = RECORDS if name != "two" else RECORDS.replace("records", "others")
        write_declaration(directory, source, name=name)
    key, spill = directory / "split.key", Spill(directory)
    with pytest.raises(InputError, match=r"one\.toml and .*three\.toml"):
        load_datasets(directory, key, spill=spill)
    assert not key.exists()
    write_declaration(directory, RECORDS, name="three", dataset='lineage = "one"')
    loaded = load_datasets(directory, key, spill=spill)
    assert {name: each.schema.lineage for name, each in loaded.items()} == {
        "one": "one",
        "two": "two",
        "three": "one",
    }
