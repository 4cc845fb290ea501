from sordino.embedding import embedding_blocks, named_embedding_blocks
from sordino_protocols.files import parse_toml
from sordino_protocols.models import EmbeddingBlock
from sordino_protocols.schema import Schema

SCHEMA = parse_toml(
    """
[dataset]
name = "toy"
version = 1
order_of_magnitude = 300
holdout_fraction = 0.25
[columns.age]
type = "integer"
min = 0
max = 90
nullable = true
[columns.town]
type = "category"
values = ["a", "b", "c", "d"]
other = "elsewhere"
nullable = true
[columns.sex]
type = "category"
values = ["f", "m"]
[columns.pixel]
type = "vector"
count = 3
min = 0
max = 255
[columns.class]
type = "category"
values = ["1", "2", "3"]
[columns.y]
type = "category"
values = ["no", "yes"]
[roles]
label = "y"
positive_values = ["yes"]
""",
    Schema,
    source="toy.toml",
)


def test_blocks_are_where_the_feature_names_say() -> None:
    names = SCHEMA.feature_names()
    found = {
        column: names[block.start : block.start + block.count]
        for column, block in named_embedding_blocks(SCHEMA, width=1)
    }
    assert found == {
        "class": ("class=1", "class=2", "class=3"),
        "sex": ("sex=f", "sex=m"),
        "town": ("town=a", "town=b", "town=c", "town=d", "town=elsewhere", "town:missing"),
    }


def test_a_category_no_wider_than_the_vector_stays_as_it_is() -> None:
    assert embedding_blocks(SCHEMA, width=3) == (EmbeddingBlock(start=10, count=6, width=3),)
    assert SCHEMA.feature_names()[10] == "town=a"
    assert embedding_blocks(SCHEMA, width=6) == ()
