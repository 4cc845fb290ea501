"""How commands speak: tables, JSON, JSON lines; quiet; questions; errors that can be looked up."""

import json
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from sordino_protocols.errors import (
    AuthenticationError,
    ExitCode,
    InputError,
    IntegrityError,
    SordinoError,
)
from sordino_protocols.terminal import (
    Output,
    complain,
    confirm,
    note,
    run_command,
    show,
    show_object,
)

ROWS = [{"site": "a", "epsilon": 1.5}, {"site": "b", "epsilon": 2.0}]


@pytest.mark.parametrize(
    ("output", "read"),
    [
        (Output.JSON, json.loads),
        (Output.JSONL, lambda text: [json.loads(line) for line in text.splitlines()]),
    ],
)
def test_rows_for_programs(
    output: Output, read: Callable[[str], object], capsys: pytest.CaptureFixture[str]
) -> None:
    show(ROWS, output=output)
    assert read(capsys.readouterr().out) == ROWS


def test_an_object_is_one_line_in_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show_object({"a": {"b": [1, 2]}}, output=Output.JSONL)
    assert capsys.readouterr().out == '{"a": {"b": [1, 2]}}\n'


def test_a_table_in_a_pipe_has_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, output=Output.TABLE)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert [line.split() for line in said.splitlines()][1:] == [["a", "1.5"], ["b", "2"]]


def run(*arguments: str, stdin: str | None = None, yes: bool = False) -> click.testing.Result:
    @click.group()
    @click.option("--quiet", is_flag=True)
    def app(*, quiet: bool) -> None:
        del quiet

    @app.command()
    def speak() -> None:
        note("by the way")
        complain("but this")
        show(ROWS, output=Output.JSON)

    @app.command()
    def ask() -> None:
        confirm("Really?", yes=yes)
        click.echo("done")

    return CliRunner().invoke(app, list(arguments), input=stdin)


def test_quiet_leaves_results_and_what_went_wrong() -> None:
    said = run("speak")
    assert "by the way" in said.stderr
    said = run("--quiet", "speak")
    assert said.stderr == "but this\n"
    assert json.loads(said.stdout) == ROWS


def test_outside_of_a_command_nothing_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    note("by the way")
    assert capsys.readouterr().err == "by the way\n"


def test_where_nobody_can_be_asked_it_is_said_how_to_agree() -> None:
    refused = run("ask", stdin="")
    assert isinstance(refused.exception, InputError)
    assert "--yes" in str(refused.exception)
    assert "done" in run("ask", yes=True).stdout


def test_an_answer_is_an_answer_wherever_it_comes_from() -> None:
    assert "done" in run("ask", stdin="y\n").stdout
    assert "done" not in run("ask", stdin="n\n").stdout


@pytest.mark.parametrize(
    ("error", "reference"),
    [
        (SordinoError("x"), "E0100"),
        (InputError("x"), "E0200"),
        (AuthenticationError("x"), "E0600"),
        (IntegrityError("x"), "E0800"),
    ],
)
def test_an_error_is_said_with_what_can_be_looked_up(
    error: SordinoError, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert run_command(fail) == error.exit_code
    assert capsys.readouterr().err == f"error[{reference}]: x\n"


def test_an_interrupted_command_has_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert run_command(interrupted) == ExitCode.INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err
