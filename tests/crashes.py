"""Series of crashes that a script of its own makes: it is ready to run only after a while."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

TESTS = Path(__file__).parent
_Crash = TypeVar("_Crash", bound=BaseModel)


def crash_series(
    script: str, directory: Path, names: Iterable[str], crash: type[_Crash], *, seconds: float
) -> dict[str, list[_Crash]]:
    """All crashes of several series, in one process.

    Args:
        script: one of this folder.
        directory: where it works, and writes what it saw.
        names: of the series.
        crash: what a line of the script's answer is.
        seconds: that it may take.

    Returns:
        The crashes, by series.
    """
    done = subprocess.run(
        [sys.executable, str(TESTS / script), str(directory), *names],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name: _read(directory / name, crash) for name in names}


def _read(directory: Path, crash: type[_Crash]) -> list[_Crash]:
    lines = (directory / "crashes.jsonl").read_text().splitlines()
    return [crash.model_validate_json(line) for line in lines]
