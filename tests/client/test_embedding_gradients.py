"""The engine sees each unit's gradient of an embedding of a category, like any other layer's."""

import numpy as np
import pytest
import torch

from sordino_client.training.arithmetic import Performance, PrecisionName
from sordino_client.training.contributions import Scales
from sordino_client.training.losses import BinaryLogistic
from sordino_client.training.network import Network
from sordino_protocols.models import EmbeddingBlock, MlpSpec, initial_weights
from sordino_protocols.networks import build, load_flat

SPEC = MlpSpec(
    kind="mlp",
    hidden=(6,),
    activation="tanh",
    embeddings=(
        EmbeddingBlock(start=1, count=5, width=4),
        EmbeddingBlock(start=8, count=3, width=2),
    ),
)
FEATURES = 11
RECORDS = 5


def records() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    features = rng.uniform(-1, 1, (RECORDS, FEATURES)).astype(np.float32)
    for start, count in ((1, 5), (8, 3)):
        features[:, start : start + count] = np.eye(count)[rng.integers(0, count, RECORDS)]
    labels = rng.integers(0, 2, RECORDS).astype(np.float32)
    return torch.from_numpy(features), torch.from_numpy(labels)


@pytest.mark.parametrize("precision", ["single", "double"])
def test_contributions_are_the_gradients_of_single_records(precision: PrecisionName) -> None:
    features, labels = records()
    weights = initial_weights(SPEC, FEATURES, seed=b"any")
    module = build(SPEC, FEATURES)
    load_flat(module, weights)
    performance = Performance(precision=precision)
    network = Network(module, BinaryLogistic(), torch.zeros(1, FEATURES), performance=performance)
    assert network.slow_layers == ()
    assert network.dimension == len(weights)
    with network.holding(weights):
        contributions = network.trace(features, labels)
    rows = network.arithmetic.padded_rows(RECORDS)
    for record in range(RECORDS):
        loss = BinaryLogistic().per_record(
            module(features[[record]].double()), labels[[record]].double()
        )
        gradients = torch.autograd.grad(loss.sum(), list(module.parameters()))
        expected = torch.cat([gradient.reshape(-1) for gradient in gradients])
        factors = torch.zeros(rows, dtype=torch.float64)
        factors[record] = 1
        found = torch.zeros(network.dimension, dtype=torch.float64)
        for contribution in contributions:
            contribution.add_to(found, Scales(factors, None), network.arithmetic)
        assert torch.allclose(found, expected, atol=1e-5)
        # Only the record's own word moves: another column of the table gets exactly nothing.
        table = found[: 4 * 5].reshape(4, 5)
        is_word = features[record, 1:6] > 0
        assert not table[:, ~is_word].any()
        assert table[:, is_word].any()
