"""`[source]`: where a data set's records are, as its admin declares it. It never leaves the site.

A query or a filter stands here and nowhere else: no job can name one. Which sources need a network
is told from the declaration alone, before anything is opened. This module is imported before the
vault leaves the network, so it imports nothing that starts a thread, such as numpy.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from sordino_client.data.credentials import is_credential, read_private
from sordino_protocols.files import STRICT
from sordino_protocols.words import ColumnName, Word

_LOCAL = "file://"
_STATEMENTS = ("select", "with")

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Identifier = Annotated[str, Field(min_length=1, max_length=128)]


class Condition(BaseModel):
    """A record is used only if its cell holds; a missing cell never does.

    Attributes:
        column: of the source; it is read, and is no feature unless `[columns]` declares it too.
        one_of: `in`: the cell is one of these words, compared exactly.
        none_of: `not_in`: the cell is none of these words.
        min: the cell is a number of at least this.
        max: the cell is a number of at most this.
    """

    model_config = ConfigDict(**STRICT, validate_by_name=True, validate_by_alias=True)

    column: ColumnName
    one_of: tuple[Word, ...] | None = Field(default=None, alias="in", min_length=1)
    none_of: tuple[Word, ...] | None = Field(default=None, alias="not_in", min_length=1)
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> "Condition":
        is_bounded = self.min is not None or self.max is not None
        if (self.one_of is not None) + (self.none_of is not None) + is_bounded != 1:
            raise ValueError("exactly one is required: in, not_in, or bounds by min and max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min must not be above max")
        return self


class FileSource(BaseModel):
    """What all files have in common. Exactly one of `path` and `url` is declared.

    Attributes:
        path: relative to the data set's file; `part-*.csv` names several files of one header, read
            in the order of their names.
        url: `s3://bucket/key`, where the key may be such a pattern too, or `file:///path`.
        options_file: how to reach the object store; relative to the data set's file, and readable
            by its owner alone, or `credential:NAME`.
        where: conditions that a record must all meet.
        timeout_seconds: how long an object store may be silent.
    """

    model_config = STRICT

    path: Path | None = None
    url: str | None = None
    options_file: Path | None = None
    where: tuple[Condition, ...] = ()
    timeout_seconds: Seconds = 600.0

    @field_validator("url")
    @classmethod
    def _known(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password or query; they belong in options_file")
        is_s3 = parts.scheme == "s3" and parts.netloc and parts.path.strip("/")
        is_local = parts.scheme == "file" and not parts.netloc and parts.path.strip("/")
        if not is_s3 and not is_local:
            raise ValueError("must be s3://bucket/key or file:///path")
        return url

    @model_validator(mode="after")
    def _one_place(self) -> "FileSource":
        if (self.path is None) == (self.url is None):
            raise ValueError("exactly one of path and url is required")
        if self.options_file is not None and not self.is_remote:
            raise ValueError("options_file goes with url = 's3://...'")
        return self

    @property
    def is_remote(self) -> bool:
        """Whether reading it takes a network."""
        return self.url is not None and not self.url.startswith(_LOCAL)

    @property
    def place(self) -> str:
        """What errors call it; holds no secret."""
        return str(self.path) if self.url is None else self.url


class CsvSource(FileSource):
    """Comma-separated files in UTF-8 with a header line.

    Attributes:
        missing: cells that mean "missing"; an empty cell always does.
        delimiter: between the cells of a line.
    """

    kind: Literal["csv"]
    missing: tuple[str, ...] = ()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","


class ParquetSource(FileSource):
    """Parquet files; a null means "missing"."""

    kind: Literal["parquet"]


class SqlSource(BaseModel):
    """A table or a query of an SQLite or PostgreSQL database, read once, read only.

    Attributes:
        url_file: holds the database's SQLAlchemy URL on one line; relative to the data set's file,
            and readable by its owner alone, or `credential:NAME`.
        table: whose rows are the records.
        in_schema: `schema`: where the table is, if not where the database looks first.
        query: one SELECT, whose rows are the records; only declared columns of it are fetched.
        timeout_seconds: how long the database may be silent.
    """

    model_config = ConfigDict(**STRICT, validate_by_name=True, validate_by_alias=True)

    kind: Literal["sql"]
    url_file: Path
    table: Identifier | None = None
    in_schema: Identifier | None = Field(default=None, alias="schema")
    query: str | None = None
    timeout_seconds: Seconds = 600.0

    @model_validator(mode="after")
    def _one_statement(self) -> "SqlSource":
        if (self.table is None) == (self.query is None):
            raise ValueError("exactly one of table and query is required")
        if self.query is None:
            return self
        if self.in_schema is not None:
            raise ValueError("schema goes with table; in a query, spell it there")
        words = self.query.split(maxsplit=1)
        if ";" in self.query or not words or words[0].lower() not in _STATEMENTS:
            raise ValueError("query must be one SELECT (or WITH ... SELECT) without a semicolon")
        return self

    @property
    def is_remote(self) -> bool:
        """Whether reading it may take a network: all but SQLite.

        Raises:
            NotFoundError: there is no such `url_file`.
            InputError: `url_file` is not private or not readable.
        """
        return not read_private(self.url_file).strip().lower().startswith("sqlite")

    @property
    def place(self) -> str:
        """What errors call it; holds no secret."""
        return f"{self.url_file}: {'the query' if self.table is None else f'table {self.table!r}'}"


AnySource = CsvSource | ParquetSource | SqlSource
Source = Annotated[AnySource, Field(discriminator="kind")]
"""The `[source]` table as a file holds it."""


class Sourced(BaseModel):
    """The part of a data set's file that says where the records are; the rest is not looked at."""

    model_config = ConfigDict(**{**STRICT, "extra": "ignore"})

    source: Source


def located(source: AnySource, directory: Path) -> AnySource:
    """The source with absolute paths; relative ones start at `directory`, where its file lies."""
    match source:
        case SqlSource():
            return source.model_copy(update={"url_file": _below(directory, source.url_file)})
        case CsvSource() | ParquetSource():
            path = source.path
            if source.url is not None and source.url.startswith(_LOCAL):
                path = Path(source.url.removeprefix(_LOCAL))
            options = source.options_file
            return source.model_copy(
                update={
                    "path": None if path is None else (directory / path).absolute(),
                    "url": None if path is not None else source.url,
                    "options_file": None if options is None else _below(directory, options),
                }
            )


def _below(directory: Path, path: Path) -> Path:
    return path if is_credential(path) else (directory / path).absolute()
