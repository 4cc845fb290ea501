"""What a schema declares for synthesis: sets, text, coarse cells, constraints, drafts."""

from pathlib import Path

import pytest
from small_domain import SCHEMA, small_schema

from sordino_protocols.columns import SetColumn, width_of
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

CONSTRAINT = '[[constraints]]\nnever = { sex = "male", work = ["gov", "other"] }\n'
IN_FILE = SCHEMA.replace(
    'values = ["north", "east", "south", "west", "port"]', 'values_file = "towers.txt"'
)


def read(text: str) -> Schema:
    return parse_toml(text, Schema, source="claims.toml")


def test_a_set_is_a_feature_a_word_and_text_is_none() -> None:
    schema = small_schema()
    towers = tuple(f"towers={word}" for word in ("north", "east", "south", "west", "port"))
    assert schema.feature_names()[5:10] == towers
    assert len(schema.feature_names()) == schema.feature_count
    assert not any(name.startswith("notes") for name in schema.feature_names())
    assert "notes" not in schema.source_names()
    assert "towers" in schema.source_names()
    assert width_of(schema.columns["notes"]) == 0


def test_words_of_a_set_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "towers.txt").write_text("north\neast\n\n south \nwest\nport\n")
    unread = read(IN_FILE)
    with pytest.raises(InputError, match=r"columns\.towers: the words of values_file"):
        unread.digest()
    whole = unread.with_words(tmp_path)
    assert whole == small_schema()
    assert whole.digest() == small_schema().digest()


@pytest.mark.parametrize("text", ["", "\n \n", "a\na\n", "a|b\n", "x" * 257])
def test_a_file_of_no_words_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "towers.txt").write_text(text)
    with pytest.raises(InputError, match=r"towers\.txt: expected 1 to 10000 different words"):
        read(IN_FILE).with_words(tmp_path)


def test_an_absent_file_of_words_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"towers\.txt: no such file"):
        read(IN_FILE).with_words(tmp_path)


def test_a_set_has_at_most_as_many_items_as_words() -> None:
    assert SetColumn(type="set", values=("a", "b"), max_items=9).at_most == 2


def test_how_a_source_spells_a_set_changes_no_digest() -> None:
    other = read(SCHEMA.replace("max_items = 3", 'max_items = 3\nseparator = ";"'))
    assert other.digest() == small_schema().digest()
    assert other.synthesis_digest() == small_schema().synthesis_digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("coarse = [30, 45, 60, 75]", "coarse = [30, 45, 60]"),
        ("coarse = [30, 45, 60, 75]", ""),
        ("max_items = 3", "max_items = 2"),
        ('["private", "gov", "self"]', '["private", "self", "gov"]'),
        ("bins = 20", "bins = 21"),
        (
            'other = "other"',
            'other = "other"\ncoarse_groups = [["private"], ["gov", "self", "other"]]',
        ),
    ],
)
def test_what_changes_the_cells_changes_the_digest_of_synthesis(old: str, new: str) -> None:
    assert read(SCHEMA.replace(old, new)).synthesis_digest() != small_schema().synthesis_digest()


def test_constraints_are_in_the_digests_of_schema_and_synthesis_alone() -> None:
    with_one = small_schema(CONSTRAINT)
    assert with_one.digest() != small_schema().digest()
    assert with_one.synthesis_digest() != small_schema().synthesis_digest()
    assert with_one.feature_digest() == small_schema().feature_digest()


def test_sites_of_different_size_share_the_digest_of_synthesis() -> None:
    other = read(SCHEMA.replace("order_of_magnitude = 4000", "order_of_magnitude = 300"))
    assert other.synthesis_digest() == small_schema().synthesis_digest()


def test_a_narrowed_schema_keeps_the_constraints_that_it_has_all_columns_of() -> None:
    schema = small_schema(CONSTRAINT)
    assert schema.narrowed(["sex", "work"]).constraints == schema.constraints
    assert schema.narrowed(["sex", "age"]).constraints == ()


def test_the_digest_of_a_schema_for_synthesis_is_this() -> None:
    # Pinned: it stands in ledgers and releases. A change needs a new SCHEMA_VERSION.
    assert small_schema(CONSTRAINT).synthesis_digest()[:16] == "a4834877cc049e7e"


def test_a_schema_that_has_been_read_can_be_written_and_read_again() -> None:
    schema = small_schema(CONSTRAINT)
    again = Schema.model_validate_json(schema.model_dump_json(), strict=True)
    assert again == schema
    assert again.digest() == schema.digest()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("coarse = [30, 45, 60, 75]", "coarse = [30, 30]", "columns.age: coarse must ascend"),
        ("coarse = [30, 45, 60, 75]", "coarse = [18]", "the nearest is 19"),
        ("coarse = [30, 45, 60, 75]", "coarse = [30.5]", "columns.age.coarse[0]"),
        ("coarse = [30, 45, 60, 75]", "coarse = []", "columns.age.coarse"),
        ("bins = 20", "bins = 20\ncoarse = [50000]", "50000 is no boundary of a fine cell"),
        ("bins = 20", "bins = 100001", "columns.income.bins"),
        ('other = "other"', 'coarse_groups = [["gov"], ["self"]]', "must hold all words once"),
        ('other = "other"', 'coarse_groups = [["private", "gov", "self"], []]', "must hold all"),
        ("max_items = 3", "", "columns.towers.max_items: missing"),
        ("max_items = 3", "max_items = 0", "columns.towers.max_items"),
        ("max_items = 3", 'max_items = 3\nvalues_file = "t"', "exactly one of values and"),
        ("max_items = 3", 'max_items = 3\nseparator = "o"', "no value may contain the separator"),
        ('"north", "east"', '"east", "east"', "columns.towers: values must all differ"),
        ('"north", "east"', '" east"', "or begin or end with a space"),
        ('label = "churn"', 'label = "towers"', "roles names 'towers', a block of columns"),
        ('label = "churn"', 'label = "notes"', "roles names 'notes', a block of columns"),
        ("version = 1", "version = 1\nderived_from_data = true", "was drafted from the records"),
        ("[roles]", '[[constraints]]\nnever = { age = "30" }\n[roles]', "which is no category"),
        ("[roles]", '[[constraints]]\nnever = { far = "x" }\n[roles]', "which is no category"),
        ("[roles]", '[[constraints]]\nnever = { sex = "x" }\n[roles]', "'x' is none of the values"),
        ("[roles]", "[[constraints]]\nnever = { sex = [] }\n[roles]", "each column needs a word"),
        ("[roles]", "[[constraints]]\nnever = {}\n[roles]", "constraints[0].never"),
    ],
)
def test_says_what_is_wrong_and_where(old: str, new: str, expected: str) -> None:
    assert old in SCHEMA
    with pytest.raises(InputError) as caught:
        read(SCHEMA.replace(old, new))
    assert expected in str(caught.value)


def test_text_alone_is_nothing_to_learn_from() -> None:
    head, tail = SCHEMA.split("[columns.age]")[0], SCHEMA[SCHEMA.index("[columns.churn]") :]
    with pytest.raises(InputError, match="there is no feature column besides the label"):
        read(head + '[columns.notes]\ntype = "text"\n' + tail)


def test_a_draft_that_says_that_it_is_none_is_a_schema() -> None:
    spelled = read(SCHEMA.replace("version = 1", "version = 1\nderived_from_data = false"))
    assert spelled.digest() == small_schema().digest()
