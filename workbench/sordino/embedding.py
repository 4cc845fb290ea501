"""Which features of a data set are one category, for a model that embeds categories.

Positions follow from the public schema alone, so a job may name them.
"""

from sordino_protocols.columns import CategoryColumn, width_of
from sordino_protocols.models import EmbeddingBlock
from sordino_protocols.schema import Schema


def embedding_blocks(schema: Schema, *, width: int) -> tuple[EmbeddingBlock, ...]:
    """The `embeddings` of an `mlp` on this data set.

    A category with `width` features or fewer gets no block: a table would make it wider. The
    indicator of a missing cell is one more word of its category.

    Args:
        schema: the data set's.
        width: of the vector that each category becomes.
    """
    return tuple(block for _, block in named_embedding_blocks(schema, width=width))


def named_embedding_blocks(schema: Schema, *, width: int) -> tuple[tuple[str, EmbeddingBlock], ...]:
    """As `embedding_blocks`, each with the name of its column."""
    found, start = [], 0
    for name, column in schema.features:
        count = width_of(column)
        if isinstance(column, CategoryColumn) and count > width:
            found.append((name, EmbeddingBlock(start=start, count=count, width=width)))
        start += count
    return tuple(found)
