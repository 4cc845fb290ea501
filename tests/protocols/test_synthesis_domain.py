"""Cells are a pure function of the schema: which there are, and which values each holds."""

import numpy as np
import pytest
from small_domain import SCHEMA, small_schema

from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import CategoryDomain, NumericDomain, SetDomain, domain_of
from sordino_protocols.synthesis.shapes import SetShape, SingleShape


def read(text: str) -> Schema:
    return parse_toml(text, Schema, source="claims.toml")


def test_columns_stand_in_the_order_of_their_names() -> None:
    domain = domain_of(small_schema())
    assert [column.name for column in domain.columns] == [
        *("age", "churn", "income", "sex", "towers", "work")
    ]
    assert [position for position, _ in domain.starts()] == [0, 1, 2, 3, 4, 9]
    assert domain.position_count == 10
    assert domain.shape.label == 1


def test_the_shape_follows_from_the_declaration() -> None:
    assert domain_of(small_schema()).shape.columns == (
        SingleShape(groups=(12, 15, 15, 15, 23)),
        SingleShape(groups=(1, 1)),
        # 20 cells in 16 runs, and one for what is missing.
        SingleShape(groups=(2,) * 4 + (1,) * 12 + (1,)),
        SingleShape(groups=(1, 1)),
        SetShape(items=5, at_most=3),
        SingleShape(groups=(1,) * 5),
    )


def test_a_missing_cell_is_there_if_and_only_if_the_column_is_nullable() -> None:
    nullable = domain_of(small_schema()).columns[2]
    present = domain_of(read(SCHEMA.replace("nullable = true\n", ""))).columns[2]
    assert isinstance(nullable, NumericDomain)
    assert isinstance(present, NumericDomain)
    assert (nullable.missing, present.missing) == (20, None)
    assert nullable.shape.fine == present.shape.fine + 1


def test_a_value_is_in_the_cell_that_begins_at_or_below_it() -> None:
    age = domain_of(small_schema()).columns[0]
    assert isinstance(age, NumericDomain)
    found = age.cells_of(np.array([18.0, 19.0, 29.0, 30.0, 97.0]))
    np.testing.assert_array_equal(found, [0, 1, 11, 12, 79])
    np.testing.assert_array_equal(age.shape.coarse_of()[found], [0, 0, 0, 1, 4])
    assert found.dtype == np.int32


def test_bounds_are_in_the_first_cell_and_the_last() -> None:
    income = domain_of(small_schema()).columns[2]
    assert isinstance(income, NumericDomain)
    np.testing.assert_array_equal(income.cells_of(np.array([0.0, 100_000.0])), [0, 19])


def test_many_words_are_grouped_in_the_order_of_their_declaration() -> None:
    words = ", ".join(f'"w{index}"' for index in range(70))
    work = domain_of(read(SCHEMA.replace('"private", "gov", "self"', words))).columns[5]
    assert isinstance(work, CategoryDomain)
    # 71 words, the other one included, in 32 runs; and one for what is missing.
    assert work.shape.coarse == 33
    assert work.shape.fine == 72
    assert work.missing == 71
    assert set(work.shape.groups[:-1]) == {2, 3}


def test_declared_groups_are_the_coarse_cells() -> None:
    groups = 'coarse_groups = [["private"], ["gov", "self", "other"]]\nother = "other"'
    work = domain_of(read(SCHEMA.replace('other = "other"', groups))).columns[5]
    assert work.shape == SingleShape(groups=(1, 3, 1))


def test_a_set_knows_its_words() -> None:
    towers = domain_of(small_schema()).columns[4]
    assert isinstance(towers, SetDomain)
    assert towers.column.words[1] == "east"


@pytest.mark.parametrize("kind", ['"vector"\ncount = 4', '"tokens"\nlength = 4\nvocabulary = 5'])
def test_a_block_of_columns_is_not_synthesised(kind: str) -> None:
    bounds = "\nmin = 0\nmax = 1\n" if "vector" in kind else "\n"
    head, tail = SCHEMA.split("[columns.age]")[0], SCHEMA[SCHEMA.index("[columns.churn]") :]
    schema = read(f"{head}[columns.pixel]\ntype = {kind}{bounds}{tail}")
    with pytest.raises(InputError, match=r"columns\.pixel: a column of type .* cannot be"):
        domain_of(schema)


def test_words_that_are_not_read_yet_are_no_domain() -> None:
    text = SCHEMA.replace('values = ["north", "east", "south", "west", "port"]', 'values_file="t"')
    with pytest.raises(InputError, match=r"columns\.towers: the words of values_file"):
        domain_of(read(text))


def test_too_many_cells_are_refused() -> None:
    text = SCHEMA.replace('bins = 20\nscale = "log1p"', "bins = 100000")
    with pytest.raises(InputError, match=r"columns\.income: more than 100000 cells; lower bins"):
        domain_of(read(text))
