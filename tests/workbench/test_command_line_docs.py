"""What docs/command-line.md and the guides show can be typed, and is true."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer
from command_lines import parsed, shown_lines
from guides import Command, WrittenFile, blocks, story
from pydantic import BaseModel

from sordino.cli import app
from sordino.profile import ProfileFile
from sordino_audit.audit_config import AuditFile
from sordino_client.config import SiteFile
from sordino_client.data.declaration import DatasetFile
from sordino_client.policy_file import PolicyFile
from sordino_protocols.errors import ExitCode
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_server.config import ServerFile

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "command-line.md").read_text()
GUIDES = [DOCS / f"{name}.md" for name in ("operator", "site-admin", "auditor")]
SHOWN = shown_lines(TEXT)
TYPED = [each for each in story(GUIDES) if isinstance(each, Command)]
WRITTEN = [each for each in story(GUIDES) if isinstance(each, WrittenFile)]


def sordino_lines(text: str) -> list[str]:
    """The calls of `sordino` in a line of shell."""
    found = re.findall(r'(?:^|\$\()(sordino (?:"[^"]*"|[^>&;)|\n"])*)', text)
    return [each.replace("$TOLD", "00").replace("$RUN", "run") for each in found]


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_that_is_shown_can_be_typed(line: str) -> None:
    parsed(line)


@pytest.mark.parametrize("command", TYPED, ids=[each.place for each in TYPED])
def test_every_command_of_the_guides_can_be_typed(command: Command) -> None:
    for line in sordino_lines(command.text):
        parsed(line)


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    assert sordino_lines('RUN=$(sordino job submit "x;y") > log &') == ['sordino job submit "x;y"']
    with pytest.raises(AssertionError):
        parsed("sordino config shwo")
    with pytest.raises(click.UsageError):
        parsed("sordino config show --orgin")


def test_every_block_of_the_guides_is_part_of_the_story() -> None:
    for guide in GUIDES:
        found = blocks(guide)
        assert len(found) >= 5
        assert all(each.step is not None for each in found), guide
    assert {each.host for each in TYPED} == {"server", "site", "ada", "auditor"}


@pytest.mark.parametrize("file", WRITTEN, ids=[each.path for each in WRITTEN])
def test_every_file_of_the_guides_is_one(file: WrittenFile) -> None:
    kinds: dict[str, type[BaseModel]] = {
        "job.toml": JobFile,
        "policy.toml": PolicyFile,
        "heart.toml": DatasetFile,
        "audit.toml": AuditFile,
    }
    parse_toml(file.content, kinds[Path(file.path).name], source=file.place)


def test_every_exit_code_is_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \| [a-z]", TEXT, flags=re.MULTILINE)}
    assert listed == {int(each) for each in ExitCode}


def test_every_noun_is_listed() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group)
    table = TEXT[TEXT.index("| who |") : TEXT.index("## What it prints")]
    assert set(re.findall(r"`([a-z-]+)`", table)) == set(command.commands)


@pytest.mark.parametrize("file", [SiteFile, ServerFile, AuditFile, ProfileFile])
def test_every_key_is_on_the_configuration_page(
    file: type[BaseModel],
) -> None:
    text = (DOCS / "configuration.md").read_text()
    schema = file.model_json_schema()
    for section, facts in schema["properties"].items():
        assert f"[{section}]" in text, section
        names = re.findall(r"#/\$defs/(\w+)", str(facts))
        for key in schema["$defs"][names[0]]["properties"]:
            assert re.search(rf"^{key} = ", text, flags=re.MULTILINE), f"[{section}] {key}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(shell: str) -> None:
    sordino = Path(sys.executable).with_name("sordino")
    environ = {"PATH": "/usr/bin:/bin", "_SORDINO_COMPLETE": f"complete_{shell}"}
    environ |= {"COMP_WORDS": "sordino config ", "COMP_CWORD": "2"}  # bash
    environ |= {"_TYPER_COMPLETE_ARGS": "sordino config "}  # zsh and fish
    environ |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [str(sordino)], env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert {"check", "show"} <= set(re.findall(r"[a-z]+", done.stdout)), done.stderr
