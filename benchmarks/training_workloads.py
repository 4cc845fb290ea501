"""The models and made-up records that training is timed on."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from opacus.layers import DPLSTM
from torch import Tensor, nn
from torch.nn import functional

from sordino_client.training.clipping import Units
from sordino_client.training.losses import BinaryLogistic, CrossEntropy, Loss

RECORDS = 8192
_VOCABULARY, _PLACES, _WIDTH = 1000, 64, 64


@dataclass(frozen=True, slots=True)
class Workload:
    """One model at one batch size.

    Attributes:
        name: as it is reported.
        build: a new model; the flag asks for layers that Opacus supports where they differ.
        record_shape: of one input.
        classes: 1 for a binary label.
        batch: expected size of a batch.
        records: how many there are to draw from.
        bars: least ratios to a rival, by the rival's name.
    """

    name: str
    build: Callable[[bool], nn.Module]
    record_shape: tuple[int, ...]
    classes: int
    batch: int
    bars: dict[str, float]
    records: int = RECORDS
    is_text: bool = False

    @property
    def is_small(self) -> bool:
        """Whether a step of it takes no more than a few hundredths of a second."""
        return len(self.record_shape) == 1 and not self.is_text

    @property
    def loss(self) -> Loss:
        """What is minimised."""
        return BinaryLogistic() if self.classes == 1 else CrossEntropy()

    @property
    def example(self) -> Tensor:
        """A made-up record."""
        kind = torch.int64 if self.is_text else torch.float32
        return torch.zeros(1, *self.record_shape, dtype=kind)

    def units(self) -> Units:
        """Made-up records and labels, the same each time."""
        rng = np.random.default_rng(0)
        shape = (self.records, *self.record_shape)
        labels = rng.integers(0, max(2, self.classes), self.records).astype(np.float32)
        nobody = np.zeros(0, np.int64)
        if self.is_text:
            return Units(rng.integers(0, _VOCABULARY, shape), labels, nobody)
        return Units(rng.standard_normal(shape, dtype=np.float32), labels, nobody)


class _Residual(nn.Module):
    """Two convolutions with a short cut around them."""

    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(entering, leaving, 3, stride, 1),
            nn.GroupNorm(8, leaving),
            nn.ReLU(),
            nn.Conv2d(leaving, leaving, 3, 1, 1),
            nn.GroupNorm(8, leaving),
        )
        self.short = nn.Conv2d(entering, leaving, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.body(images) + self.short(images))


class _Attention(nn.Module):
    """One transformer block: four heads, normalisation before each part."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.mix, self.out = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)
        self.wide = nn.Sequential(
            nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH)
        )

    def forward(self, places: Tensor) -> Tensor:
        heads = self.mix(self.first(places)).unflatten(2, (3, 4, -1)).transpose(1, 3)
        seen = functional.scaled_dot_product_attention(*heads.unbind(2))
        places = places + self.out(seen.transpose(1, 2).flatten(2))
        result: Tensor = places + self.wide(self.second(places))
        return result


class _Transformer(nn.Module):
    """Two blocks on a sequence of words, then the mean over its places."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_VOCABULARY, _WIDTH)
        self.places = nn.Embedding(_PLACES, _WIDTH)
        self.blocks = nn.Sequential(_Attention(), _Attention())
        self.head = nn.Linear(_WIDTH, 2)

    def forward(self, words: Tensor) -> Tensor:
        order = torch.arange(words.shape[1]).repeat(len(words), 1)
        result: Tensor = self.head(self.blocks(self.words(words) + self.places(order)).mean(dim=1))
        return result


class _Recurrent(nn.Module):
    """An LSTM over words; its last output is classified."""

    def __init__(self, *, for_opacus: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(_VOCABULARY, 32)
        kind = DPLSTM if for_opacus else nn.LSTM
        self.memory = kind(32, _WIDTH, batch_first=True)
        self.head = nn.Linear(_WIDTH, 2)

    def forward(self, words: Tensor) -> Tensor:
        result: Tensor = self.head(self.memory(self.words(words))[0][:, -1])
        return result


def _perceptron(*widths: int) -> Callable[[bool], nn.Module]:
    def build(_for_opacus: bool) -> nn.Module:  # noqa: FBT001
        layers: list[nn.Module] = [nn.Linear(widths[0], widths[1])]
        for entering, leaving in itertools.pairwise(widths[1:]):
            layers += [nn.Tanh(), nn.Linear(entering, leaving)]
        return nn.Sequential(*layers)

    return build


def _convolutional(_for_opacus: bool) -> nn.Module:  # noqa: FBT001
    """The network of Papernot et al. 2021 for 28 x 28 images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, 3),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(512, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    )


def _resnet(_for_opacus: bool) -> nn.Module:  # noqa: FBT001
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1),
        nn.GroupNorm(8, 16),
        nn.ReLU(),
        _Residual(16, 16, 1),
        _Residual(16, 32, 2),
        _Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def _transformer(_for_opacus: bool) -> nn.Module:  # noqa: FBT001
    return _Transformer()


def _recurrent(for_opacus: bool) -> nn.Module:  # noqa: FBT001
    return _Recurrent(for_opacus=for_opacus)


_MLP = _perceptron(600, 256, 128, 100)
WORKLOADS: tuple[Workload, ...] = (
    Workload("MLP 600-256-128-100, 256", _MLP, (600,), 100, 256, {"SGD": 0.9}),
    Workload(
        "MLP 600-256-128-100, 2048",
        _MLP,
        (600,),
        100,
        2048,
        {"SGD": 1.0, "Opacus hooks": 25.0, "Opacus ghost": 2.5, "JAX book-keeping": 0.85},
    ),
    Workload("MLP 100-256-128-1, 2048", _perceptron(100, 256, 128, 1), (100,), 1, 2048, {}),
    Workload(
        "CNN 28x28, 256",
        _convolutional,
        (1, 28, 28),
        10,
        256,
        {"SGD": 1.0, "best Opacus": 1.8},
    ),
    Workload(
        "CNN 28x28, 2048",
        _convolutional,
        (1, 28, 28),
        10,
        2048,
        {"SGD": 1.0, "best Opacus": 1.8},
    ),
    Workload(
        "ResNet-8 32x32, 256",
        _resnet,
        (3, 32, 32),
        10,
        256,
        {"best Opacus": 1.5},
        records=1024,
    ),
    Workload(
        "transformer, 256",
        _transformer,
        (_PLACES,),
        2,
        256,
        {"Opacus hooks": 3.0},
        records=2048,
        is_text=True,
    ),
    Workload(
        "LSTM, 256",
        _recurrent,
        (_PLACES,),
        2,
        256,
        {"Opacus hooks": 5.0},
        records=2048,
        is_text=True,
    ),
    Workload(
        "logistic regression, 30 of 300",
        _perceptron(13, 1),
        (13,),
        1,
        30,
        {"best Opacus": 1.0},
        records=300,
    ),
)
