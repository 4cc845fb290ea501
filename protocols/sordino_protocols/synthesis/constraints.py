"""Combinations that public knowledge says never occur, kept out of synthetic records.

Rows that break a constraint are drawn again, so the others have the generator's own distribution
given that no constraint is broken.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.schema import Constraint, Schema
from sordino_protocols.synthesis.domain import CategoryDomain, Domain, domain_of

Cells = npt.NDArray[np.int32]
Chosen = npt.NDArray[np.bool_]

_MOST_DRAWS = 200


def is_forbidden(cells: Cells, schema: Schema) -> Chosen:
    """Which rows break one of the schema's constraints, bool [rows].

    Args:
        cells: [rows, positions] of the schema's domain.
        schema: declares the constraints.
    """
    domain = domain_of(schema)
    broken = np.zeros(len(cells), dtype=np.bool_)
    for constraint in schema.constraints:
        broken |= _breaks(cells, constraint, domain)
    return broken


def obeying(draw: Callable[[int], Cells], schema: Schema, *, rows: int) -> Cells:
    """So many rows that break no constraint of the schema.

    Args:
        draw: draws so many rows of the schema's domain.
        schema: declares the constraints.
        rows: how many to give.

    Raises:
        InputError: nearly every row that is drawn breaks a constraint.
    """
    cells = draw(rows)
    if not schema.constraints:
        return cells
    for _ in range(_MOST_DRAWS):
        broken = np.flatnonzero(is_forbidden(cells, schema))
        if not len(broken):
            return cells
        cells[broken] = draw(len(broken))
    raise InputError(
        f"constraints: after {_MOST_DRAWS} draws there are still rows that break one; check that"
        " the constraints leave something"
    )


def _breaks(cells: Cells, constraint: Constraint, domain: Domain) -> Chosen:
    broken = np.ones(len(cells), dtype=np.bool_)
    for position, column in domain.starts():
        if column.name in constraint.never and isinstance(column, CategoryDomain):
            words = constraint.words_of(column.name)
            broken &= np.isin(
                cells[:, position], [column.column.words.index(each) for each in words]
            )
    return broken
