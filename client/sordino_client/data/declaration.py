"""A data set as its admin declares it: the public schema, and where the records are."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.files import STRICT, read_toml
from sordino_protocols.schema import Schema


class CsvSource(BaseModel):
    """A comma-separated file in UTF-8 with a header line.

    Attributes:
        path: relative to the data set's file.
        missing: cells that mean "missing"; an empty cell always does.
        delimiter: between the cells of a line.
    """

    model_config = STRICT

    kind: Literal["csv"]
    path: Path
    missing: tuple[str, ...] = ()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","


class ParquetSource(BaseModel):
    """A Parquet file; a null means "missing".

    Attributes:
        path: relative to the data set's file.
    """

    model_config = STRICT

    kind: Literal["parquet"]
    path: Path


class DatasetFile(Schema):
    """A data set as its admin declares it: `Schema` is public, `source` never leaves the site."""

    source: Annotated[CsvSource | ParquetSource, Field(discriminator="kind")]

    @property
    def public(self) -> Schema:
        """The part that may leave the site; it has the same digests."""
        return Schema(dataset=self.dataset, columns=self.columns, roles=self.roles)


def read_dataset(path: Path) -> DatasetFile:
    """Read a data set's declaration; its source path becomes absolute.

    Raises:
        NotFoundError: there is no such file.
        InputError: it breaks the declaration's rules; names file, key and expectation.
    """
    dataset = read_toml(path, DatasetFile)
    source = dataset.source
    located = source.model_copy(update={"path": (path.parent / source.path).absolute()})
    return dataset.model_copy(update={"source": located})
