"""What a record's gradient is the gradient of; the layers' tests compare whole gradients."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from sordino_client.training.losses import (
    BinaryLogistic,
    CrossEntropy,
    Likelihood,
    Loss,
    SquaredError,
    loss_of,
)
from sordino_protocols.plan import LossName

OUTPUTS = {"binary": 1, "cross_entropy": 3, "squared": 1}


def gradients(loss: Loss, outputs: Tensor, labels: list[float]) -> Tensor:
    outputs = outputs.clone().requires_grad_()
    total = loss.per_record(outputs, torch.tensor(labels)).sum()
    return torch.autograd.grad(total, outputs)[0]


def test_every_loss_of_a_plan_has_an_object() -> None:
    found = [loss_of(name) for name in get_args(LossName)]
    assert found == [BinaryLogistic(), CrossEntropy(), SquaredError(), Likelihood()]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("binary", 2.0),
        ("binary", 0.5),
        ("binary", -1.0),
        ("cross_entropy", 3.0),
        ("cross_entropy", -1.0),
        ("cross_entropy", 0.5),
        *[(name, bad) for name in OUTPUTS for bad in (np.nan, np.inf, -np.inf)],
    ],
)
def test_a_label_that_makes_no_sense_gives_that_record_no_gradient(
    name: LossName, label: float
) -> None:
    outputs = torch.full((3, OUTPUTS[name]), 0.5, dtype=torch.float64)
    found = gradients(loss_of(name), outputs, [1.0, label, 0.0])
    assert found[[0, 2]].all()
    assert torch.equal(found[1], torch.zeros(OUTPUTS[name], dtype=torch.float64))


def test_gradients_are_those_of_the_textbook() -> None:
    logits = torch.tensor([[0.3], [-2.0]], dtype=torch.float64)
    expected = torch.sigmoid(logits) - torch.tensor([[1.0], [0.0]])
    assert torch.allclose(gradients(BinaryLogistic(), logits, [1.0, 0.0]), expected)
    scores = torch.tensor([[0.3, 0.1, -2.0]], dtype=torch.float64)
    expected = torch.softmax(scores, dim=1) - torch.tensor([[0.0, 0.0, 1.0]])
    assert torch.allclose(gradients(CrossEntropy(), scores, [2.0]), expected)
    numbers = torch.tensor([[0.25]], dtype=torch.float64)
    assert torch.allclose(gradients(SquaredError(), numbers, [1.0]), numbers - 1)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_records_loss_does_not_depend_on_the_others(name: LossName) -> None:
    outputs = torch.randn(4, OUTPUTS[name], generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([1.0, 0.0, np.nan, 1.0])
    together = loss_of(name).per_record(outputs, labels)
    for row in range(4):
        part = slice(row, row + 1)
        alone = loss_of(name).per_record(outputs[part], labels[part])
        assert torch.equal(alone, together[part])
