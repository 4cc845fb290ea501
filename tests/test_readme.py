"""The README promises tests, files and commands: they are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_test_that_it_names_exists_where_it_says() -> None:
    named = re.findall(r"\[`(test_\w+)`\]\((tests/[\w/]+\.py)\)", README)
    assert len(named) >= 20
    for test, path in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_every_file_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


COMMANDS = sorted(set(re.findall(r"\.venv/bin/sordino ((?:[a-z]+ )*[a-z]+)", README)))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_it_shows_is_one(command: str) -> None:
    sordino = Path(sys.executable).with_name("sordino")
    done = subprocess.run(
        [str(sordino), *command.split(), "--help"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_make_target_that_it_shows_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
