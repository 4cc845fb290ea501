"""`sordino model`, and what `sordino job check` says of a model."""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from sordino import heart
from sordino.embedding import embedding_blocks
from sordino.heart import write_dataset
from sordino.model_cli import _tell
from sordino.model_files import admit, read_model, read_schema
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.schema import Schema

SORDINO = Path(sys.executable).with_name("sordino")
GROUPED = """
[model]
kind = "layers"
layers = [
  { kind = "slice", axis = 0, start = 0, stop = 12 },
  { kind = "reshape", shape = [4, 3] },
  { kind = "conv1d", channels = 4, kernel = 2, groups = 2 },
  { kind = "flatten" },
  { kind = "linear", outputs = 1 },
]
"""
TOKENS = """
[dataset]
name = "notes"
version = 1
order_of_magnitude = 300
holdout_fraction = 0.25
[columns.word]
type = "tokens"
length = 6
vocabulary = 50
[columns.y]
type = "integer"
min = 0
max = 1
[roles]
label = "y"
positive_above = 0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset("cleveland", tmp_path)
    (tmp_path / "job.toml").write_text((files(heart) / "job.toml").read_text())
    (tmp_path / "grouped.toml").write_text(GROUPED)
    return tmp_path


def sordino(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SORDINO), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_prints_steps_shapes_weights_and_slow_layers(folder: Path) -> None:
    command = ("model", "check", "grouped.toml", "--dataset", "heart.toml")
    done = sordino(folder, *command, "--output", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["outputs"], found["parameters"]) == (1, 20 + 9)
    assert [step["gives"] for step in found["steps"]] == [[12], [4, 3], [4, 2], [8], [1]]
    assert found["slow_bytes_a_record"] == 4 * 20
    assert "layers[2].conv1d" in done.stderr
    assert "same guarantee" in done.stderr
    table = sordino(folder, *command)
    assert "per record (Opacus)" in table.stdout


def test_checks_the_model_of_a_job(folder: Path) -> None:
    done = sordino(folder, "model", "check", "job.toml", "--dataset", "heart.toml")
    assert done.returncode == 0, done.stderr
    assert "linear" in done.stdout
    assert "note" not in done.stderr


def test_says_what_does_not_fit(folder: Path) -> None:
    path = folder / "grouped.toml"
    path.write_text(GROUPED.replace("stop = 12", "stop = 999"))
    done = sordino(folder, "model", "check", "grouped.toml", "--dataset", "heart.toml")
    assert done.returncode == 2
    assert "model.layers: layers[0].slice" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_is_priced_with_a_note_about_slow_layers(folder: Path) -> None:
    path = folder / "job.toml"
    path.write_text(path.read_text().replace('[model]\nkind = "logistic"\n', GROUPED))
    done = sordino(folder, "job", "check", "job.toml", "--output", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["slow_layers"] == ["layers[2].conv1d"]
    assert "note: layers[2].conv1d" in done.stderr


def test_prints_embeddings_that_a_job_can_name(folder: Path) -> None:
    done = sordino(folder, "model", "embed", "--dataset", "heart.toml", "--width", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# cp")
    path = folder / "mlp.toml"
    path.write_text(f'[model]\nkind = "mlp"\nhidden = [4]\nactivation = "tanh"\n{done.stdout}')
    schema = read_schema(folder / "heart.toml")
    steps = admit(read_model(path), schema).steps
    sizes = [step.shape[0] for step in steps if step.operation.kind == "one_hot_embedding"]
    assert sizes == [2] * len(embedding_blocks(schema, width=2))
    assert len(sizes) > 1


def test_a_model_and_a_data_set_of_different_tasks_do_not_fit(folder: Path) -> None:
    schema = read_schema(folder / "heart.toml")
    path = folder / "job.toml"
    path.write_text(path.read_text().replace("[training]", '[training]\nloss = "squared"'))
    with pytest.raises(InputError, match=r"job\.toml: training\.loss is 'squared'"):
        admit(read_model(path), schema)
    path.write_text(
        GROUPED.replace("outputs = 1 }", "outputs = 3 }").replace("[model]", "[model]\noutputs = 3")
    )
    with pytest.raises(InputError, match=r"model\.outputs is 3.*needs 1"):
        admit(read_model(path), schema)


def test_a_file_that_is_neither_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[models]\nkind = 'logistic'\n")
    with pytest.raises(InputError, match=r"models: unknown key; did you mean 'model'\?"):
        read_model(path)
    path.write_text("[model\n")
    with pytest.raises(InputError, match="not valid TOML"):
        read_model(path)
    with pytest.raises(InputError, match="not valid TOML"):
        read_schema(path)


def test_says_which_tokens_a_model_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = parse_toml(TOKENS, Schema, source="notes.toml")
    path = tmp_path / "m.toml"
    for vocabulary, is_told in ((20, True), (50, False)):
        path.write_text(
            '[model]\nkind = "lstm"\nhidden = 3\n'
            f'input = {{ kind = "tokens", vocabulary = {vocabulary}, width = 4 }}\n'
        )
        model = read_model(path)
        admit(model, schema)
        _tell(model, schema, None)
        assert ("knows 20 of the data set's 50 tokens" in capsys.readouterr().err) == is_told
