"""A small data set whose records can lie in any source, for tests of the sources."""

from pathlib import Path

from sordino_client.data.declaration import DatasetFile, read_dataset

CANARY = "canary-31337"
"""Stands in a column that no data set declares: whoever reads it leaks it."""

COLUMNS = ("patient", "age", "dose", "ward", "ill", "consent", "secret")
SCHEMA = """
[dataset]
name = "{name}"
version = 1
unit = "patient"
max_records_per_unit = 4
order_of_magnitude = 10
holdout_fraction = 0.3
{dataset}
[columns.age]
type = "integer"
min = 20
max = 90
nullable = true
[columns.dose]
type = "number"
min = 0
max = 10
[columns.ward]
type = "category"
values = ["a", "b"]
other = "rest"
[columns.ill]
type = "integer"
min = 0
max = 1
[roles]
label = "ill"
positive_above = 0
"""
Row = tuple[str, int | None, float, str, int, str, str]


def _row(number: int) -> Row:
    age = None if number % 5 == 0 else 15 + 3 * number
    consent = "yes" if number % 4 else "no"
    ward, ill = "abz"[number % 3], number % 2
    return f"p{number % 7}", age, number / 4, ward, ill, consent, f"{CANARY}-{number}"


ROWS = [_row(number) for number in range(30)]


def csv_text(rows: list[Row] = ROWS, *, header: tuple[str, ...] = COLUMNS) -> str:
    """The rows as a CSV file."""
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    return "\n".join([",".join(header), *lines]) + "\n"


def write_declaration(
    directory: Path, source: str, *, name: str = "wards", dataset: str = ""
) -> Path:
    """A data set's file with this `[source]`, and these lines more in `[dataset]`."""
    path = directory / f"{name}.toml"
    path.write_text(SCHEMA.format(name=name, dataset=dataset) + f"[source]\n{source}\n")
    return path


def read(directory: Path, source: str, *, name: str = "wards", dataset: str = "") -> DatasetFile:
    """That file, read."""
    return read_dataset(write_declaration(directory, source, name=name, dataset=dataset))


def write_private(path: Path, text: str) -> Path:
    """A file that its owner alone may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path
