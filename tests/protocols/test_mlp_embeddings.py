"""Embeddings of categories before an MLP: what they compute, where they start, what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.models import (
    EmbeddingBlock,
    MlpSpec,
    architecture_of,
    initial_weights,
    layers,
    parameter_count,
)
from sordino_protocols.networks import build, load_flat
from sordino_protocols.shapes import LARGEST_FAN_IN

# Features: a number, a category of 5 words, two numbers, a category of 3 words.
BLOCKS = (
    EmbeddingBlock(start=1, count=5, width=4),
    EmbeddingBlock(start=8, count=3, width=2),
)
FEATURES = 11


def mlp(*blocks: EmbeddingBlock, outputs: int = 1) -> MlpSpec:
    return MlpSpec(kind="mlp", hidden=(6,), activation="tanh", embeddings=blocks, outputs=outputs)


class Lookup(nn.Module):
    """The same model as people write it: words as numbers, looked up in `nn.Embedding`."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(5, 4), nn.Embedding(3, 2)])
        self.hidden = nn.Linear(1 + 4 + 2 + 2, 6)
        self.output = nn.Linear(6, 1)

    def forward(self, numbers: Tensor, words: Tensor) -> Tensor:
        first, second = (table(words[:, i]) for i, table in enumerate(self.tables))
        joined = torch.cat([numbers[:, :1], first, numbers[:, 1:], second], dim=1)
        logits: Tensor = self.output(torch.tanh(self.hidden(joined)))
        return logits


@given(seed=st.integers(0, 2**16))
@settings(deadline=None, max_examples=20)
def test_an_embedding_is_a_lookup_in_a_table(seed: int) -> None:
    torch.manual_seed(seed)
    lookup = Lookup().double()
    numbers = torch.randn(7, 3, dtype=torch.float64)
    words = torch.stack([torch.randint(0, 5, (7,)), torch.randint(0, 3, (7,))], dim=1)
    one_hot = [functional.one_hot(words[:, i], n).double() for i, n in enumerate((5, 3))]
    features = torch.cat([numbers[:, :1], one_hot[0], numbers[:, 1:], one_hot[1]], dim=1)

    module = build(mlp(*BLOCKS), FEATURES)
    # The tables stand before the hidden layers in both; ours are [width, words].
    with torch.no_grad():
        for ours, theirs in zip(module.parameters(), lookup.parameters(), strict=True):
            ours.copy_(theirs.T if theirs.shape != ours.shape else theirs)
    assert torch.allclose(module(features), lookup(numbers, words))

    ours_gradient = torch.autograd.grad(module(features).sum(), list(module.parameters()))
    their_gradient = torch.autograd.grad(lookup(numbers, words).sum(), list(lookup.parameters()))
    for one, other in zip(ours_gradient, their_gradient, strict=True):
        assert torch.allclose(one, other.T if one.shape != other.shape else other)


def test_a_record_without_a_word_reads_nothing_from_the_table() -> None:
    spec = mlp(EmbeddingBlock(start=0, count=3, width=2))
    module, weights = build(spec, 4), initial_weights(spec, 4, seed=b"job")
    absent = torch.tensor([[0.0, 0.0, 0.0, 0.7]], dtype=torch.float64)
    found = []
    for table in (weights[:6], 5 * weights[:6]):
        load_flat(module, np.concatenate([table, weights[6:]]))
        found.append(module(absent))
    assert torch.equal(*found)


def test_all_other_features_stay_in_their_order() -> None:
    steps = architecture_of(mlp(*BLOCKS), FEATURES).steps
    assert [step.path for step in steps[:7]] == [
        "features[0:1]",
        "embeddings[0]",
        "embeddings[0]",
        "features[6:8]",
        "embeddings[1]",
        "embeddings[1]",
        "embedded",
    ]
    assert steps[6].shape == (1 + 4 + 2 + 2,)
    assert parameter_count(mlp(*BLOCKS), FEATURES) == 5 * 4 + 3 * 2 + (9 + 1) * 6 + 7


def test_more_blocks_than_one_step_may_join() -> None:
    count = 2 * LARGEST_FAN_IN + 3
    blocks = tuple(EmbeddingBlock(start=3 * i + 1, count=2, width=1) for i in range(count))
    spec = mlp(*blocks)
    module = build(spec, 3 * count)
    features = torch.arange(3 * count, dtype=torch.float64)[None]
    load_flat(module, np.ones(parameter_count(spec, 3 * count)))
    # With weights of 1 a block becomes the sum of its features, so nothing may be lost or doubled.
    inner = float(torch.tanh(features.sum() + 1))
    assert float(module(features).detach()) == pytest.approx(6 * inner + 1)
    joined = [
        step.shape for step in architecture_of(spec, 3 * count).steps if step.path == "embedded"
    ]
    assert joined[-1] == (2 * count,)


def test_tables_start_with_rows_of_length_one_on_average() -> None:
    spec = mlp(EmbeddingBlock(start=0, count=400, width=50))
    table = initial_weights(spec, 401, seed=b"job")[: 400 * 50].reshape(50, 400)
    squared_lengths = np.square(table).sum(axis=0)
    assert squared_lengths.mean() == pytest.approx(1, abs=0.02)


def test_without_embeddings_nothing_is_another_than_before() -> None:
    spec = mlp()
    assert next(step.path for step in architecture_of(spec, 4).steps) == "hidden[0]"
    assert [shape.inputs for shape in layers(spec, 4)] == [4, 6]


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        (
            [{"start": 0, "count": 4, "width": 2}, {"start": 3, "count": 2, "width": 2}],
            "none in two",
        ),
        (
            [{"start": 5, "count": 2, "width": 2}, {"start": 0, "count": 2, "width": 2}],
            "in the order",
        ),
        ([{"start": 0, "count": 0, "width": 2}], "count"),
        ([{"start": -1, "count": 2, "width": 2}], "start"),
        ([{"start": 0, "count": 2, "width": 2, "table": "x"}], "table"),
    ],
)
def test_refuses_blocks_that_make_no_sense(blocks: list[dict[str, object]], expected: str) -> None:
    raw = {"kind": "mlp", "hidden": [2], "activation": "tanh", "embeddings": blocks}
    with pytest.raises(ValueError, match=expected):
        MlpSpec.model_validate(raw)


@pytest.mark.parametrize(("start", "count"), [(0, 4), (2, 2), (3, 1), (9, 1)])
def test_refuses_a_block_beyond_the_features(start: int, count: int) -> None:
    with pytest.raises(InputError, match=r"model\.mlp: embeddings\[0\]: start"):
        architecture_of(mlp(EmbeddingBlock(start=start, count=count, width=2)), 3)


def test_is_no_plain_stack_of_linear_layers() -> None:
    with pytest.raises(InputError, match="no plain stack"):
        layers(mlp(*BLOCKS), FEATURES)


JOB = """
[job]
name = "a"
kind = "train"
dataset = "a"
[privacy]
unit = "record"
epsilon = 4
delta = 1e-5
[training]
rounds = 3
sampling_rate = 0.1
clipping_norm = 0.5
[optimizer]
learning_rate = 2
[model]
"""


def test_a_job_names_them_in_toml() -> None:
    text = JOB + 'kind = "mlp"\nhidden = [6]\nactivation = "tanh"\nembeddings = [\n'
    text += "  { start = 1, count = 5, width = 4 },\n  { start = 8, count = 3, width = 2 },\n]\n"
    assert parse_toml(text, JobFile, source="job.toml").model == mlp(*BLOCKS)
    with pytest.raises(InputError, match=r"model\.embeddings\[1\]\.width"):
        parse_toml(text.replace("width = 2", "width = 0"), JobFile, source="job.toml")


def test_layers_in_toml_may_hold_lists() -> None:
    text = (
        JOB
        + """kind = "layers"
layers = [
  { kind = "reshape", shape = [1, 4, 4] },
  { kind = "residual", layers = [{ kind = "conv2d", channels = 1, kernel = [3, 3], padding = 1 }] },
  { kind = "mean", axes = [1, 2] },
  { kind = "slice", axis = 0, start = 0, stop = 1 },
  { kind = "linear", outputs = 1 },
]
"""
    )
    spec = parse_toml(text, JobFile, source="job.toml").require_model()
    assert architecture_of(spec, 16).parameter_count == 10 + 2


@pytest.mark.parametrize(("start", "stop"), [(2, 2), (3, 1), (0, 6), (5, 6)])
def test_refuses_a_slice_without_places(start: int, stop: int) -> None:
    text = (
        JOB
        + f"""kind = "layers"
layers = [
  {{ kind = "slice", axis = 0, start = {start}, stop = {stop} }}, {{ kind = "linear", outputs = 1 }}
]
"""
    )
    spec = parse_toml(text, JobFile, source="job.toml").require_model()
    with pytest.raises(InputError, match=r"layers\[0\]\.slice: start"):
        architecture_of(spec, 5)
