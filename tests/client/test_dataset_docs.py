"""What docs/data.md shows of a data set's file is a data set's file."""

import re
from pathlib import Path

import pytest

from sordino_client.data.declaration import DatasetFile
from sordino_protocols.columns import AnyColumn
from sordino_protocols.files import parse_toml

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
BLOCKS = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
EXAMPLES = [each for each in BLOCKS if each.startswith("[dataset]")]
SOURCES = [each for each in BLOCKS if each.startswith("[source]")]


def read(example: str) -> DatasetFile:
    return parse_toml(example, DatasetFile, source=DOCS.name)


def column_types(columns: dict[str, AnyColumn]) -> set[str]:
    return {column.type for column in columns.values()}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_data_set(example: str) -> None:
    assert read(example).feature_count > 0


def test_the_examples_show_all_there_is() -> None:
    files = [read(example) for example in EXAMPLES]
    types = set[str]().union(*(column_types(file.columns) for file in files))
    assert types == {"integer", "number", "category", "vector", "tokens", "set", "text"}
    assert {file.task for file in files} == {"binary", "classes", "number"}
    assert {file.source.kind for file in files} == {"csv", "parquet"}
    assert {file.dataset.unit for file in files} == {None, "patient"}


@pytest.mark.parametrize("source", SOURCES)
def test_an_example_of_a_source_is_one(source: str) -> None:
    whole = re.sub(r"\[source\].*?(?=\n\[)", source, EXAMPLES[0], flags=re.DOTALL)
    assert read(whole).source.kind in {"csv", "sql"}


def test_the_sources_show_files_and_databases() -> None:
    assert len(SOURCES) == 2
