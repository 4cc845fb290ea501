"""Where records come from: one TOML file a data set, the public schema plus a private source.

Only declared columns are read, batch by batch, and nothing in a source is evaluated. Whatever a
reader raises is dropped where it arises, cause and all: parsers quote the cell that they stumbled
over.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from sordino_client.data.cells import gathered, kinds_of, no_cells, of_kinds
from sordino_client.data.databases import read_database
from sordino_client.data.declaration import DatasetFile
from sordino_client.data.encode import Violations, encode
from sordino_client.data.files import read_files
from sordino_client.data.sources import CsvSource, ParquetSource, SqlSource
from sordino_client.data.storage import RowStore, Spill
from sordino_client.data.table import Table
from sordino_client.entities import digest_keys, group_digests


def load_table(
    dataset: DatasetFile,
    *,
    spill: Spill | None = None,
    cells: "Iterable[pa.Table] | None" = None,
    violations: Violations | None = None,
) -> Table:
    """Read and encode all records. Call it before any job: its errors depend on records.

    Args:
        dataset: the declaration, its paths absolute.
        spill: when features go to disk; None: never. What is loaded is the same to the last bit.
        cells: what `read_cells` gives, where another process reads the source; None: read it here.
        violations: counts the cells that their declaration had to change, or refused. Secret.

    Raises:
        NotFoundError: a file that the source names is absent.
        InputError: the source is absent, unreadable or garbled, lacks a column, or a cell breaks
            the schema; names file, column and rule, never anything of a record. Only the site's
            admin may see it.
    """
    place, unit = dataset.source.place, dataset.dataset.unit
    features, labels, label_cells, keys = RowStore(spill), [], [], []
    for batch in read_cells(dataset) if cells is None else cells:
        frame: pd.DataFrame = batch.to_pandas(ignore_metadata=True, date_as_object=True)
        encoded = encode(frame, dataset, source=place, violations=violations)
        features.append(encoded.features)
        labels.append(encoded.labels)
        if encoded.label_cells is not None:
            label_cells.append(encoded.label_cells)
        if unit is not None:
            keys.append(digest_keys(batch.column(unit).to_numpy(), source=place))
    entities = None if unit is None else group_digests(np.concatenate(keys))
    return Table(
        features.finish(),
        np.concatenate(labels),
        entities,
        label_cells=np.concatenate(label_cells) if label_cells else None,
    )


def read_cells(dataset: DatasetFile) -> "Iterator[pa.Table]":
    """The source's cells of the declared columns, as text or numbers; the first table is empty.

    Raises:
        NotFoundError: a file that the source names is absent.
        InputError: as for `load_table`, but for what only the encoder sees.
    """
    kinds = kinds_of(dataset)
    yield no_cells(kinds)
    match dataset.source:
        case CsvSource() | ParquetSource() as source:
            rows = gathered(read_files(source, list(kinds)))
        case SqlSource() as source:
            rows = read_database(source, kinds)
    for table in rows:
        yield of_kinds(table, kinds, place=dataset.source.place)
