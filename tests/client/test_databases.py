"""A database gives the table that a Parquet file of its rows gives; nothing is written to it."""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from postgres import Cluster
from wards import CANARY, COLUMNS, ROWS, read, write_private

from sordino_client.data import cells
from sordino_client.data.connectors import load_table, read_cells
from sordino_client.data.declaration import DatasetFile
from sordino_client.data.table import Table
from sordino_protocols.errors import InputError, NotFoundError

STAYS = (
    "CREATE TABLE stays (patient TEXT, age INTEGER, dose NUMERIC(8, 3), ward TEXT, ill SMALLINT,"
    " consent TEXT, secret TEXT)"
)
INSERT = "INSERT INTO stays VALUES (:patient, :age, :dose, :ward, :ill, :consent, :secret)"
TABLE = 'kind = "sql"\nurl_file = "db.url"\ntable = "stays"'


class Database:
    """A database with the rows of `wards`, and a file that says where it is."""

    def __init__(self, directory: Path, url: sa.URL) -> None:
        self.directory = directory
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)
        write_private(directory / "db.url", url.render_as_string(hide_password=False) + "\n")
        self.run(STAYS)
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]
        with self.engine.begin() as connection:
            connection.execute(sa.text(INSERT), rows)

    def run(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def count(self) -> int:
        with self.engine.begin() as connection:
            return int(connection.exec_driver_sql("SELECT count(*) FROM stays").scalar_one())

    def declared(self, source: str = TABLE) -> DatasetFile:
        return read(self.directory, source)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "sqlite":
        url = sa.URL.create("sqlite", database=str(tmp_path / "wards.db"))
    else:
        cluster: Cluster = request.getfixturevalue("postgres")
        url = cluster.new_database()
    made = Database(tmp_path, url)
    yield made
    made.engine.dispose()


def as_parquet(directory: Path, *, where: Callable[[int], bool] = lambda _: True) -> Table:
    kept = [row for number, row in enumerate(ROWS) if where(number)]
    columns = {name: pa.array(cell) for name, cell in zip(COLUMNS, zip(*kept, strict=True))}  # noqa: B905
    pyarrow.parquet.write_table(pa.table(columns), directory / "records.parquet")
    return load_table(read(directory, 'kind = "parquet"\npath = "records.parquet"'))


def assert_same(table: Table, other: Table) -> None:
    assert table.features.tobytes() == other.features.tobytes()
    assert np.array_equal(table.labels, other.labels)
    assert table.entities is not None
    assert other.entities is not None
    assert np.array_equal(table.entities.order, other.entities.order)
    assert np.array_equal(table.entities.starts, other.entities.starts)


def test_a_table_is_what_a_parquet_file_of_its_rows_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = as_parquet(database.directory)
    assert_same(load_table(database.declared()), expected)
    monkeypatch.setattr(cells, "BATCH_CELLS", 8 * 5 * 7)
    sizes = [batch.num_rows for batch in read_cells(database.declared())]
    assert sizes == [0, 7, 7, 7, 7, 2]
    assert_same(load_table(database.declared()), expected)


def test_only_declared_columns_are_fetched(database: Database) -> None:
    batches = list(read_cells(database.declared()))
    assert {name for batch in batches for name in batch.column_names} == {*COLUMNS[:5]}
    assert not any(CANARY in str(batch) for batch in batches)
    if database.engine.dialect.name == "postgresql":
        # Whoever may read the declared columns alone can be the vault's role.
        database.run("CREATE ROLE vault LOGIN")
        database.run("GRANT SELECT (patient, age, dose, ward, ill) ON stays TO vault")
        try:
            url = database.engine.url.set(username="vault")
            (database.directory / "db.url").write_text(url.render_as_string(hide_password=False))
            assert sum(batch.num_rows for batch in read_cells(database.declared())) == 30
            query = TABLE.replace('table = "stays"', 'query = "SELECT * FROM stays"')
            with pytest.raises(InputError, match="InsufficientPrivilege 42501"):
                load_table(database.declared(query))
        finally:
            database.run("DROP OWNED BY vault; DROP ROLE vault")


def test_a_query_is_the_admins(database: Database) -> None:
    query = (
        "SELECT patient, age, dose, ward, ill, consent FROM stays WHERE consent = 'yes'"
        " AND secret LIKE 'canary-%' AND ':x' <> '%s' -- no more than that"
    )
    source = f'kind = "sql"\nurl_file = "db.url"\nquery = """{query}"""'
    assert_same(
        load_table(database.declared(source)),
        as_parquet(database.directory, where=lambda number: number % 4 != 0),
    )
    nested = query.replace("SELECT", "WITH all_stays AS (SELECT * FROM stays) SELECT", 1)
    assert load_table(database.declared(source.replace(query, nested))).labels.shape == (22,)


def test_a_table_in_a_schema(database: Database) -> None:
    in_schema = TABLE + '\nschema = "{}"'
    name = "main" if database.engine.dialect.name == "sqlite" else "public"
    assert load_table(database.declared(in_schema.format(name))).labels.shape == (30,)
    with pytest.raises(InputError, match="the database cannot be read"):
        load_table(database.declared(in_schema.format("elsewhere")))


@pytest.mark.parametrize("name", ["age", "ward"])
def test_an_absent_column_is_named(database: Database, name: str) -> None:
    # SQLite takes an unknown name in double quotes for a text.
    database.run(f"ALTER TABLE stays RENAME COLUMN {name} TO other")
    with pytest.raises(InputError, match=f"table 'stays': column '{name}' is absent"):
        load_table(database.declared())


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            "nothing",
            "the database cannot be read: (UndefinedTable 42P01|OperationalError SQLITE_ERROR)",
        )
    ],
)
def test_an_absent_table_is_said_with_the_databases_code(
    database: Database, table: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        load_table(database.declared(TABLE.replace("stays", table)))


def test_a_query_that_writes_fails_and_writes_nothing(database: Database) -> None:
    queries = ["WITH gone AS (DELETE FROM stays RETURNING *) SELECT * FROM gone"]
    if database.engine.dialect.name == "postgresql":
        database.run(
            "CREATE FUNCTION wipe() RETURNS SETOF stays AS"
            " 'DELETE FROM stays RETURNING *' LANGUAGE sql"
        )
        queries.append("SELECT * FROM wipe()")
    for query in queries:
        with pytest.raises(InputError, match="the database cannot be read"):
            load_table(database.declared(TABLE.replace('table = "stays"', f'query = "{query}"')))
        assert database.count() == 30


def test_what_a_database_says_of_a_record_is_not_repeated(database: Database) -> None:
    cast = f"CAST('{CANARY}' AS INTEGER)"
    if database.engine.dialect.name == "sqlite":
        cast = f"json_extract('{CANARY}', '$.x')"
    query = f"SELECT patient, {cast} AS age, dose, ward, ill FROM stays"  # noqa: S608
    source = TABLE.replace('table = "stays"', f'query = "{query}"')
    with pytest.raises(InputError) as caught:
        load_table(database.declared(source))
    assert CANARY not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_types_that_are_neither_text_nor_numbers_are_refused(
    tmp_path: Path, postgres: Cluster
) -> None:
    database = Database(tmp_path, postgres.new_database())
    database.run(f"ALTER TABLE stays ALTER dose TYPE date USING '{dt.date(2020, 1, 1)}'::date")
    with pytest.raises(InputError, match=r"column 'dose': type date32\[day\] is not supported"):
        load_table(database.declared())


def test_cells_of_several_types_in_one_column_are_judged_as_in_a_csv_file(tmp_path: Path) -> None:
    database = Database(tmp_path, sa.URL.create("sqlite", database=str(tmp_path / "w.db")))
    database.run("UPDATE stays SET ward = 7 WHERE age IS NULL")
    database.run("UPDATE stays SET dose = '2.5' WHERE age IS NULL")
    table = load_table(database.declared())
    names = database.declared().feature_names()
    assert table.features[0, names.index("ward=rest")] == 1.0
    assert table.features[0, names.index("dose")] == pytest.approx(-0.5)
    database.run(f"UPDATE stays SET dose = '{CANARY}' WHERE age IS NULL")  # noqa: S608
    with pytest.raises(InputError, match="column 'dose': a cell is not a number") as caught:
        load_table(database.declared())
    assert CANARY not in str(caught.value)


def test_sqlite_is_opened_read_only(tmp_path: Path) -> None:
    write_private(tmp_path / "db.url", f"sqlite:///{tmp_path}/absent.db")
    with pytest.raises(InputError, match="cannot be read: OperationalError SQLITE_CANTOPEN"):
        load_table(read(tmp_path, TABLE))
    assert not (tmp_path / "absent.db").exists()
    sqlite3.connect(tmp_path / "absent.db").close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("hunter2", "expected one line with a URL"),
        ("", "expected one line with a URL"),
        ("mysql://me:hunter2@db/x", "expected one line with a URL"),
        ("nothing+hunter2://x", "expected one line with a URL"),
        ("sqlite:///hunter2.db", "four slashes"),
        ("sqlite://", "four slashes"),
        ("postgresql://me:hunter2@127.0.0.1:1/x", "cannot be read: OperationalError"),
        ("postgresql+asyncpg://me:hunter2@127.0.0.1:1/x", "cannot be read: OperationalError"),
    ],
)
def test_a_url_never_stands_in_an_error(tmp_path: Path, url: str, expected: str) -> None:
    write_private(tmp_path / "db.url", url)
    with pytest.raises(InputError) as caught:
        load_table(read(tmp_path, TABLE))
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_absent_url_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"db\.url: no such file"):
        load_table(read(tmp_path, TABLE))
