"""What breaks a declaration is counted, for the site's own log and for nobody else."""

from pathlib import Path

import pandas as pd
import pytest
import structlog
from wards import write_declaration

from sordino_client.data.encode import Violations, encode
from sordino_client.data.loading import load_datasets
from sordino_client.data.storage import Spill
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

SCHEMA = """
[dataset]
name = "kinds"
version = 1
order_of_magnitude = 10
holdout_fraction = 0.5
[columns.clipped]
type = "integer"
min = 0
max = 10
[columns.dropped]
type = "number"
min = 0
max = 10
outside = "missing"
nullable = true
[columns.word]
type = "category"
values = ["a", "b"]
other = "rest"
[columns.unknown]
type = "category"
values = ["a", "b"]
outside = "missing"
nullable = true
[columns.scan]
type = "vector"
count = 2
min = 0
max = 10
[columns.label]
type = "integer"
min = 0
max = 1
[roles]
label = "label"
positive_above = 0
"""
FINE = {
    "clipped": ["5"] * 4,
    "dropped": ["5", None, "5", "5"],
    "word": ["a", "b", "rest", "a"],
    "unknown": ["a", "b", None, "a"],
    "scan_0": ["1"] * 4,
    "scan_1": ["2"] * 4,
    "label": ["0", "1", "0", "1"],
}


def counted(cells: dict[str, list[str | None]]) -> Violations:
    violations = Violations()
    schema = parse_toml(SCHEMA, Schema, source="kinds.toml")
    frame = pd.DataFrame(FINE | cells, dtype=object)
    encode(frame, schema, violations=violations)
    encode(frame, schema)
    return violations


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({}, {}),
        ({"clipped": ["-1", "11", "10", "inf"]}, {("clipped", "clip"): 3}),
        ({"dropped": ["-1", "x", None, "5"]}, {("dropped", "missing"): 2}),
        ({"word": ["c", "", "b", "rest"]}, {("word", "other"): 2}),
        ({"unknown": ["c", None, "b", "a"]}, {("unknown", "missing"): 1}),
        ({"scan_1": ["-1", "2", "99", "3"]}, {("scan", "clip"): 2}),
        ({"label": ["2", "0", "-7", "1"]}, {("label", "clip"): 2}),
        (
            {"clipped": ["11", "1", "1", "1"], "word": ["c", "c", "c", "c"]},
            {("clipped", "clip"): 1, ("word", "other"): 4},
        ),
    ],
)
def test_cells_that_a_declaration_changes_are_counted(
    cells: dict[str, list[str | None]], expected: dict[tuple[str, str], int]
) -> None:
    assert counted(cells) == expected


@pytest.mark.parametrize(
    ("old", "new", "cells", "expected"),
    [
        ("", "", {"clipped": ["x", "y", "1", "1"]}, {("clipped", "reject"): 2}),
        ("", "", {"clipped": ["1", None, "1", "1"]}, {("clipped", "reject"): 1}),
        ("", "", {"scan_0": ["1", None, "1", "1"]}, {("scan", "reject"): 1}),
        ('other = "rest"\n', "", {"word": ["a", "c", "d", "a"]}, {("word", "reject"): 2}),
        (
            "max = 10\n[columns.dropped]",
            'max = 10\noutside = "reject"\n[columns.dropped]',
            {"clipped": ["11", "-1", "12", "1"]},
            {("clipped", "reject"): 3},
        ),
        (
            'type = "vector"\ncount = 2\nmin = 0\nmax = 10\n',
            'type = "tokens"\nlength = 2\nvocabulary = 3\n',
            {"scan_1": ["3", "1.5", "2", "0"]},
            {("scan", "reject"): 2},
        ),
    ],
)
def test_cells_that_are_refused_are_counted_too(
    old: str, new: str, cells: dict[str, list[str | None]], expected: dict[tuple[str, str], int]
) -> None:
    text = SCHEMA.replace(old, new)
    if "tokens" in new:  # they stand alone
        text = text[: text.index("[columns.clipped]")] + text[text.index("[columns.scan]") :]
    violations = Violations()
    schema = parse_toml(text, Schema, source="kinds.toml")
    with pytest.raises(InputError):
        encode(pd.DataFrame(FINE | cells, dtype=object), schema, violations=violations)
    assert violations == expected


def test_violations_of_all_batches_are_said_in_the_log(tmp_path: Path) -> None:
    lines = ["patient,age,dose,ward,ill", "p1,10,1,a,0", "p2,,11,q,1", "p3,30,12,b,0"]
    (tmp_path / "records.csv").write_text("\n".join(lines) + "\n")
    write_declaration(tmp_path, 'kind = "csv"\npath = "records.csv"')
    with structlog.testing.capture_logs() as log:
        load_datasets(tmp_path, tmp_path / "split.key", spill=Spill(tmp_path))
    assert log == [
        {
            "event": "broke_declaration",
            "log_level": "warning",
            "component": "vault",
            "dataset": "wards",
            "column": column,
            "became": became,
            "count": count,
        }
        for column, became, count in [("age", "clip", 1), ("dose", "clip", 2), ("ward", "other", 1)]
    ]


def test_what_made_loading_fail_is_said_in_the_log(tmp_path: Path) -> None:
    lines = ["patient,age,dose,ward,ill", "p1,10,1,a,0", "p2,x,1,q,1", "p3,y,2,b,0"]
    (tmp_path / "records.csv").write_text("\n".join(lines) + "\n")
    write_declaration(tmp_path, 'kind = "csv"\npath = "records.csv"')
    with (
        structlog.testing.capture_logs() as log,
        pytest.raises(InputError, match="column 'age': a cell is not a number"),
    ):
        load_datasets(tmp_path, tmp_path / "split.key", spill=Spill(tmp_path))
    assert [(line["column"], line["became"], line["count"]) for line in log] == [
        ("age", "clip", 1),
        ("age", "reject", 2),
    ]
