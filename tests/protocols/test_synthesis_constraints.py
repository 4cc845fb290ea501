import numpy as np
import pytest
from small_domain import SEX, WORK, Cells, small_cells, small_schema

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.constraints import is_forbidden, obeying
from sordino_protocols.synthesis.mock import mock_cells

NEVER = '[[constraints]]\nnever = { sex = "male", work = ["gov", "other"] }\n'
ALSO = '[[constraints]]\nnever = { sex = "female", churn = "yes" }\n'


def test_a_row_is_forbidden_if_it_has_all_of_a_combination() -> None:
    cells = small_cells(1000, rng=np.random.default_rng(1))
    expected = (cells[:, SEX] == 1) & np.isin(cells[:, WORK], [1, 3])
    assert expected.any()
    np.testing.assert_array_equal(is_forbidden(cells, small_schema(NEVER)), expected)
    both = expected | ((cells[:, SEX] == 0) & (cells[:, 1] == 1))
    np.testing.assert_array_equal(is_forbidden(cells, small_schema(NEVER + ALSO)), both)


def test_without_constraints_rows_are_as_drawn() -> None:
    cells = small_cells(10, rng=np.random.default_rng(2))
    np.testing.assert_array_equal(obeying(lambda _: cells, small_schema(), rows=10), cells)


def test_a_mock_obeys() -> None:
    schema = small_schema(NEVER + ALSO)
    cells = mock_cells(schema, 5000, rng=np.random.default_rng(3))
    assert not is_forbidden(cells, schema).any()
    assert is_forbidden(
        mock_cells(small_schema(), 5000, rng=np.random.default_rng(3)), schema
    ).any()


def test_what_is_left_has_the_shares_that_it_had() -> None:
    rng = np.random.default_rng(4)
    schema = small_schema(NEVER)
    cells = obeying(lambda rows: small_cells(rows, rng=rng), schema, rows=40_000)
    drawn = small_cells(40_000, rng=rng)
    drawn = drawn[~is_forbidden(drawn, schema)]
    for position in (SEX, WORK, 1):
        found, expected = (np.bincount(each[:, position]) / len(each) for each in (cells, drawn))
        np.testing.assert_allclose(found, expected, atol=0.03)


def test_constraints_that_leave_nothing_end() -> None:
    forbidden = np.zeros((1, 10), dtype=np.int32)
    forbidden[:, 1] = 1

    def draw(rows: int) -> Cells:
        return np.repeat(forbidden, rows, axis=0)

    with pytest.raises(InputError, match="check that the constraints leave something"):
        obeying(draw, small_schema(ALSO), rows=3)
