"""A drafted schema: what it declares, what it already hides, and that it says what it is."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from sordino_client.data.declaration import DatasetFile
from sordino_client.data.suggestion import Draft, read_records, suggest_schema
from sordino_protocols.errors import InputError, NotFoundError

SOURCE = {"kind": "csv", "path": "visits.csv"}
ROWS = 400


@pytest.fixture
def visits() -> pd.DataFrame:
    """Records with one column of each kind."""
    index = np.arange(ROWS)
    return pd.DataFrame(
        {
            "patient": [f"p{each // 2}" for each in index],
            "age": 17 + index % 74,
            "pressure": 80.25 + (index * 7) % 90,
            "cost": np.where(index % 10, 0, 13 * index).astype(str),
            "ward": [f"w{each % 12}" if each else "the mayor's" for each in index],
            "towers": ["|".join(f"t{n}" for n in range(each % 4)) for each in index],
            "remark": [f"said {each}" for each in index],
            "gap": ["yes" if each % 2 else None for each in index],
            "ill": index % 2,
        }
    )


def drafted(frame: pd.DataFrame, label: str | None = None) -> Draft:
    return suggest_schema(frame, name="visits", source=SOURCE, label=label, unit="patient")


def columns_of(draft: Draft) -> Mapping[str, object]:
    return draft.tables["columns"]


def test_declares_every_kind_of_column(visits: pd.DataFrame) -> None:
    assert columns_of(drafted(visits)) == {
        "age": {"type": "integer", "min": 10, "max": 90},
        "pressure": {"type": "number", "min": 80.0, "max": 170.0},
        "cost": {"type": "integer", "min": 0, "max": 6000, "scale": "log1p"},
        "ward": {"type": "category", "values": [f"w{n}" for n in range(12)], "other": "other"},
        "towers": {"type": "set", "values": ["t0", "t1", "t2"], "max_items": 3, "separator": "|"},
        "remark": {"type": "text"},
        "gap": {"type": "category", "values": ["yes"], "nullable": True},
        "ill": {"type": "integer", "min": 0, "max": 1},
    }


def test_says_that_it_is_derived_from_data(visits: pd.DataFrame) -> None:
    dataset = drafted(visits).tables["dataset"]
    assert dataset["derived_from_data"] is True
    assert dataset["unit"] == "patient"


def test_writes_down_no_count_no_extreme_and_no_rare_word(visits: pd.DataFrame) -> None:
    draft = drafted(visits)
    text = str({**draft.tables, "": draft.remarks})
    assert "mayor" not in text
    assert "said" not in text
    assert "p0" not in text
    assert "80.25" not in text  # the smallest pressure
    assert "169" not in text
    assert draft.tables["dataset"]["order_of_magnitude"] == 200
    uneven = drafted(visits.iloc[:390])
    assert uneven.tables["dataset"]["order_of_magnitude"] == 200


def test_its_text_shows_nothing(visits: pd.DataFrame) -> None:
    assert repr(drafted(visits)) == "Draft(...)"


@pytest.mark.parametrize(
    ("label", "rule"),
    [
        ("ill", {"positive_above": 0}),
        ("pressure", {"task": "number"}),
        ("ward", {"task": "classes"}),
    ],
)
def test_guesses_what_is_learnt(visits: pd.DataFrame, label: str, rule: dict[str, object]) -> None:
    assert drafted(visits, label).tables["roles"] == {"label": label, **rule}


def test_two_words_have_a_positive_one(visits: pd.DataFrame) -> None:
    visits["sex"] = np.where(visits["age"] % 2, "female", "male")
    assert drafted(visits).tables["roles"] == {"label": "sex", "positive_values": ["male"]}


@pytest.mark.parametrize("label", ["remark", "towers", "gap", "absent"])
def test_refuses_a_label_that_cannot_be_one(visits: pd.DataFrame, label: str) -> None:
    with pytest.raises(InputError, match="label"):
        drafted(visits, label)


def test_a_constant_column_still_has_a_range() -> None:
    frame = pd.DataFrame({"one": [7] * 20, "other": [0, 1] * 10})
    columns = suggest_schema(frame, name="two", source=SOURCE).tables["columns"]
    assert columns["one"] == {"type": "integer", "min": 7, "max": 8}


def test_a_rare_item_of_a_set_is_dropped_and_not_written_down() -> None:
    cells = ["a| b", "b"] * 50 + ["a|mayor"]
    frame = pd.DataFrame({"towers": cells, "ill": [0, 1] * 50 + [1]})
    columns = suggest_schema(frame, name="two", source=SOURCE).tables["columns"]
    assert columns["towers"] == {
        "type": "set",
        "values": ["a", "b"],
        "max_items": 2,
        "separator": "|",
        "outside": "drop",
    }


def test_a_draft_is_a_schema_once_its_admin_has_removed_the_line(visits: pd.DataFrame) -> None:
    draft = drafted(visits)
    tables = {name: dict(table) for name, table in draft.tables.items()}
    with pytest.raises(ValidationError, match="drafted from the records"):
        DatasetFile.model_validate_json(json.dumps(tables))
    del tables["dataset"]["derived_from_data"]
    declared = DatasetFile.model_validate_json(json.dumps(tables))
    assert set(declared.columns) == set(columns_of(draft))


def test_leaves_out_names_that_features_are_made_with(visits: pd.DataFrame) -> None:
    visits["a=b"] = 1
    draft = drafted(visits)
    assert "a=b" not in columns_of(draft)
    assert any("not declared" in each and "a=b" in each for each in draft.remarks)


def test_reads_csv_and_parquet_alike(visits: pd.DataFrame, tmp_path: Path) -> None:
    visits.to_csv(tmp_path / "visits.csv", index=False)
    visits.to_parquet(tmp_path / "visits.parquet")
    by_kind = [
        columns_of(drafted(read_records(tmp_path / f"visits.{kind}")))
        for kind in ("csv", "parquet")
    ]
    # An empty cell of a CSV file means missing.
    assert by_kind[0] == by_kind[1]


def test_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_records(tmp_path / "absent.csv")
    for name, content in {
        "a.parquet": b"a,b\n1,2\n",
        "b.csv": b"\xff\xfe\x00",
        "c.csv": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_records(tmp_path / name)
