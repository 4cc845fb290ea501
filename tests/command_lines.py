"""Command lines that a page shows, and what the command makes of them."""

import re
import shlex

import click
import typer

from sordino.cli import app

_SHELL = re.compile(r"^```sh\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def shown_lines(text: str) -> list[str]:
    """The lines of all blocks of shell on a page."""
    return [line for block in _SHELL.findall(text) for line in block.splitlines()]


def parsed(line: str) -> click.Context:
    """A command line, read as far as its options and arguments; nothing is run."""
    name, *arguments = shlex.split(line)
    assert name == "sordino"
    command: click.Command = typer.main.get_command(app)
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, line
        command = found
        context = click.Context(command, info_name=arguments.pop(0), parent=context)
    command.parse_args(context, arguments)
    return context
