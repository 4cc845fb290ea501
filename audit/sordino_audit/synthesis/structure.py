"""Whether the structure of what leaves tells anything about the records.

Structure is what no noise hides: how many numbers there are, which columns, rows and words a
synthetic table has, what a file is made of. For every odd table of `canary_tables` it must be that
of the ordinary one. And a word that no schema declares must come out nowhere, errors included.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from sordino_audit.probes.found import Found
from sordino_audit.probes.sources import Constant
from sordino_audit.synthesis.canary_tables import (
    CANARY,
    CanaryTable,
    canary_schema,
    canary_tables,
    ordinary_table,
)
from sordino_client.data.cell_encoding import encode_cells
from sordino_client.synthesis.measure import measure
from sordino_client.training.noise import Noise
from sordino_protocols.columns import (
    AnyColumn,
    CategoryColumn,
    IntegerColumn,
    NumberColumn,
    SetColumn,
)
from sordino_protocols.errors import InputError
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.specs import MixtureSpec

_NOISE_MULTIPLIER = 4.0
_SEED = 11
_SHOWN = 3
_HEADER_BYTES = 8
_SILENT = Constant(0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """What leaves of a table.

    Attributes:
        numbers: of a release.
        rows: of a synthetic table, by column; empty where there is none.
        file: bytes of a safetensors file; empty where there is none.
    """

    numbers: npt.NDArray[np.int32]
    rows: dict[str, list[object]]
    file: bytes = b""


Pipeline = Callable[[pd.DataFrame, Schema, Noise], Published]
"""From a site's records to everything that leaves of them."""


def released(frame: pd.DataFrame, schema: Schema, noise: Noise) -> Published:
    """The product's encoder and release."""
    shape = domain_of(schema).shape
    marginals = MixtureSpec().marginals(shape, _NOISE_MULTIPLIER)
    cells = encode_cells(frame, schema)
    return Published(measure(cells, marginals, shape=shape, noise=noise), {})


def structure(
    pipeline: Pipeline = released, schema: Schema | None = None, *, noise: Noise = _SILENT
) -> Found:
    """No odd table changes the structure of what leaves, or brings out an undeclared word.

    Args:
        pipeline: what is probed.
        schema: of the tables; one with every kind of column by default.
        noise: of every release; none by default, since it changes no structure.
    """
    schema = schema or canary_schema()
    ordinary = ordinary_table(schema, rng=np.random.default_rng(_SEED))
    expected = shape_of(pipeline(ordinary, schema, noise))
    tables = list(canary_tables(schema, ordinary))
    changed = [each.name for each in tables if _is_told(pipeline, schema, each, noise, expected)]
    if changed:
        shown = "; ".join(changed[:_SHOWN])
        return Found(
            is_passed=False,
            message=f"{len(changed)} of {len(tables)} odd tables show in the structure of what is"
            f" released: {shown}",
        )
    return Found(
        is_passed=True, message=f"{len(tables)} odd tables leave no trace in any structure"
    )


def shape_of(published: Published) -> tuple[object, ...]:
    """What no noise hides of it."""
    rows = tuple((name, len(values)) for name, values in published.rows.items())
    numbers = published.numbers
    return (numbers.shape, numbers.dtype.str, rows, _parts(published.file))


def _parts(file: bytes) -> str:
    """The names, types and shapes of the arrays in a file, and the names of its facts."""
    if not file:
        return ""
    length = int.from_bytes(file[:_HEADER_BYTES], "little")
    header = json.loads(file[_HEADER_BYTES : _HEADER_BYTES + length])
    facts = sorted(header.pop("__metadata__", {}))
    arrays = {name: (each["dtype"], each["shape"]) for name, each in header.items()}
    return json.dumps([facts, arrays], sort_keys=True)


def _is_told(
    pipeline: Pipeline,
    schema: Schema,
    table: CanaryTable,
    noise: Noise,
    expected: tuple[object, ...],
) -> bool:
    """Whether something other than noisy numbers tells the odd table from the ordinary one."""
    try:
        published = pipeline(table.frame, schema, noise)
    except InputError as error:
        # For the site's admin alone; even there no cell is repeated.
        return not table.is_refused or CANARY in str(error)
    if table.is_refused or shape_of(published) != expected:
        return True
    return CANARY.encode() in published.file or not all(
        _is_declared(values, schema.columns[name]) for name, values in published.rows.items()
    )


def _is_declared(values: Sequence[object], column: AnyColumn) -> bool:
    """Whether a column has only values that its declaration allows, of their declared type."""
    present = [each for each in values if each is not None]
    match column:
        case IntegerColumn():
            return all(type(each) is int and column.min <= each <= column.max for each in present)
        case NumberColumn():
            return all(type(each) is float and column.min <= each <= column.max for each in present)
        case CategoryColumn():
            return set(present) <= set(column.words)
        case SetColumn():
            return all(
                isinstance(each, list) and set(each) <= set(column.words) for each in present
            )
        case _:
            return False
