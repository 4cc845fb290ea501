"""How commands speak: tables for people, JSON for programs, errors that say how to fix it.

Data goes to stdout, everything else to stderr. NO_COLOR and a pipe both mean plain text. With
`sordino --quiet` nothing but data and errors is said.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import click
import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from sordino_protocols.errors import ExitCode, InputError, SordinoError

_PIPE_WIDTH = 1000


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Say a key of the configuration, above all that its files and the environment say.",
    ),
]


class Output(StrEnum):
    """What a command prints: a table for people, one JSON value, or JSON values a line each."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"

    @property
    def is_json(self) -> bool:
        """Whether a program reads it."""
        return self is not Output.TABLE


def show(rows: Sequence[Mapping[str, object]], *, output: Output, title: str | None = None) -> None:
    """Print rows with the same keys: as a table, one JSON list, or a JSON object a line."""
    if output.is_json:
        show_json(list(rows), output=output)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for key in rows[0] if rows else ():
        is_number = isinstance(rows[0][key], int | float) and not isinstance(rows[0][key], bool)
        justify: JustifyMethod = "right" if is_number else "left"
        table.add_column(key.replace("_", " "), justify=justify, overflow="fold")
    for row in rows:
        # As text: a cell such as [alice] is no markup.
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    # Into a pipe or a file a line stays a line, however long.
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def show_object(value: Mapping[str, object], *, output: Output) -> None:
    """Print one object: key and value a line, or one JSON object."""
    if output.is_json:
        show_json(value, output=output)
        return
    width = max((len(key) for key in value), default=0)
    for key, each in value.items():
        sys.stdout.write(f"{key.replace('_', ' '):<{width}}  {_cell(each)}\n")


def show_json(value: object, *, output: Output) -> None:
    """Print a value for a program: over several lines, or a list's items a line each."""
    if output is not Output.JSONL:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        return
    for each in value if isinstance(value, list) else [value]:
        sys.stdout.write(json.dumps(each) + "\n")


def note(text: str) -> None:
    """Tell a person something that is no result, unless they asked for quiet."""
    if not is_quiet():
        sys.stderr.write(text + "\n")


def complain(text: str) -> None:
    """Tell a person what went wrong, also one who asked for quiet."""
    sys.stderr.write(text + "\n")


def is_quiet() -> bool:
    """Whether the command that runs was called as `sordino --quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


def confirm(question: str, *, yes: bool) -> None:
    """Return if a person agrees, or has by `--yes`.

    Raises:
        InputError: nobody can be asked: this is no terminal, and no answer comes from elsewhere.
        click.Abort: they do not.
    """
    if yes:
        return
    try:
        is_agreed = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise InputError(f"{question} Nobody can be asked here; if it is so, say --yes") from None
    if not is_agreed:
        raise click.Abort


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command and turn what goes wrong into a message and an exit code."""
    try:
        return command() or ExitCode.OK
    except SordinoError as error:
        complain(spell_error(error))
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return ExitCode.INTERRUPTED


def spell_error(error: SordinoError) -> str:
    """An error as every command says it: `error[E0200]: site.toml:3: link.servr: ...`."""
    return f"error[{error.reference}]: {error}"


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return ", ".join(_cell(each) for each in value)
        case dict():
            return json.dumps(value)
        case _:
            return str(value)
