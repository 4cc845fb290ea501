"""Cells follow from the schema alone, agree with the encoder, and keep neighbours neighbours."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino_client.data.cell_encoding import cells_of, encode_cells
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import read_dataset
from sordino_client.data.encode import Violations, encode
from sordino_client.data.sides import record_hashes
from sordino_client.data.table import split
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

FACTS = """
[dataset]
name = "claims"
version = 1
order_of_magnitude = 100
holdout_fraction = 0.5
"""
COLUMNS = """
[columns.age]
type = "integer"
min = 17
max = 20
[columns.income]
type = "number"
min = 0
max = 100
bins = 4
nullable = true
[columns.job]
type = "category"
values = ["clerk", "smith"]
other = "other"
nullable = true
[columns.memo]
type = "text"
[columns.towers]
type = "set"
values = ["north", "south", "west"]
max_items = 2
outside = "drop"
"""
LABEL = """
[columns.ill]
type = "integer"
min = 0
max = 1
[roles]
label = "ill"
positive_above = 0
"""


def schema_of(label: str = LABEL, columns: str = COLUMNS) -> Schema:
    return parse_toml(FACTS + columns + label, Schema, source="claims.toml")


FRAME = pd.DataFrame(
    {
        "age": [17, 20, 99, -5],
        "ill": [0, 1, 1, 0],
        "income": [0.0, 25.0, None, 1e9],
        "job": ["clerk", "king", None, "smith"],
        "towers": ["north|west", "west| south|north|north", None, "unheard of|"],
    }
)


def test_a_record_becomes_one_cell_a_value_and_one_position_an_item() -> None:
    # age, ill, income, job, then the three towers; text has no cell.
    assert encode_cells(FRAME, schema_of()).tolist() == [
        [0, 0, 0, 0, 1, 0, 1],
        [3, 1, 1, 2, 1, 1, 0],
        [3, 1, 4, 3, 0, 0, 0],
        [0, 0, 3, 1, 0, 0, 0],
    ]


def test_a_set_is_as_many_features_as_it_has_words_and_text_is_none() -> None:
    schema, violations = schema_of(), Violations()
    features = encode(FRAME, schema, violations=violations).features
    names = list(schema.feature_names())
    towers = [names.index(f"towers={word}") for word in ("north", "south", "west")]
    assert features[:, towers].tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert not [name for name in names if name.startswith("memo")]
    # Three words where two are looked at, and one that nobody declared.
    assert violations["towers", "drop"] == 2


def test_a_set_that_rejects_says_the_column_and_not_the_word() -> None:
    strict = schema_of(columns=COLUMNS.replace('outside = "drop"', 'outside = "reject"'))
    with pytest.raises(InputError, match="'towers'") as caught:
        encode_cells(FRAME, strict)
    assert "unheard" not in str(caught.value)


@pytest.mark.parametrize("scale", ["linear", "log1p"])
def test_a_number_at_a_boundary_is_in_the_cell_that_begins_there(scale: str) -> None:
    columns = COLUMNS.replace("bins = 4", f'bins = 37\nscale = "{scale}"')
    schema = schema_of(columns=columns)
    column = schema.columns["income"]
    assert column.type == "number"
    boundaries = column.boundaries()
    frame = pd.concat([FRAME.iloc[:1]] * (len(boundaries) + 2), ignore_index=True)
    frame["income"] = [0.0, *boundaries, 100.0]
    assert encode_cells(frame, schema)[:, 2].tolist() == [*range(37), 36]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12) | st.none(), min_size=1, max_size=20))
def test_a_cell_is_never_more_than_rounding_away_from_the_value(
    numbers: list[float | None],
) -> None:
    schema = schema_of()
    frame = pd.concat([FRAME.iloc[:1]] * len(numbers), ignore_index=True)
    frame["income"] = pd.Series(numbers, dtype="float64")
    for number, cell in zip(numbers, encode_cells(frame, schema)[:, 2], strict=True):
        if number is None:
            assert cell == 4
        else:
            clipped = min(max(number, 0.0), 100.0)
            assert cell * 25 - 1e-4 <= clipped <= (cell + 1) * 25 + 1e-4


LABELS: dict[str, tuple[str, list[str] | list[int] | list[float], list[int]]] = {
    "two words": (
        (
            '[columns.ill]\ntype = "category"\nvalues = ["yes", "no"]\n[roles]\nlabel = "ill"\n'
            'positive_values = ["yes"]\n'
        ),
        ["yes", "no", "no", "yes"],
        [0, 1, 1, 0],
    ),
    "three words": (
        (
            '[columns.ill]\ntype = "category"\nvalues = ["yes", "no", "very"]\n[roles]\n'
            'label = "ill"\npositive_values = ["yes", "very"]\n'
        ),
        ["very", "no", "no", "yes"],
        [2, 1, 1, 0],
    ),
    "classes": (
        (
            '[columns.ill]\ntype = "integer"\nmin = 2\nmax = 9\nbins = 4\n[roles]\nlabel = "ill"\n'
            'task = "classes"\n'
        ),
        [2, 9, 4, 5],
        [0, 3, 1, 1],
    ),
    "words of classes": (
        (
            '[columns.ill]\ntype = "category"\nvalues = ["a", "b", "c"]\n[roles]\nlabel = "ill"\n'
            'task = "classes"\n'
        ),
        ["c", "a", "b", "b"],
        [2, 0, 1, 1],
    ),
    "number": (
        (
            '[columns.ill]\ntype = "number"\nmin = 0\nmax = 8\nbins = 4\n[roles]\nlabel = "ill"\n'
            'task = "number"\n'
        ),
        [0.0, 8.0, 2.0, 5.9],
        [0, 3, 1, 2],
    ),
    "above": (
        (
            '[columns.ill]\ntype = "integer"\nmin = 0\nmax = 4\n[roles]\nlabel = "ill"\n'
            "positive_above = 0\n"
        ),
        [0, 3, 4, 1],
        [0, 3, 4, 1],
    ),
}


@pytest.mark.parametrize("name", LABELS)
def test_the_cell_of_a_label_is_its_columns_whatever_is_learnt(name: str) -> None:
    label, values, cells = LABELS[name]
    frame = FRAME.assign(ill=values)
    assert encode_cells(frame, schema_of(label))[:, 1].tolist() == cells


def test_a_label_that_says_less_than_its_column_keeps_the_cell_on_both_sides() -> None:
    label, values, _ = LABELS["above"]
    schema = schema_of(label)
    table = encode(pd.concat([FRAME.assign(ill=values)] * 20, ignore_index=True), schema)
    sides = split(table, fraction=0.5, key=bytes(range(32)))
    counted = sum((Counter(cells_of(side, schema)[:, 1].tolist()) for side in sides), Counter())
    assert counted == dict.fromkeys(values, 20)
    rows = np.array([3, 0])
    assert cells_of(table, schema, rows=rows)[:, 1].tolist() == [1, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_neighbours_have_neighbouring_cells_on_each_side(seed: int) -> None:
    # Few different records, so that many are the same but for the label's cell.
    label, _, _ = LABELS["above"]
    schema, rng = schema_of(label), np.random.default_rng(seed)
    frame = pd.concat([FRAME.iloc[:1]] * 12, ignore_index=True)
    frame["ill"] = rng.integers(0, 5, 12)
    whole, less = encode(frame, schema), encode(frame.drop(index=int(rng.integers(12))), schema)
    key = rng.bytes(32)
    changed = 0
    for one, other in zip(
        split(whole, fraction=0.5, key=key), split(less, fraction=0.5, key=key), strict=True
    ):
        of_one = Counter(map(tuple, cells_of(one, schema).tolist()))
        of_other = Counter(map(tuple, cells_of(other, schema).tolist()))
        assert not of_other - of_one
        changed += (of_one - of_other).total()
    assert changed == 1


def test_without_the_cell_in_the_split_a_neighbour_would_differ_in_several() -> None:
    # The broken variant of the test above: sides are decided by the label alone.
    schema, changes = schema_of(LABELS["above"][0]), set[int]()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        frame = pd.concat([FRAME.iloc[:1]] * 12, ignore_index=True)
        frame["ill"], key = rng.integers(1, 5, 12), rng.bytes(32)
        sides = list[Counter[int]]()
        for records in (frame, frame.drop(index=0)):
            table = encode(records, schema)
            is_learnt = record_hashes(table.features, table.labels, key) >= 2**63
            sides.append(Counter(cells_of(table, schema)[is_learnt, 1].tolist()))
        changes.add((sides[0] - sides[1]).total() + (sides[1] - sides[0]).total())
    assert max(changes) > 1


def test_a_column_without_cells_is_named() -> None:
    columns = COLUMNS + '[columns.scan]\ntype = "vector"\ncount = 2\nmin = 0\nmax = 1\n'
    schema = schema_of(columns=columns)
    frame = FRAME.assign(scan_0=0.5, scan_1=0.5)
    with pytest.raises(InputError, match="'scan' is of type 'vector'"):
        encode_cells(frame, schema)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_sets_are_read_from_files_and_their_words_from_a_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "towers.txt").write_text("north\nsouth\nwest\n")
    source = f'[source]\nkind = "{kind}"\npath = "claims.{kind}"\n'
    columns = COLUMNS.replace('values = ["north", "south", "west"]', 'values_file = "towers.txt"')
    (tmp_path / "claims.toml").write_text(FACTS + source + columns + LABEL)
    records = FRAME.assign(memo="secret")
    if kind == "csv":
        records.to_csv(tmp_path / "claims.csv", index=False)
    else:
        records.to_parquet(tmp_path / "claims.parquet", index=False)
    dataset = read_dataset(tmp_path / "claims.toml")
    assert dataset.public.digest() == schema_of().digest()
    cells = cells_of(load_table(dataset), dataset.public)
    assert cells.tolist() == encode_cells(FRAME, schema_of()).tolist()


def test_a_draft_made_from_the_records_is_never_read(tmp_path: Path) -> None:
    source = '[source]\nkind = "csv"\npath = "claims.csv"\n'
    draft = FACTS.replace("version = 1", "version = 1\nderived_from_data = true")
    (tmp_path / "claims.toml").write_text(draft + source + COLUMNS + LABEL)
    with pytest.raises(InputError, match="drafted from the records"):
        read_dataset(tmp_path / "claims.toml")
