"""A schema of fewer columns is the one that never had the others; a lineage changes one digest."""

import pytest

from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

DATASET = """
[dataset]
name = "claims"
version = 3
order_of_magnitude = 40000
holdout_fraction = 0.2
"""
AGE = '[columns.age]\ntype = "integer"\nmin = 17\nmax = 101\nnullable = true\n'
INCOME = '[columns.income]\ntype = "number"\nmin = 0\nmax = 200000\n'
SCAN = '[columns.scan]\ntype = "vector"\ncount = 4\nmin = 0\nmax = 255\n'
WORK = '[columns.work]\ntype = "category"\nvalues = ["private", "gov"]\n'
CHURN = '[columns.churn]\ntype = "category"\nvalues = ["no", "yes"]\n'
ROLES = '[roles]\nlabel = "churn"\npositive_values = ["yes"]\n'
PROTECTED = 'protected = ["age", "work"]\n'


def read(*parts: str) -> Schema:
    return parse_toml("".join(parts), Schema, source="claims.toml")


WHOLE = read(DATASET, AGE, INCOME, SCAN, WORK, CHURN, ROLES, PROTECTED)


def test_a_narrowed_schema_is_one_that_never_had_the_other_columns() -> None:
    narrow = WHOLE.narrowed(["work", "scan"])
    declared = read(DATASET, SCAN, WORK, CHURN, ROLES, 'protected = ["work"]\n')
    assert narrow == declared
    assert narrow.digest() == declared.digest() != WHOLE.digest()
    assert narrow.feature_digest() == declared.feature_digest()
    assert narrow.narrowed(["scan"]).feature_names() == tuple(f"scan[{each}]" for each in range(4))


def test_no_names_and_all_names_are_the_schema_itself() -> None:
    assert WHOLE.narrowed(()) is WHOLE
    assert WHOLE.narrowed(["work", "age", "scan", "income"]) is WHOLE


@pytest.mark.parametrize("name", ["height", "churn", "scan_0", "work=gov", ""])
def test_what_is_no_feature_column_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no feature column"):
        WHOLE.narrowed(["age", name])


def test_positions_are_where_the_narrow_features_stand() -> None:
    names = WHOLE.feature_names()
    for columns in (["work", "scan"], ["income"], ["age", "work"], [*"abc"]):
        kept = [name for name in columns if name in WHOLE.columns]
        found = tuple(names[each] for each in WHOLE.positions(columns))
        assert found == (WHOLE.narrowed(kept).feature_names() if kept else ())


def test_a_lineage_is_the_own_name_unless_it_is_declared() -> None:
    assert WHOLE.lineage == "claims"
    view = read(DATASET + 'lineage = "people"\n', AGE, CHURN, ROLES)
    assert view.lineage == "people"
    assert view.narrowed(["age"]).lineage == "people"
    own = read(DATASET, AGE, CHURN, ROLES)
    assert view.digest() != own.digest()
    assert view.feature_digest() == own.feature_digest()


def test_a_lineage_is_a_name() -> None:
    with pytest.raises(InputError, match=r"dataset\.lineage: name '\.\./x' must be"):
        read(DATASET + 'lineage = "../x"\n', AGE, CHURN, ROLES)
