"""Labels of three tasks, blocks of columns, and units: what a schema makes of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sordino_protocols.columns import LARGEST_FEATURE_COUNT, LARGEST_VOCABULARY
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

HEAD = """
[dataset]
name = "digits"
version = 1
order_of_magnitude = 60000
holdout_fraction = 0.2
"""
PIXELS = """
[columns.pixel]
type = "vector"
count = 4
min = 0
max = 255
"""
WORDS = """
[columns.word]
type = "tokens"
length = 3
vocabulary = 1000
"""
DIGIT = """
[columns.digit]
type = "integer"
min = 0
max = 9
"""
KIND = """
[columns.kind]
type = "category"
values = ["cat", "dog"]
other = "rest"
"""
COST = """
[columns.cost]
type = "number"
min = 10
max = 110
"""
CLASSES = '[roles]\nlabel = "digit"\ntask = "classes"\n'


def read(text: str) -> Schema:
    return parse_toml(text, Schema, source="digits.toml")


def roles(label: str, task: str) -> str:
    return f'[roles]\nlabel = "{label}"\ntask = "{task}"\n'


@pytest.mark.parametrize(
    ("label", "task", "outputs"),
    [("digit", "classes", 10), ("kind", "classes", 3), ("digit", "number", 1)],
)
def test_a_task_says_how_many_outputs_it_needs(label: str, task: str, outputs: int) -> None:
    schema = read(HEAD + PIXELS + DIGIT + KIND + roles(label, task))
    assert (schema.task, schema.outputs) == (task, outputs)


def test_a_label_without_a_task_is_binary() -> None:
    schema = read(HEAD + PIXELS + DIGIT + '[roles]\nlabel = "digit"\npositive_above = 4\n')
    assert (schema.task, schema.outputs, schema.label_scale) == ("binary", 1, 1.0)
    with pytest.raises(ValueError, match="a label has no unit"):
        schema.label_in_units(np.zeros(1))


def test_the_task_is_in_the_digest_unless_it_is_the_default() -> None:
    text = HEAD + PIXELS + DIGIT
    binary = read(text + '[roles]\nlabel = "digit"\npositive_above = 4\n')
    spelled = read(text + '[roles]\nlabel = "digit"\ntask = "binary"\npositive_above = 4\n')
    classes, number = (read(text + roles("digit", task)) for task in ("classes", "number"))
    assert binary.digest() == spelled.digest()
    assert len({each.feature_digest() for each in (binary, classes, number)}) == 3


@pytest.mark.parametrize("scale", ["linear", "log1p"])
def test_a_scaled_label_has_a_way_back(scale: str) -> None:
    schema = read(HEAD + PIXELS + COST + f'scale = "{scale}"\n' + roles("cost", "number"))
    back = schema.label_in_units(np.array([[-1.0, 1.0]]))
    np.testing.assert_allclose(back, [[10.0, 110.0]])
    middle = 60.0 if scale == "linear" else 10 + np.sqrt(101.0) - 1
    np.testing.assert_allclose(schema.label_in_units(np.zeros(1)), [middle])


def test_an_error_has_the_units_of_the_label() -> None:
    linear = read(HEAD + PIXELS + COST + roles("cost", "number"))
    assert linear.label_scale == 50.0
    scaled = np.array([-0.5, 0.25])
    apart = np.abs(np.diff(linear.label_in_units(scaled)))
    np.testing.assert_allclose(apart, 0.75 * linear.label_scale)
    log = read(HEAD + PIXELS + COST + 'scale = "log1p"\n' + roles("cost", "number"))
    logs = np.log1p(log.label_in_units(scaled) - 10)
    np.testing.assert_allclose(np.abs(np.diff(logs)), 0.75 * log.label_scale)


def test_a_vector_is_a_block_of_features() -> None:
    schema = read(HEAD + PIXELS + DIGIT + KIND + CLASSES)
    assert schema.feature_names() == (
        *("kind=cat", "kind=dog", "kind=rest"),
        *("pixel[0]", "pixel[1]", "pixel[2]", "pixel[3]"),
    )
    assert schema.feature_count == 7
    assert schema.vocabulary is None
    read_from = {"digit", "kind", "pixel_0", "pixel_1", "pixel_2", "pixel_3"}
    assert set(schema.source_names()) == read_from


def test_tokens_are_looked_up_in_the_largest_vocabulary() -> None:
    more = WORDS.replace("word", "tag").replace("1000", "5")
    schema = read(HEAD + WORDS + more + DIGIT + CLASSES)
    assert schema.feature_names() == (
        *("tag[0]", "tag[1]", "tag[2]"),
        *("word[0]", "word[1]", "word[2]"),
    )
    assert schema.vocabulary == 1000


@given(st.data())
def test_names_and_counts_agree_for_all_kinds(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    nullable = data.draw(st.booleans())
    text = HEAD + PIXELS.replace("count = 4", f"count = {count}") + COST + KIND + DIGIT + CLASSES
    text = text.replace("max = 110", f"max = 110\nnullable = {str(nullable).lower()}")
    schema = read(text)
    names = schema.feature_names()
    assert len(names) == len(set(names)) == schema.feature_count


def test_the_digest_of_blocks_and_tasks_is_this() -> None:
    # Pinned: it stands in ledgers and releases. A change needs a new SCHEMA_VERSION.
    schema = read(HEAD + PIXELS + DIGIT + CLASSES)
    assert schema.feature_digest()[:16] == "95473b6d7cf3dbd5"


WIDE = "".join(
    PIXELS.replace("pixel", f"pixel{index}").replace(
        "count = 4", f"count = {LARGEST_FEATURE_COUNT // 2}"
    )
    for index in range(3)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PIXELS + DIGIT + '[roles]\nlabel = "digit"\n', "or task = 'classes' or 'number'"),
        (PIXELS + DIGIT + roles("digit", "ranks"), "roles.task: should be 'binary', 'classes' or"),
        (PIXELS + DIGIT + CLASSES + "positive_above = 3", "task = 'classes' has no positive_above"),
        (PIXELS + KIND + roles("kind", "number"), "task = 'number' needs a label of type"),
        (PIXELS + COST + roles("cost", "classes"), "task = 'classes' needs a label of type"),
        (
            PIXELS + DIGIT.replace("max = 9", "max = 10000") + CLASSES,
            "task = 'classes' has at most 10000 classes",
        ),
        (
            PIXELS
            + KIND.replace('"cat", "dog"]\nother = "rest"', '"cat"]')
            + roles("kind", "classes"),
            "task = 'classes' needs a label of at least two words",
        ),
        (PIXELS + DIGIT + "nullable = true\n" + CLASSES, "must not be nullable"),
        (PIXELS + DIGIT + roles("pixel", "number"), "roles names 'pixel', a block of columns"),
        (PIXELS + DIGIT + CLASSES + 'protected = ["pixel"]', "'pixel', a block of columns"),
        (PIXELS + WORDS + DIGIT + CLASSES, "cannot be mixed with other feature columns"),
        (KIND + WORDS + DIGIT + CLASSES, "cannot be mixed with other feature columns"),
        (WIDE + DIGIT + CLASSES, f"columns: more than {LARGEST_FEATURE_COUNT} features in all"),
        (PIXELS.replace("max = 255", "max = 0") + DIGIT + CLASSES, "min must be below max"),
        (PIXELS.replace("count = 4", "count = 0") + DIGIT + CLASSES, "columns.pixel.count"),
        (PIXELS + "nullable = true\n" + DIGIT + CLASSES, "columns.pixel.nullable: unknown key"),
        (
            WORDS.replace("1000", f"{LARGEST_VOCABULARY + 1}") + DIGIT + CLASSES,
            "columns.word.vocabulary",
        ),
        (PIXELS.replace("pixel", '"a[0]"') + DIGIT + CLASSES, "must not contain '=', ':' or '['"),
        (
            PIXELS + DIGIT.replace("digit", "pixel_2") + DIGIT + CLASSES,
            "the source's 'pixel_2' would be read by two columns",
        ),
    ],
)
def test_says_what_is_wrong_and_where(text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(HEAD + text)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("digits.toml: ")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ('unit = "pixel_2"', "dataset.unit is no feature"),
        ("max_records_per_unit = 2", "max_records_per_unit above 1 needs dataset.unit"),
        ('unit = "who"\nmax_records_per_unit = 0', "dataset.max_records_per_unit"),
    ],
)
def test_says_what_is_wrong_with_a_unit(facts: str, expected: str) -> None:
    text = (HEAD + PIXELS + DIGIT + CLASSES).replace("version = 1", f"version = 1\n{facts}")
    with pytest.raises(InputError) as caught:
        read(text)
    assert expected in str(caught.value)
