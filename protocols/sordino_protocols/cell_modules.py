"""Torch modules for the operations of `cells`; none of them mixes the records of a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sordino_protocols.cells import CellBlock, CellLayout


class DistinctEmbedding(nn.Embedding):
    """A table of which one record looks every row up once at most."""


class CellVectors(nn.Module):
    """A vector for each position's cell; no value of a record can stop it."""

    def __init__(self, cells: Sequence[int], width: int) -> None:
        super().__init__()
        layout = CellLayout(tuple(cells))
        self.embedding = DistinctEmbedding(layout.total, width)
        self.register_buffer("_starts", torch.tensor(layout.starts()), persistent=False)
        self.register_buffer("_highest", torch.tensor(cells) - 1, persistent=False)

    def forward(self, record: Tensor) -> Tensor:
        """[batch, positions] -> [batch, positions, width]; NaN is cell 0, others the nearest."""
        cells = known_cells(record, self.get_buffer("_highest"))
        vectors: Tensor = self.embedding(cells + self.get_buffer("_starts"))
        return vectors


class SumBefore(nn.Module):
    """The sum of all positions before each."""

    def forward(self, values: Tensor) -> Tensor:
        """[batch, positions, width] -> the same."""
        return functional.pad(values[:, :-1].cumsum(dim=1), (0, 0, 1, 0))


class PositionLinear(nn.Module):
    """A linear layer for each position, from what is there to its cells.

    Attributes:
        layout: of the cells.
        weight: [cells, width].
        bias: [cells].
    """

    def __init__(self, cells: Sequence[int], width: int) -> None:
        super().__init__()
        self.layout = CellLayout(tuple(cells))
        self.weight = nn.Parameter(torch.zeros(self.layout.total, width))
        self.bias = nn.Parameter(torch.zeros(self.layout.total))
        self.register_buffer("_order", torch.tensor(self.layout.order()), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """[batch, positions, width] -> [batch, cells]."""
        parts = [
            torch.bmm(entering, self.weight[block.start : block.stop].view(*block.shape, -1).mT)
            for block, entering in self.entering(values)
        ]
        logits = torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1)
        return logits + self.bias

    def entering(self, values: Tensor) -> list[tuple[CellBlock, Tensor]]:
        """What the positions of each block see: [positions of it, batch, width]."""
        ordered = values.transpose(0, 1).index_select(0, self.get_buffer("_order"))
        blocks = self.layout.blocks()
        parts = torch.split(ordered, [len(block.positions) for block in blocks])
        return list(zip(blocks, parts, strict=True))


class LogLikelihood(nn.Module):
    """The log-probability of each position's cell."""

    def __init__(self, cells: Sequence[int]) -> None:
        super().__init__()
        self._layout = CellLayout(tuple(cells))
        order = torch.tensor(self._layout.order())
        self.register_buffer("_order", order, persistent=False)
        self.register_buffer("_place_of", order.argsort(), persistent=False)
        self.register_buffer("_highest", torch.tensor(cells) - 1, persistent=False)

    def forward(self, logits: Tensor, record: Tensor) -> Tensor:
        """[batch, cells] and [batch, positions] -> [batch, positions], in nats."""
        cells = known_cells(record, self.get_buffer("_highest"))
        blocks = self._layout.blocks()
        ordered = cells.index_select(1, self.get_buffer("_order"))
        chosen = torch.split(ordered, [len(block.positions) for block in blocks], dim=1)
        found = [
            logits[:, block.start : block.stop]
            .reshape(-1, *block.shape)
            .log_softmax(dim=2)
            .gather(2, own.unsqueeze(2))
            .squeeze(2)
            for block, own in zip(blocks, chosen, strict=True)
        ]
        return torch.cat(found, dim=1).index_select(1, self.get_buffer("_place_of"))


def known_cells(record: Tensor, highest: Tensor) -> Tensor:
    """Whole numbers of cells that are there: NaN is 0, all others the nearest.

    Args:
        record: [batch, positions], of any type.
        highest: [positions], each position's last cell.
    """
    numbers = torch.nan_to_num(record, nan=0.0, posinf=torch.inf, neginf=0.0).round()
    return numbers.clamp(min=0).minimum(highest.to(numbers)).to(torch.int64)
