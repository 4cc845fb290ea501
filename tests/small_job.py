"""A job file of few lines, for tests to change and to break."""

import pytest

from sordino_protocols.errors import ExitCode, InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile

TEXT = """
[job]
name = "heart-risk"
kind = "train"
dataset = "heart"
[privacy]
unit = "record"
epsilon = 4
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = 30
local_steps = 2
sampling_rate = 1
clipping_norm = 0.5
[optimizer]
learning_rate = 2.0
[cohort]
sites = ["cleveland", "va"]
quorum = 2
"""


def read_file(text: str = TEXT) -> JobFile:
    """Read a job, by default the one above."""
    return parse_toml(text, JobFile, source="job.toml")


def problem(text: str) -> str:
    """What is said of a job that is refused."""
    with pytest.raises(InputError) as caught:
        read_file(text)
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)
