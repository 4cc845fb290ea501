"""How commands speak: tables for people, JSON for programs, errors that say how to fix it.

Data goes to stdout, everything else to stderr. NO_COLOR and a pipe both mean plain text.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from sordino_protocols.errors import ExitCode, SordinoError

_PIPE_WIDTH = 1000


class Output(StrEnum):
    """What a command prints."""

    TABLE = "table"
    JSON = "json"


def show(rows: Sequence[Mapping[str, object]], *, output: Output, title: str | None = None) -> None:
    """Print rows with the same keys, as a table or as one JSON list."""
    if output is Output.JSON:
        sys.stdout.write(json.dumps(list(rows), indent=2) + "\n")
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
    if output is Output.JSON:
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
        return
    width = max((len(key) for key in value), default=0)
    for key, each in value.items():
        sys.stdout.write(f"{key.replace('_', ' '):<{width}}  {_cell(each)}\n")


def note(text: str) -> None:
    """Tell a person something that is no result."""
    sys.stderr.write(text + "\n")


def run_command(command: Callable[[], int | None]) -> int:
    """Run a command and turn what goes wrong into a message and an exit code."""
    try:
        return command() or ExitCode.OK
    except SordinoError as error:
        note(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note("interrupted")
        return ExitCode.INTERRUPTED


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
