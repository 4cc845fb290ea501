"""Models and jobs written as files read back as what they were."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from model_stacks import SPECS, stacks
from torch import Tensor, nn

import sordino
from sordino import heart
from sordino.job_text import job_toml, model_toml, write_model_toml
from sordino.model_files import ModelFile, read_model
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.models import LayersSpec, ModelSpec

TOKENS = {"kind": "tokens", "vocabulary": 50, "width": 8}
SERIES = {"kind": "series", "steps": 4, "channels": 3}


def back(text: str) -> ModelSpec:
    return parse_toml(text, ModelFile, source="model.toml").model


@pytest.mark.parametrize(
    "raw",
    [
        {"kind": "logistic"},
        {"kind": "mlp", "hidden": [8], "activation": "relu", "outputs": 3},
        {
            "kind": "mlp",
            "hidden": [8],
            "activation": "relu",
            "embeddings": [{"start": 0, "count": 2, "width": 1}],
        },
        {"kind": "cnn", "image": [3, 8, 8]},
        {"kind": "resnet"},
        {"kind": "lstm", "input": TOKENS, "hidden": 5},
        {"kind": "gru", "input": SERIES, "hidden": 5},
        {"kind": "transformer", "input": TOKENS, "width": 8, "heads": 2, "blocks": 1, "hidden": 9},
    ],
    ids=lambda raw: str(raw["kind"]),
)
def test_every_kind_of_model_reads_back(raw: dict[str, object]) -> None:
    spec = SPECS.validate_python(raw)
    assert back(model_toml(spec)) == spec


@settings(deadline=None, max_examples=60)
@given(drawn=stacks())
def test_every_stack_of_layers_reads_back(drawn: tuple[LayersSpec, int]) -> None:
    spec, _ = drawn
    assert back(model_toml(spec)) == spec


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.town = nn.Linear(5, 3, bias=False)
        self.gate = nn.Linear(4, 3)
        self.output = nn.Linear(3, 2)

    def forward(self, records: Tensor) -> Tensor:
        town = self.town(records[:, 2:7])
        rest = torch.cat([records[:, :2], records[:, -2:]], dim=1)
        gated: Tensor = self.output(town * torch.sigmoid(self.gate(rest)))
        return gated


def test_a_traced_module_becomes_the_model_of_a_job(tmp_path: Path) -> None:
    traced = sordino.trace(Gated(), torch.zeros(2, 9))
    path = tmp_path / "gated.toml"
    write_model_toml(traced.spec, path)
    assert read_model(path).spec == traced.spec
    job = (files(heart) / "job.toml").read_text()
    as_job = job.replace('[model]\nkind = "logistic"\n', path.read_text()).replace(
        "[training]", '[training]\nloss = "cross_entropy"'
    )
    assert parse_toml(as_job, JobFile, source="job.toml").model == traced.spec
    with pytest.raises(InputError, match="exists already"):
        write_model_toml(traced.spec, path)


def test_a_job_reads_back_and_says_no_more_than_its_author() -> None:
    text = (files(heart) / "job.toml").read_text()
    file = parse_toml(text, JobFile, source="job.toml")
    written = job_toml(file, comments=["from a test"])
    assert parse_toml(written, JobFile, source="written") == file
    assert written.startswith("# from a test\n")
    assert "grace_seconds" not in written


def test_a_written_job_keeps_its_digest() -> None:
    text = (files(heart) / "job.toml").read_text()
    file = parse_toml(text, JobFile, source="job.toml")
    again = parse_toml(job_toml(file), JobFile, source="written")
    assert again.model_dump_json() == file.model_dump_json()
