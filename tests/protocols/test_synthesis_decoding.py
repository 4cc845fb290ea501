"""From cells to values and features: what the site's encoder would have made of the same values."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_domain import AGE, INCOME, SCHEMA, TOWERS, WORK, small_cells, small_schema

from sordino_client.data.cell_encoding import encode_cells
from sordino_client.data.encode import encode
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.decoding import decode
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.features import features_of
from sordino_protocols.synthesis.mock import mock_cells
from sordino_protocols.synthesis.shapes import SingleShape


def frame_of(values: dict[str, list[object]]) -> pd.DataFrame:
    """As a file holds them: the words of a set in one text."""
    spelled = {
        name: ["|".join(cell) if isinstance(cell, list) else cell for cell in cells]
        for name, cells in values.items()
    }
    return pd.DataFrame(spelled, dtype=object)


def test_values_have_the_format_of_the_source() -> None:
    cells = np.array([[0, 1, 20, 0, 1, 0, 1, 0, 0, 3], [79, 0, 0, 1, 0, 0, 0, 0, 0, 4]], np.int32)
    values = decode(cells, small_schema(), rng=np.random.default_rng(1))
    income = values["income"].pop()
    assert isinstance(income, float)
    assert 0 < income < 100_001 ** (1 / 20) - 1
    assert values == {
        "age": [18, 97],
        "income": [None],
        "sex": ["female", "male"],
        "towers": [["north", "south"], []],
        "work": ["other", None],
        "churn": ["yes", "no"],
    }
    assert [*values] == ["age", "income", "sex", "towers", "work", "churn"]
    assert {type(cell) for cell in values["age"]} == {int}


@pytest.mark.parametrize("seed", range(5))
def test_decoded_records_are_encoded_in_the_same_cells(seed: int) -> None:
    schema = small_schema()
    cells = mock_cells(schema, 2000, rng=np.random.default_rng(seed))
    values = decode(cells, schema, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(encode_cells(frame_of(values), schema), cells)


def test_whole_numbers_fill_their_cell_and_no_other() -> None:
    schema = parse_toml(SCHEMA.replace("coarse = [30, 45, 60, 75]", "bins = 8"), Schema, source="")
    cells = np.zeros((4000, 10), dtype=np.int32)
    cells[:, AGE] = 7
    ages = decode(cells, schema, rng=np.random.default_rng(3))["age"]
    assert set(ages) == set(range(88, 98))


@pytest.mark.parametrize(
    "roles",
    [
        'label = "churn"\npositive_values = ["yes"]',
        'label = "churn"\ntask = "classes"',
        'label = "age"\npositive_above = 40',
        'label = "age"\ntask = "classes"',
        'label = "age"\ntask = "number"',
    ],
)
def test_features_are_those_of_the_encoder(roles: str) -> None:
    head = SCHEMA.split("[roles]")[0]
    schema = parse_toml(f"{head}[roles]\n{roles}\n", Schema, source="claims.toml")
    cells = mock_cells(schema, 500, rng=np.random.default_rng(4))
    features, labels = features_of(cells, schema, rng=np.random.default_rng(5))
    values = decode(cells, schema, rng=np.random.default_rng(5))
    table = encode(frame_of(values), schema)
    np.testing.assert_array_equal(features, table.features)
    np.testing.assert_array_equal(labels, table.labels)
    assert features.dtype == labels.dtype == np.float32


@pytest.mark.parametrize(
    ("position", "cell", "column"),
    [(AGE, 80, "age"), (AGE, -1, "age"), (5, 2, "towers"), (WORK, 5, "work")],
)
def test_cells_of_another_schema_are_refused(position: int, cell: int, column: str) -> None:
    cells = small_cells(5, rng=np.random.default_rng(6))
    cells[2, position] = cell
    with pytest.raises(InputError, match=rf"columns\.{column}: a cell is outside the column"):
        decode(cells, small_schema(), rng=np.random.default_rng(7))
    with pytest.raises(InputError, match="expected rows of 10"):
        decode(cells[:, 1:], small_schema(), rng=np.random.default_rng(7))


def test_no_rows_are_no_values() -> None:
    cells = np.zeros((0, 10), dtype=np.int32)
    assert decode(cells, small_schema(), rng=np.random.default_rng(8))["age"] == []
    features, labels = features_of(cells, small_schema(), rng=np.random.default_rng(8))
    assert features.shape == (0, small_schema().feature_count)
    assert labels.shape == (0,)


def test_a_mock_shows_all_that_the_schema_allows() -> None:
    cells = mock_cells(small_schema(), 5000, rng=np.random.default_rng(9))
    assert cells.dtype == np.int32
    for position, column in domain_of(small_schema()).starts():
        if isinstance(column.shape, SingleShape):
            assert len(np.unique(cells[:, position])) == column.shape.fine
    assert set(cells[:, TOWERS].sum(axis=1)) == {0, 1, 2, 3}
    # About a tenth of the cells that may be missing are.
    assert 0.05 < np.mean(cells[:, INCOME] == 20) < 0.15


@given(st.integers(0, 2**32), st.integers(0, 30))
def test_a_mock_is_always_of_the_domain(seed: int, rows: int) -> None:
    cells = mock_cells(small_schema(), rows, rng=np.random.default_rng(seed))
    assert len(decode(cells, small_schema(), rng=np.random.default_rng(seed))["sex"]) == rows
