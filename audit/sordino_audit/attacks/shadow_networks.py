"""Many small networks trained at once: one batched product a layer for all of them.

A step of one small network is mostly the cost of calling the library; stacked networks share it.
The gradient of a rectified network under cross-entropy is written out here, so that a step of all
networks is a handful of calls and one fused step of the optimiser. The networks of a stack never
touch each other: every operation is along the first axis.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths of a network of dense layers with rectifiers between them.

    Attributes:
        widths: of the features, the hidden layers and the classes, in this order.
    """

    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:  # noqa: PLR2004 - features and classes
            raise ValueError(f"widths are {self.widths}; expected those of features and classes")

    @property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of each layer."""
        return tuple(zip(self.widths[:-1], self.widths[1:], strict=True))

    @property
    def parameters(self) -> int:
        """Weights and biases of one network."""
        return sum(inputs * outputs + outputs for inputs, outputs in self.layers)


@dataclass(slots=True)
class Stack:
    """Networks in training, and their gradients.

    Attributes:
        shape: of each.
        weights: float32 [networks, parameters]: layer by layer, a weight [inputs, outputs], then
            its bias.
    """

    shape: Shape
    weights: Tensor
    _gradient: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._gradient = torch.zeros_like(self.weights)
        self.weights.grad = self._gradient

    def outputs(self, features: Tensor) -> Tensor:
        """Logits [networks, rows, classes] of features [networks, rows, width]."""
        return self._activations(features)[-1]

    def set_gradient(self, features: Tensor, one_hot: Tensor) -> None:
        """Put the gradient of the mean cross-entropy into `weights.grad`.

        Args:
            features: [networks, rows, width].
            one_hot: [networks, rows, classes].
        """
        *inputs, logits = self._activations(features)
        slope = torch.softmax(logits, dim=-1).sub_(one_hot).div_(features.shape[1])
        layers = zip(self._layers(self.weights), self._layers(self._gradient), inputs, strict=True)
        for index, ((weight, _), (to_weight, to_bias), entering) in reversed(
            list(enumerate(layers))
        ):
            torch.bmm(entering.mT, slope, out=to_weight)
            torch.sum(slope, 1, keepdim=True, out=to_bias)
            if index:
                slope = torch.bmm(slope, weight.mT).mul_(entering > 0)

    def _activations(self, features: Tensor) -> list[Tensor]:
        """What enters each layer, then the logits."""
        found = [features]
        for index, (weight, bias) in enumerate(self._layers(self.weights)):
            if index:
                found[-1].relu_()
            found.append(torch.baddbmm(bias, found[-1], weight))
        return found

    def _layers(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of weights [networks, inputs, outputs] and biases [networks, 1, outputs]."""
        views, start = [], 0
        for inputs, outputs in self.shape.layers:
            middle, stop = start + inputs * outputs, start + inputs * outputs + outputs
            weight = flat[:, start:middle].view(-1, inputs, outputs)
            views.append((weight, flat[:, middle:stop].view(-1, 1, outputs)))
            start = stop
        return views


def draw_weights(shape: Shape, rng: np.random.Generator) -> NDArray[np.float32]:
    """Initial parameters of one network: uniform within 1 / sqrt(inputs) (LeCun et al. 1998)."""
    parts = [
        rng.uniform(-1, 1, inputs * outputs + outputs) / np.sqrt(inputs)
        for inputs, outputs in shape.layers
    ]
    return np.concatenate(parts).astype(np.float32)


def draw_batches(
    rows: Indices, *, steps: int, batch_size: int, rng: np.random.Generator
) -> Indices:
    """Batches [steps, batch_size] of `rows`, in a new order each time that all were used."""
    passes = -(-steps * batch_size // len(rows))
    order = np.concatenate([rng.permutation(rows) for _ in range(passes)])
    return order[: steps * batch_size].reshape(steps, batch_size)
