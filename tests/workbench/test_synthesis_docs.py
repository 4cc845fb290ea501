"""What docs/synthesis.md shows is what the readers read."""

import re
from pathlib import Path

import pytest
from plausible_synthesis import SCHEMA
from typer.testing import CliRunner

import sordino
from sordino.cli import app
from sordino.synthesis_jobs import completed
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.pricing import price, resolve

TEXT = (Path(__file__).parents[2] / "docs" / "synthesis.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_there_is_an_example_of_each_kind() -> None:
    kinds = [parse_toml(each, JobFile, source="docs").job.kind for each in EXAMPLES]
    assert kinds == ["synthesize", "train", "count"]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_a_job_with_a_price(example: str) -> None:
    job = resolve(completed(parse_toml(example, JobFile, source="docs"), SCHEMA))
    assert price(job).epsilon_pld <= job.file.require_privacy().epsilon


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"\bsordino ((?:[a-z][a-z-]*)(?: [a-z][a-z-]+)?)", TEXT)))
)
def test_every_command_is_there(command: str) -> None:
    words = command.split()
    found = CliRunner().invoke(app, [*words, "--help"])
    if found.exit_code and len(words) > 1:  # the second word is an argument
        found = CliRunner().invoke(app, [words[0], "--help"])
    assert found.exit_code == 0, found.output


def test_every_function_is_there() -> None:
    named = set(re.findall(r"\bsordino\.([a-z_]+)\(", TEXT))
    assert {"synthesize", "fit_generator", "sample"} <= named
    assert named <= set(sordino.__all__)
