"""Whatever stands in a cell, nobody is told: neither by an error nor by a line of the log.

A value that can be recognised is planted where another kind of value is declared, in every column,
in every kind of source. Loading may fail or not; all that it says on the way is searched.
"""

import contextlib
import csv
import io
import sqlite3
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from logged import Logged, logged
from object_store import BUCKET, ObjectServer, object_server
from postgres import Cluster
from wards import COLUMNS, ROWS, write_declaration, write_private

from sordino_client.data.loading import load_datasets
from sordino_client.data.storage import Spill
from sordino_protocols.errors import SordinoError

WORD, NUMBER = "zq-planted-qz", 3133731337
NEEDLES = (WORD, str(NUMBER), WORD.encode().hex(), f"{float(NUMBER)}")
STRICT = 'outside = "reject"'
CONDITION = '\nwhere = [{column = "consent", min = 0}]'

Cell = str | int | float | bytes | list[str] | None
Write = Callable[[Path, list[list[Cell]]], str]
"""Puts rows where a source is, and says how it is declared."""

words = st.builds(
    lambda before, after: f"{before}{WORD}{after}",
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
    st.sampled_from(["", ",", '"', "\n", "1", "nan", "'; --"]),
)
numbers = st.sampled_from([NUMBER, -NUMBER, NUMBER + 0.5, f"{NUMBER}e", f" {NUMBER}"])
others = st.sampled_from([WORD.encode(), [WORD], f"{WORD}-01-01"])


def csv_source(directory: Path, rows: list[list[Cell]]) -> str:
    (directory / "records.csv").write_text(as_csv(rows), encoding="utf-8", newline="")
    return 'kind = "csv"\npath = "records.csv"'


def as_csv(rows: list[list[Cell]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([COLUMNS, *(["" if cell is None else cell for cell in row] for row in rows)])
    return text.getvalue()


def as_parquet(rows: list[list[Cell]]) -> bytes:
    columns = {}
    for name, cells in zip(COLUMNS, zip(*rows, strict=True), strict=True):
        kinds = {type(cell) for cell in cells if cell is not None}
        # A file has one type a column: where they are mixed, all of it is what was planted.
        whole = cells if len(kinds) <= 1 or kinds == {int, float} else [planted_in(cells)] * 30
        columns[name] = pa.array(whole)
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def planted_in(cells: tuple[Cell, ...]) -> Cell:
    return next(cell for cell in cells if any(each in repr(cell) for each in NEEDLES))


def parquet_source(directory: Path, rows: list[list[Cell]]) -> str:
    (directory / "records.parquet").write_bytes(as_parquet(rows))
    return 'kind = "parquet"\npath = "records.parquet"'


def sqlite_source(directory: Path, rows: list[list[Cell]]) -> str:
    with contextlib.closing(sqlite3.connect(directory / "wards.db")) as database, database:
        database.execute(f"CREATE TABLE stays ({', '.join(COLUMNS)})")
        database.executemany("INSERT INTO stays VALUES (?, ?, ?, ?, ?, ?, ?)", storable(rows))
    write_private(directory / "db.url", f"sqlite:///{directory}/wards.db")
    return 'kind = "sql"\nurl_file = "db.url"\ntable = "stays"'


def storable(rows: list[list[Cell]]) -> list[list[Cell]]:
    """A list has no place in a database: its words."""
    return [[str(cell) if isinstance(cell, list) else cell for cell in row] for row in rows]


def postgres_source(cluster: Cluster) -> Write:
    url = cluster.new_database()

    def write(directory: Path, rows: list[list[Cell]]) -> str:
        columns = zip(COLUMNS, zip(*storable(rows), strict=True), strict=True)
        declared = ", ".join(f"{name} {postgres_type(cells)}" for name, cells in columns)
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS stays")
            connection.exec_driver_sql(f"CREATE TABLE stays ({declared})")
            for row in storable(rows):
                connection.exec_driver_sql(
                    "INSERT INTO stays VALUES (%s, %s, %s, %s, %s, %s, %s)", tuple(row)
                )
        write_private(directory / "db.url", url.render_as_string(hide_password=False))
        return 'kind = "sql"\nurl_file = "db.url"\ntable = "stays"'

    return write


def postgres_type(cells: tuple[Cell, ...]) -> str:
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds <= {int, float}:
        return "double precision"
    return "bytea" if kinds == {bytes} else "text"


def object_source(server: ObjectServer) -> Write:
    def write(directory: Path, rows: list[list[Cell]]) -> str:
        server.put("records.parquet", as_parquet(rows))
        server.write_options(directory / "s3.options")
        return (
            f'kind = "parquet"\nurl = "s3://{BUCKET}/records.parquet"\noptions_file = "s3.options"'
        )

    return write


def said_when_loading(write: Write, column: str, row: int, cell: Cell, *, strict: bool) -> str:
    """Everything that anybody could read after records with this cell were loaded."""
    rows: list[list[Cell]] = [list(each) for each in ROWS]
    rows[row][COLUMNS.index(column)] = cell
    with tempfile.TemporaryDirectory() as name, logged(has_records=True) as heard:
        directory = Path(name)
        (directory / "datasets.d").mkdir()
        declaration = write_declaration(
            directory / "datasets.d",
            write(directory / "datasets.d", rows) + (CONDITION if column == "consent" else ""),
        )
        if strict:
            text = declaration.read_text().replace('other = "rest"', STRICT)
            declaration.write_text(text.replace("max = 10\n", f"max = 10\n{STRICT}\n"))
        return f"{error_of_loading(directory)}\n{heard.stream.getvalue()}"


def error_of_loading(directory: Path) -> str:
    """What an error says, with all that led to it; empty where there was none."""
    try:
        load_datasets(directory / "datasets.d", directory / "split.key", spill=Spill(directory))
    except SordinoError as error:
        return "\n".join(chain_of(error))
    return ""


def chain_of(error: BaseException | None) -> Iterator[str]:
    """An error and what it came of, hidden or not."""
    while error is not None:
        yield "".join(traceback.format_exception(error, chain=False))
        error = error.__cause__ or error.__context__


@pytest.fixture(scope="module", params=["csv", "parquet", "sqlite", "postgresql", "s3"])
def write(request: pytest.FixtureRequest) -> Iterator[Write]:
    match request.param:
        case "postgresql":
            yield postgres_source(request.getfixturevalue("postgres"))
        case "s3":
            with object_server() as server:
                yield object_source(server)
        case kind:
            yield {"csv": csv_source, "parquet": parquet_source, "sqlite": sqlite_source}[kind]


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    column=st.sampled_from(COLUMNS),
    row=st.integers(0, len(ROWS) - 1),
    cell=st.one_of(words, numbers, others),
    strict=st.booleans(),
)
def test_no_cell_is_ever_quoted(
    write: Write, column: str, row: int, cell: Cell, *, strict: bool
) -> None:
    said = said_when_loading(write, column, row, cell, strict=strict)
    assert not [each for each in NEEDLES if each in said], said


@pytest.mark.parametrize("column", COLUMNS[1:5])
def test_a_word_among_numbers_is_said_by_its_column(write: Write, column: str) -> None:
    # The search is for something that is said at all.
    said = said_when_loading(write, column, 3, WORD, strict=True)
    assert f"column '{column}'" in said


def test_the_search_finds_what_a_reader_would_quote(tmp_path: Path) -> None:
    with logged() as heard:
        leaky(heard)
    assert WORD in heard.stream.getvalue()
    source = csv_source(tmp_path, [[WORD, *ROWS[0][1:]]])
    assert WORD in (tmp_path / "records.csv").read_text()
    assert "csv" in source


def leaky(_: Logged) -> None:
    import structlog  # noqa: PLC0415

    structlog.get_logger(component="vault").warning("bad_cell", cell=WORD)
