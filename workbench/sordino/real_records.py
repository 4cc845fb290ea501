"""The real records that a local report looks at: for whoever may see them, and nobody else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sordino.model_files import read_declaration
from sordino.synthetic_utility import Examples
from sordino_client.config import load_config
from sordino_client.data.cell_encoding import cells_of
from sordino_client.data.connectors import load_table
from sordino_client.data.declaration import DatasetFile, read_dataset
from sordino_client.data.loading import split_key
from sordino_client.data.sources import CsvSource, ParquetSource
from sordino_client.data.table import Table, split
from sordino_protocols.errors import InputError, NotFoundError
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import Cells

_PARQUET = frozenset({".parquet", ".pq"})
_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one side.

    Attributes:
        cells: [records, positions].
        examples: the same records as a model reads them.
    """

    cells: Cells
    examples: Examples

    def __repr__(self) -> str:
        return "Records(...)"


@dataclass(frozen=True, slots=True)
class RealRecords:
    """What a site has.

    Attributes:
        schema: the public declaration.
        members: records that a synthesis measured.
        strangers: records of the same population that it did not.
        is_split_known: whether that is so; else records were told apart at random, and both sides
            were measured.
    """

    schema: Schema
    members: Records
    strangers: Records
    is_split_known: bool


def records_of_site(config: Path, dataset: str) -> RealRecords:
    """A site's own records, split as the site splits them.

    Args:
        config: the site's `site.toml`.
        dataset: by its name.

    Raises:
        NotFoundError: a file is absent, or there is no such data set.
        InputError: a file is wrong, or there are too few records.
    """
    site = load_config(config).site
    for path in sorted(site.datasets.glob("*.toml")):
        declared = read_dataset(path)
        if declared.dataset.name == dataset:
            key = split_key(site.state / "split.key")
            fraction = declared.dataset.holdout_fraction
            sides = split(load_table(declared), fraction=fraction, key=key)
            return _real(declared.public, *sides, is_split_known=True)
    raise NotFoundError(f"{config}: no data set {dataset!r} in {site.datasets}")


def records_of_files(
    data: Path, declaration: Path, held_out: Path | None, *, rng: np.random.Generator
) -> RealRecords:
    """Records of one file, and of another that no synthesis saw.

    Args:
        data: CSV or Parquet.
        declaration: the data set's TOML file; its source is not looked at.
        held_out: CSV or Parquet; None: a random fifth of `data` plays the strangers.
        rng: draws that fifth.

    Raises:
        NotFoundError: a file is absent.
        InputError: a file is wrong, or there are too few records.
    """
    declared = read_declaration(declaration)
    schema = declared.public if isinstance(declared, DatasetFile) else declared
    table = load_table(_located(declared, schema, data))
    if held_out is not None:
        others = load_table(_located(declared, schema, held_out))
        return _real(schema, table, others, is_split_known=True)
    is_stranger = rng.permutation(len(table.labels)) < len(table.labels) // 5
    members, strangers = np.flatnonzero(~is_stranger), np.flatnonzero(is_stranger)
    return RealRecords(
        schema=schema,
        members=_chosen(table, members, schema),
        strangers=_chosen(table, strangers, schema),
        is_split_known=False,
    )


def _located(declared: Schema, schema: Schema, path: Path) -> DatasetFile:
    """The declaration with a file for a source; what a missing cell looks like stays."""
    where = path.absolute()
    if not where.exists():
        raise NotFoundError(f"{path}: no such file")
    source: CsvSource | ParquetSource = CsvSource(kind="csv", path=where)
    if path.suffix.lower() in _PARQUET:
        source = ParquetSource(kind="parquet", path=where)
    elif isinstance(declared, DatasetFile) and isinstance(declared.source, CsvSource):
        source = declared.source.model_copy(update={"path": where, "url": None})
    return DatasetFile(
        dataset=schema.dataset,
        columns=schema.columns,
        roles=schema.roles,
        constraints=schema.constraints,
        source=source,
    )


def _real(schema: Schema, members: Table, strangers: Table, *, is_split_known: bool) -> RealRecords:
    sides = (members, strangers)
    if min(len(side.labels) for side in sides) < _FEWEST:
        raise InputError(f"fewer than {_FEWEST} records on a side: nothing can be compared")
    everybody = [_chosen(side, np.arange(len(side.labels)), schema) for side in sides]
    return RealRecords(schema, everybody[0], everybody[1], is_split_known=is_split_known)


def _chosen(
    table: Table, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]", schema: Schema
) -> Records:
    features = np.asarray(table.features[rows], dtype=np.float32)
    return Records(cells_of(table, schema, rows=rows), Examples(features, table.labels[rows]))
