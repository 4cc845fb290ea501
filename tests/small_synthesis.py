"""Small jobs that make tables, for the data set of `federation`, and policies that allow them."""

from functools import cache

from federation import SCHEMA
from one_site import POLICY
from small_job import read_file

from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job
from sordino_protocols.job_sections import SynthesisSection
from sordino_protocols.pricing import resolve
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of

TABLE_POLICY = POLICY.replace(
    'kinds = ["train"]', 'kinds = ["train", "synthesize", "count", "mock"]'
)

_COHORT = """
[cohort]
quorum = 2
deadline_seconds = 60
grace_seconds = 0
"""
_PRIVACY = """
[privacy]
unit = "record"
epsilon = {epsilon}
delta = 1e-5
"""
LOCAL = 'mode = "local"\ngenerator = { kind = "mixture", components = 20 }'
SUM = 'mode = "sum"\nsilent = 1\ngenerator = { kind = "mixture", components = 20 }'
TABLE = 'mode = "table"\nrows = 40\ngenerator = { kind = "mixture", components = 20 }'


def schema_of(text: str = SCHEMA) -> Schema:
    """A schema, by default the federation's."""
    return parse_toml(text, Schema, source="dataset.toml")


@cache
def synthesis_job(section: str = LOCAL, *, cohort: str = _COHORT, epsilon: float = 4.0) -> Job:
    """A synthesis of the federation's data set, with its shape filled in."""
    if section == SUM and cohort == _COHORT:
        cohort += 'sites = ["a", "b", "c"]'
    head = '[job]\nname = "small-table"\nkind = "synthesize"\ndataset = "heart"'
    text = f"{head}{_PRIVACY.format(epsilon=epsilon)}[synthesis]\n{section}\n{cohort}"
    file, schema = read_file(text), schema_of()
    known = {"schema_sha256": schema.synthesis_digest(), "shape": domain_of(schema).shape}
    filled = SynthesisSection.model_validate(
        file.require_synthesis().model_dump(exclude=set(known)) | known
    )
    return resolve(file.model_copy(update={"synthesis": filled}))


@cache
def count_job(epsilon: float = 3.0) -> Job:
    """Two questions about the federation's data set."""
    return resolve(
        read_file(
            f"""
[job]
name = "small-count"
kind = "count"
dataset = "heart"
{_PRIVACY.format(epsilon=epsilon)}
[[counting.queries]]
name = "everybody"
where = {{ age = ">= 0" }}
[[counting.queries]]
name = "old-and-ill"
where = {{ age = ">= 50", ill = ">= 1" }}
{_COHORT}
"""
        )
    )


@cache
def mock_job() -> Job:
    """What is public of the federation's data set."""
    return resolve(
        read_file(f'[job]\nname = "small-mock"\nkind = "mock"\ndataset = "heart"\n{_COHORT}')
    )


def synthetic_job(run: str, *, columns: str = "") -> Job:
    """Training on what a run synthesized."""
    return resolve(
        read_file(
            f"""
[job]
name = "small-synthetic"
kind = "train"
dataset = "heart"
{columns}
{_PRIVACY.format(epsilon=4.0)}
[model]
kind = "logistic"
[synthetic]
run = "{run}"
{_COHORT}
"""
        )
    )
