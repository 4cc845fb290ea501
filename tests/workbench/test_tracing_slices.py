"""Slices within a record: how people pick the columns of a table apart in a `forward`."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sordino.tracing import trace
from sordino_protocols.errors import InputError
from sordino_protocols.networks import build, load_flat
from sordino_protocols.operations import Slice

FEATURES = 12


class Picked(nn.Module):
    """A linear layer on what `pick` makes of a record."""

    def __init__(self, pick: Callable[[Tensor], Tensor], width: int) -> None:
        super().__init__()
        self.pick = pick
        self.output = nn.Linear(width, 2)

    def forward(self, records: Tensor) -> Tensor:
        logits: Tensor = self.output(self.pick(records))
        return logits


@pytest.mark.parametrize(
    ("pick", "width", "slices"),
    [
        (lambda x: x[:, 2:5], 3, 1),
        (lambda x: x[:, :3], 3, 1),
        (lambda x: x[:, -4:], 4, 1),
        (lambda x: x[:, -4:-1], 3, 1),
        (lambda x: x[:, 5:99], 7, 1),
        (lambda x: x[:, 0:FEATURES], FEATURES, 0),
        (lambda x: x.view(-1, 3, 4)[:, 1:, 2:4].flatten(1), 4, 2),
        (lambda x: x.view(-1, 3, 4)[:, 0, 1:3], 2, 1),
        (lambda x: x.view(-1, 3, 4)[:, 1:3, 2], 2, 1),
        (lambda x: torch.cat([x[:, :2], x[:, 7:9]], dim=1), 4, 2),
    ],
)
def test_a_slice_is_translated_exactly(
    pick: Callable[[Tensor], Tensor], width: int, slices: int
) -> None:
    module = Picked(pick, width)
    traced = trace(module, torch.zeros(2, FEATURES))
    kinds = [node.operation for node in traced.spec.nodes]
    assert sum(isinstance(each, Slice) for each in kinds) == slices
    rebuilt = build(traced.spec, FEATURES)
    load_flat(rebuilt, traced.weights)
    records = torch.randn(5, FEATURES)
    assert torch.allclose(rebuilt(records.double()), module(records).double(), atol=1e-5)


@pytest.mark.parametrize(
    ("pick", "width", "expected"),
    [
        (lambda x: x[:, ::2], 6, "no step"),
        (lambda x: x[1:, :], FEATURES, "moves or folds the batch axis"),
        (lambda x: x[:, torch.tensor([0, 3, 5])], 3, "only layers may hold numbers"),
        (lambda x: x[:, [0, 3, 5]], 3, "':', None, whole numbers and a:b only"),
    ],
)
def test_other_indices_are_refused_by_name(
    pick: Callable[[Tensor], Tensor], width: int, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        trace(Picked(pick, width), torch.zeros(3, FEATURES))
