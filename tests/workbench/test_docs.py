"""What the documentation shows is what the readers read: every example of a job and of a model."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from sordino.model_files import ModelFile, NamedModel
from sordino.toml_text import toml_text
from sordino.tuning_settings import read_choices, read_trials
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.pricing import price, resolve

DOCS = Path(__file__).parents[2] / "docs"
BASE = """
[job]
name = "docs"
kind = "train"
dataset = "docs"
[privacy]
unit = "record"
epsilon = 4.0
delta = 1e-5
[model]
kind = "logistic"
[training]
rounds = 10
sampling_rate = 1.0
clipping_norm = 1.0
[optimizer]
learning_rate = 1.0
"""
MLP = """
[model]
kind = "mlp"
hidden = [8]
activation = "tanh"
"""


def examples(name: str) -> list[str]:
    text = (DOCS / name).read_text()
    return re.findall(r"^```toml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def with_base(example: str) -> str:
    """The example's tables in a whole job; keys that it does not have are the base's."""
    tables: dict[str, Mapping[str, object]] = tomllib.loads(BASE)
    for key, table in tomllib.loads(example).items():
        # Another kind of optimiser or model has other keys.
        before = {} if "kind" in table and key != "job" else tables.get(key, {})
        tables[key] = {**before, **table}
    return toml_text(tables)


def test_there_are_examples() -> None:
    assert len(examples("training.md")) >= 10
    assert len(examples("models.md")) >= 4


@pytest.mark.parametrize("example", examples("training.md"))
def test_every_example_of_a_job_is_one(example: str) -> None:
    job = resolve(parse_toml(with_base(example), JobFile, source="docs/training.md"))
    assert price(job).epsilon_pld <= job.file.require_privacy().epsilon


@pytest.mark.parametrize("example", examples("models.md"))
def test_every_example_of_a_model_is_one(example: str) -> None:
    spec = parse_toml(example, ModelFile, source="docs/models.md").model
    assert NamedModel(spec, None, "docs").spec.outputs >= 1


def test_every_rule_of_clipping_is_as_the_table_has_it() -> None:
    text = (DOCS / "training.md").read_text()
    rules = re.findall(r"^\| `(\{ kind = .*?\})` \|", text, flags=re.MULTILINE)
    assert len(rules) == 4
    for rule in rules:
        parse_toml(with_base(f"[training]\nclipping = {rule}\n"), JobFile, source="the table")


def test_every_setting_that_is_shown_can_be_tried(tmp_path: Path) -> None:
    text = (DOCS / "training.md").read_text()
    quoted = re.findall(r"--set '([^']+)'", text)
    bare = re.findall(r"--set ([a-z][^'\s]*)", text)
    assert len(quoted) == 2
    assert len(bare) >= 3
    for setting in [*quoted, *bare]:
        path = tmp_path / "job.toml"
        path.write_text(with_base(MLP if "model" in setting else ""))
        tried = read_trials(path, read_choices([setting]), method="grid", limit=None, seed=0)
        assert len(tried) >= 2


def test_no_option_is_left_undocumented() -> None:
    text = (DOCS / "training.md").read_text()
    schema = JobFile.model_json_schema()["$defs"]
    sections = (
        "TrainingSection",
        "StatisticsSection",
        "EvaluationSection",
        "PrivacySection",
        "SgdOptimizer",
        "AdamOptimizer",
        "SgldOptimizer",
        "Schedule",
        "LocalSgd",
        "LocalAdam",
        "Augmentation",
        "AdaptiveClipping",
        "NormalizedClipping",
    )
    for section in sections:
        for option in schema[section]["properties"]:
            assert option in text, f"{section}.{option}"


def test_the_job_of_the_configuration_page_is_one() -> None:
    whole = next(each for each in examples("configuration.md") if each.startswith("[job]"))
    job = resolve(parse_toml(whole, JobFile, source="docs/configuration.md"))
    assert price(job).epsilon_pld <= 4.0
