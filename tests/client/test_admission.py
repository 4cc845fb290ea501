"""What may not be trained is refused by name, and each refusal says what to do instead."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sordino_client.training.losses import CrossEntropy
from sordino_client.training.network import Network
from sordino_protocols.errors import InputError

ROW = torch.zeros(1, 4)


def admit(module: nn.Module, example: Tensor = ROW) -> Network:
    return Network(module, CrossEntropy(), example)


class Standardised(nn.Module):
    """Standardises over the batch by hand: no type tells that it mixes records."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.head((rows - rows.mean(dim=0)) / (rows.std(dim=0) + 1))
        return result


class Leaking(nn.Module):
    """Uses a layer's weight behind the layer's back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.head(functional.linear(self.first(rows), self.first.weight))
        return result


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(rows))
        return result


class Loose(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(4)), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.head(rows * self.scale)
        return result


class Scalar(nn.Module):
    """A parameter of no dimensions, which a rule for rows and columns would overlook."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.tensor(1.0)), nn.Linear(4, 2)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.scale * self.head(rows)
        return result


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.norm = nn.LayerNorm(4)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.head(self.norm(self.first(rows)).mul_(2))
        return result


class Unbatched(nn.Module):
    """Looks its positions up once for all records: their gradient is a sum over records."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.head = nn.Embedding(4, 2), nn.Linear(2, 2)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.head((rows[..., None] + self.places(torch.arange(4))).mean(dim=1))
        return result


class Recurrent(nn.Module):
    def __init__(self, memory: nn.Module) -> None:
        super().__init__()
        self.memory, self.head = memory, nn.Linear(3, 2)

    def forward(self, rows: Tensor) -> Tensor:
        result: Tensor = self.head(self.memory(rows[..., None])[0].mean(dim=1))
        return result


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "layer 1 (BatchNorm1d)"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "nn.GroupNorm"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), "layer 1 (Dropout): leave it out"),
        (nn.Sequential(nn.Bilinear(4, 4, 2)), "layer 0 (Bilinear)"),
        (nn.Tanh(), "no parameters"),
        (Standardised(), "mixes records"),
        (Leaking(), "layer first: weight is used outside"),
        (Tied(), "layers first and second share"),
        (Loose(), "(the model itself) (Loose)"),
        (Scalar(), "(the model itself) (Scalar)"),
        (InPlace(), "layer norm: its output is changed in place"),
        (Unbatched(), "layer places: its output has 4 rows"),
        (nn.Sequential(nn.Linear(5, 2)), "cannot run"),
        (nn.Sequential(nn.Embedding(4, 2, max_norm=1.0)), "max_norm"),
        (Recurrent(nn.LSTM(1, 3)), "batch_first=True"),
        (Recurrent(nn.GRU(1, 3, batch_first=True, bidirectional=True)), "bidirectional"),
        (Recurrent(nn.RNN(1, 3, batch_first=True)), "use nn.GRU or nn.LSTM"),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), "scaled_dot_product_attention"),
    ],
)
def test_refuses_by_name_and_says_what_to_do(module: nn.Module, text: str) -> None:
    with pytest.raises(InputError, match=re.escape(text)):
        admit(module)


def test_leaves_the_users_module_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    before = [parameter.clone() for parameter in module.parameters()]
    admit(module)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in module.parameters())
    assert module[1].inplace
    assert all(torch.equal(b, p) for b, p in zip(before, module.parameters(), strict=True))


class Permuted(nn.Module):
    """A linear layer on memory that is no rows: torch adds its bias in place."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.head = nn.Linear(2, 3), nn.Linear(6, 2)

    def forward(self, rows: Tensor) -> Tensor:
        permuted = rows.reshape(-1, 2, 2).permute(0, 2, 1)
        result: Tensor = self.head(self.places(permuted).flatten(1))
        return result


def test_what_a_layer_does_to_its_own_output_is_no_change() -> None:
    permuted = torch.zeros(1, 2, 2, dtype=torch.float64).permute(0, 2, 1)
    assert Permuted().double().places(permuted)._version
    admit(Permuted())


def in_another_order(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = network._module.forward

    def biased(rows: Tensor) -> Tensor:
        # As a kernel that adds in another order for the last row of a shape.
        nudge = torch.ones(len(rows), 1, dtype=rows.dtype)
        nudge[-1] += 1e-12
        result: Tensor = forward(rows * nudge)
        return result

    monkeypatch.setattr(network._module, "forward", biased)


def test_rows_that_depend_on_their_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = admit(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)))
    in_another_order(network, monkeypatch)
    with (
        network.holding(torch.zeros(network.dimension, dtype=torch.float64).numpy()),
        pytest.raises(InputError, match="place among"),
    ):
        network.trace(torch.zeros(2, 4), torch.zeros(2))


def test_outputs_that_depend_on_their_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = admit(nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2)))
    network.check_outputs(8)
    in_another_order(network, monkeypatch)
    network.check_outputs(8)
    with pytest.raises(InputError, match="place among 16 rows"):
        network.check_outputs(16)
