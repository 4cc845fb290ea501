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
COLUMNS = """
[columns.income]
type = "number"
min = 0
max = 200000
bins = 100
scale = "log1p"
[columns.age]
type = "integer"
min = 17
max = 101
outside = "missing"
nullable = true
[columns.work]
type = "category"
values = ["private", "gov"]
other = "other"
nullable = true
[columns.churn]
type = "category"
values = ["no", "yes"]
"""
ROLES = """
[roles]
label = "churn"
positive_values = ["yes"]
protected = ["age"]
"""


def read(text: str) -> Schema:
    return parse_toml(text, Schema, source="claims.toml")


@pytest.fixture
def schema() -> Schema:
    return read(DATASET + COLUMNS + ROLES)


def test_feature_names_follow_from_the_declaration(schema: Schema) -> None:
    assert schema.feature_names() == (
        "age",
        "age:missing",
        "income",
        "work=private",
        "work=gov",
        "work=other",
        "work:missing",
    )
    assert schema.feature_count == 7


def test_order_of_declaration_has_no_effect(schema: Schema) -> None:
    tables = COLUMNS.split("[columns.")
    shuffled = tables[0] + "".join(f"[columns.{each}" for each in reversed(tables[1:]))
    other = read(ROLES + shuffled + DATASET)
    assert other.feature_names() == schema.feature_names()
    assert other.digest() == schema.digest()


def test_spelled_defaults_have_no_effect(schema: Schema) -> None:
    spelled = (DATASET + "max_records_per_unit = 1\n" + COLUMNS + ROLES).replace(
        "min = 0\n", "min = 0.0\noutside = 'clip'\n"
    )
    assert read(spelled).digest() == schema.digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max = 101", "max = 102"),
        ('"private", "gov"', '"gov", "private"'),
        ('scale = "log1p"', 'scale = "linear"'),
        ('positive_values = ["yes"]', 'positive_values = ["no"]'),
    ],
)
def test_a_declaration_that_changes_the_encoding_changes_both_digests(
    schema: Schema, old: str, new: str
) -> None:
    other = read((DATASET + COLUMNS + ROLES).replace(old, new))
    assert other.digest() != schema.digest()
    assert other.feature_digest() != schema.feature_digest()


def test_sites_of_different_size_share_the_feature_digest(schema: Schema) -> None:
    other = read((DATASET + COLUMNS + ROLES).replace("40000", "300"))
    assert other.feature_digest() == schema.feature_digest()
    assert other.digest() != schema.digest()


def test_the_digest_is_this(schema: Schema) -> None:
    # Pinned: it stands in ledgers and releases. A change needs a new SCHEMA_VERSION.
    assert schema.digest() == ("3b0fa0650c8d47b63907522e4baeec90b9c4b46ccd6e78b3f8c27b5829ed2027")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("order_of_magnitude = 40000", "", "dataset.order_of_magnitude: missing"),
        ("order_of_magnitude", "order_of_magnitud", "did you mean 'order_of_magnitude'?"),
        ("holdout_fraction = 0.2", "", "dataset.holdout_fraction: missing"),
        ("holdout_fraction = 0.2", "holdout_fraction = 1.0", "dataset.holdout_fraction"),
        ('name = "claims"', 'name = "../claims"', "dataset.name: name '../claims' must be"),
        ("max = 101", "max = 17", "columns.age: min must be below max"),
        ("max = 101", "max = 101.5", "columns.age.max: should be a valid integer"),
        ("max = 101", f"max = {10**400}", "columns.age.max"),
        ("max = 101", "maximum = 101", "columns.age.maximum: unknown key; did you mean 'max'?"),
        ("max = 200000", "max = inf", "columns.income.max: must be finite"),
        ("max = 200000", "max = 1e308\nmin=-1e308", "claims.toml"),
        (
            'type = "integer"',
            'type = "date"',
            "columns.age: type must be 'integer', 'number', 'category'",
        ),
        ('type = "integer"\n', "", "columns.age: type must be 'integer', 'number', 'category'"),
        ('"private", "gov"', '"gov", "gov"', "columns.work: values and other must all differ"),
        ('"private", "gov"', '"other"', "columns.work: values and other must all differ"),
        ('"private", "gov"', "", "columns.work.values"),
        ('"private", "gov"', "1, 2", "columns.work.values[0]: should be a valid string"),
        ('outside = "missing"\nnullable = true', 'outside = "missing"', "needs nullable = true"),
        ('outside = "missing"', 'outside = "drop"', "columns.age.outside: should be 'clip'"),
        ('label = "churn"', 'label = "num"', "roles names 'num', which is not in columns"),
        ('protected = ["age"]', 'protected = ["sex"]', "roles names 'sex'"),
        ('positive_values = ["yes"]', "", "exactly one of positive_above and positive_values"),
        ('positive_values = ["yes"]', "positive_above = 0", "a category label needs"),
        ('positive_values = ["yes"]', 'positive_values = ["maybe"]', "a category label needs"),
        ('positive_values = ["yes"]', 'positive_values = ["yes", "no"]', "leaves no word"),
        ('"no", "yes"]', '"no", "yes"]\nnullable = true', "must not be nullable"),
        ("[columns.income]", '[columns."a=b"]', "must not contain '=', ':' or '['"),
        ("version = 3", 'version = 3\nunit = "age"', "dataset.unit is no feature"),
    ],
)
def test_says_what_is_wrong_and_where(old: str, new: str, expected: str) -> None:
    text = DATASET + COLUMNS + ROLES
    assert old in text
    with pytest.raises(InputError) as caught:
        read(text.replace(old, new))
    assert expected in str(caught.value)
    assert str(caught.value).startswith("claims.toml: ")


@pytest.mark.parametrize(("above", "holds"), [(17, True), (100, True), (16, False), (101, False)])
def test_a_numeric_label_is_cut_within_its_bounds(above: int, *, holds: bool) -> None:
    columns = COLUMNS.replace('outside = "missing"\nnullable = true', "")
    text = f"{DATASET}{columns}[roles]\nlabel = 'age'\npositive_above = {above}"
    if holds:
        assert "age" not in read(text).feature_names()
    else:
        with pytest.raises(InputError, match=r"positive_above in \[min, max\)"):
            read(text)
