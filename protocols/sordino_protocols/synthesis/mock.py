"""Rows made from the schema alone: they say what the data looks like, and nothing about it."""

import numpy as np
import numpy.typing as npt

from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.constraints import obeying
from sordino_protocols.synthesis.domain import Domain, SetDomain, domain_of
from sordino_protocols.synthesis.shapes import SetShape, width_of

Cells = npt.NDArray[np.int32]
Generator = np.random.Generator

_MISSING_SHARE = 0.1


def mock_cells(schema: Schema, rows: int, *, rng: Generator) -> Cells:
    """Rows that the schema allows, every column on its own, [rows, positions].

    Every word and every fine cell is as likely as any other of its column; a cell is missing in a
    tenth of the rows where it may be. No record was looked at, so it costs no privacy.

    Args:
        schema: the public declaration.
        rows: how many.
        rng: draws them.

    Raises:
        InputError: a column cannot be synthesised, or the constraints leave nothing.
    """
    domain = domain_of(schema)
    return obeying(lambda count: _drawn(domain, count, rng), schema, rows=rows)


def _drawn(domain: Domain, rows: int, rng: Generator) -> Cells:
    cells = np.empty((rows, domain.position_count), dtype=np.int32)
    for position, column in domain.starts():
        width = width_of(column.shape)
        if isinstance(column, SetDomain):
            cells[:, position : position + width] = _items(column.shape, rows, rng)
            continue
        present = column.shape.fine - column.column.nullable
        drawn = rng.integers(0, present, rows)
        if column.missing is not None:
            drawn[rng.random(rows) < _MISSING_SHARE] = column.missing
        cells[:, position] = drawn
    return cells


def _items(shape: SetShape, rows: int, rng: Generator) -> Cells:
    """Any number of items up to the most, every number as often."""
    counts = rng.integers(0, shape.at_most + 1, (rows, 1))
    ranks = rng.random((rows, shape.items)).argsort(axis=1).argsort(axis=1)
    return (ranks < counts).astype(np.int32)
