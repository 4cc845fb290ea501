"""Job files of few lines, for tests to change and to break."""

from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile


def job_text(sections: str, *, name: str = "small", epsilon: int = 4, rounds: int = 3) -> str:
    """A job file: what all of them say, and the sections in which they differ."""
    return f"""
[job]
name = "{name}"
kind = "train"
dataset = "heart"
[privacy]
unit = "record"
epsilon = {epsilon}
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = {rounds}
sampling_rate = 1
clipping_norm = 0.5
[optimizer]
learning_rate = 2.0
{sections.strip()}
"""


TEXT = job_text(
    """
[cohort]
sites = ["cleveland", "va"]
quorum = 2
""",
    name="heart-risk",
    rounds=30,
).replace("[training]", "[training]\nlocal_steps = 2")


def of_classes(text: str, *, outputs: int) -> str:
    """The job for a label of so many classes."""
    return text.replace('kind = "logistic"', f'kind = "logistic"\noutputs = {outputs}').replace(
        "[training]", '[training]\nloss = "cross_entropy"'
    )


def of_numbers(text: str) -> str:
    """The job for a label that is a number."""
    return text.replace("[training]", '[training]\nloss = "squared"')


def of_entities(text: str) -> str:
    """The job for units of up to two records."""
    return text.replace('unit = "record"', 'unit = "entity"').replace(
        "[training]", "[training]\nrecords_per_unit = 2"
    )


def read_file(text: str = TEXT) -> JobFile:
    """Read a job, by default the one above."""
    return parse_toml(text, JobFile, source="job.toml")


VALIDATION = f"""
[job]
name = "bought-model"
kind = "validate"
dataset = "heart"
[privacy]
unit = "record"
epsilon = 2
delta = 1e-5
[model]
kind = "logistic"
[validation]
weights_sha256 = "{"0a" * 32}"
[cohort]
sites = ["cleveland", "va"]
quorum = 2
"""


def validating(weights_sha256: str) -> str:
    """The validation of the model with this digest."""
    return VALIDATION.replace("0a" * 32, weights_sha256)
