"""`sordino dataset`: for the site's admin, before a data set is declared."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sordino_protocols.errors import InputError
from sordino_protocols.signing import check_name
from sordino_protocols.terminal import note

dataset_app = typer.Typer(no_args_is_help=True, help="Declare data sets.")


@dataset_app.callback()
def dataset() -> None:
    """Declare data sets."""


@dataset_app.command("suggest-schema")
def suggest(
    records: Annotated[Path, typer.Argument(help="A CSV or Parquet file of the site's records.")],
    *,
    name: Annotated[str | None, typer.Option(help="Of the data set; else the file's.")] = None,
    label: Annotated[str | None, typer.Option(help="The column to predict.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="The column that names the entity behind a record.")
    ] = None,
    separator: Annotated[str, typer.Option(help="Between the words of one cell of a set.")] = "|",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="A new file, for its owner alone.")
    ] = None,
) -> None:
    """Draft a data set's file from its records, for the admin's eyes: the draft is a secret.

    It says `derived_from_data = true`, and no site releases anything under it. Put public knowledge
    in place of what the records said, and remove that line.
    """
    from sordino.toml_text import toml_text
    from sordino_client.data.suggestion import read_records, suggest_schema
    from sordino_protocols.files import write_secret

    if not separator:
        raise InputError("--separator must not be empty")
    kind = "parquet" if records.suffix.lower() in {".parquet", ".pq"} else "csv"
    draft = suggest_schema(
        read_records(records),
        name=check_name(name or records.stem.lower()),
        source={"kind": kind, "path": records.name},
        label=label,
        unit=unit,
        separator=separator,
    )
    text = toml_text(draft.tables, comments=draft.remarks)
    if out is None:
        sys.stdout.write(text)
        return
    write_secret(out, text.encode())
    note(f"{out}: a draft from the records, and as secret as they are: read it before you use it")
