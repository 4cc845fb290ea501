"""From a frame of raw cells to the cells of a schema: the encoder, and what is read off it."""

import pandas as pd

from sordino_client.data.encode import encode
from sordino_client.data.table_cells import Cells, cells_of
from sordino_protocols.schema import Schema

__all__ = ["Cells", "cells_of", "encode_cells"]


def encode_cells(frame: pd.DataFrame, schema: Schema, *, source: str = "table") -> Cells:
    """The cells of records, clipped, gathered under `other` or missing as the encoder has them.

    Args:
        frame: has at least `schema.source_names()`; cells are text, numbers, booleans or missing.
        schema: the public declaration.
        source: what errors call the frame.

    Returns:
        [records, positions], in the order of `synthesis.domain.domain_of(schema)`.

    Raises:
        InputError: as for `encode`, or the schema has a column that has no cells.
    """
    return cells_of(encode(frame, schema, source=source), schema)
