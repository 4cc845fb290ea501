"""A model spec as a torch module, and its parameters as the flat vector that travels.

Kept apart from `models` so that reading a job does not import torch. The module consists of torch's
own layers and of the few below, which have no weights of their own. What must stay true: the order
of the parameters is that of the architecture, and no module mixes the records of a batch.
"""

from collections.abc import Sequence
from functools import partial
from typing import assert_never

import numpy as np
import torch
from torch import Tensor, nn

from sordino_protocols.architecture import Architecture, Operation, Step
from sordino_protocols.cell_modules import (
    CellVectors,
    LogLikelihood,
    PositionLinear,
    SumBefore,
)
from sordino_protocols.cells import (
    CausalSum,
    CellEmbedding,
    CellLikelihood,
    CellLinear,
    CellOperation,
)
from sordino_protocols.models import FloatVector, ModelSpec, architecture_of
from sordino_protocols.operations import (
    Activation,
    ActivationName,
    Add,
    AvgPool1d,
    AvgPool2d,
    Concatenate,
    Flatten,
    GlobalAvgPool,
    Matmul,
    MaxPool1d,
    MaxPool2d,
    Mean,
    Multiply,
    Permute,
    Pooling,
    Reshape,
    Scale,
    Select,
    Slice,
    Softmax,
)
from sordino_protocols.weighted import (
    Conv1d,
    Conv2d,
    Embedding,
    GroupNorm,
    Gru,
    LayerNorm,
    Linear,
    Lstm,
    OneHotEmbedding,
    PositionalEmbedding,
    RecurrentOutput,
    Weighted,
)


def build(spec: ModelSpec, feature_count: int) -> nn.Module:
    """The module [batch, feature_count] -> [batch, outputs], float64, all parameters zero.

    A spec without branches becomes an `nn.Sequential`, any other a `Network`.

    Raises:
        InputError: shapes that do not fit, or a bound is passed.
    """
    architecture = architecture_of(spec, feature_count)
    # Torch draws initial weights that nobody wants: leave its global generator as it was.
    with torch.random.fork_rng(devices=[]):
        modules = [_module(step).to(torch.float64) for step in architecture.steps]
    if all(_inputs(step) == (index,) for index, step in enumerate(architecture.steps)):
        module: nn.Module = nn.Sequential(*modules)
    else:
        module = Network(architecture, modules)
    load_flat(module, np.zeros(architecture.parameter_count))
    return module


def flatten(module: nn.Module) -> FloatVector:
    """The parameters of `module` as one float64 vector, in the order of `models`."""
    parts = [p.detach().to(torch.float64).reshape(-1).numpy() for p in module.parameters()]
    return np.concatenate(parts)


def load_flat(module: nn.Module, vector: FloatVector) -> None:
    """Put `vector` into the parameters of `module`; the inverse of `flatten`.

    Raises:
        ValueError: the vector's length is not the module's number of parameters.
    """
    parameters = list(module.parameters())
    expected = sum(parameter.numel() for parameter in parameters)
    if vector.shape != (expected,):
        raise ValueError(f"flat vector has shape {vector.shape}; the module holds {expected}")
    pieces = np.split(vector, np.cumsum([p.numel() for p in parameters])[:-1])
    with torch.no_grad():
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.copy_(torch.tensor(piece).view_as(parameter))


class Network(nn.Module):
    """A directed acyclic graph of modules, run in order; values that nobody needs are dropped."""

    def __init__(self, architecture: Architecture, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)
        self._inputs = [_inputs(step) for step in architecture.steps]
        last_use = {index: at for at, inputs in enumerate(self._inputs) for index in inputs}
        self._drops = [
            tuple(index for index, last in last_use.items() if last == at)
            for at in range(len(modules))
        ]

    def forward(self, features: Tensor) -> Tensor:
        """[batch, features] -> [batch, outputs]."""
        values = {0: features}
        for at, module in enumerate(self.steps):
            values[at + 1] = module(*(values[index] for index in self._inputs[at]))
            for index in self._drops[at]:
                del values[index]
        return values[len(self.steps)]


class TokenEmbedding(nn.Module):
    """An embedding of whole numbers that arrive as floats; no value of a record can stop it."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)

    def forward(self, features: Tensor) -> Tensor:
        """[batch, ...] -> [batch, ..., width]; NaN is 0, others the nearest known number."""
        highest = self.embedding.num_embeddings - 1
        known = features.nan_to_num(nan=0.0, posinf=highest, neginf=0.0).clamp(0, highest)
        tokens: Tensor = self.embedding(known.round().to(torch.int64))
        return tokens


class PositionEmbedding(nn.Module):
    """Adds a learnt vector to each step; an embedding of 0, 1, 2 ... for every record."""

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(steps, width)

    def forward(self, values: Tensor) -> Tensor:
        """[batch, steps, width] -> the same."""
        steps = torch.arange(self.embedding.num_embeddings, device=values.device)
        positions: Tensor = self.embedding(steps.expand(values.shape[0], -1))
        return values + positions


class RecurrentLayer(nn.Module):
    """An LSTM or GRU that gives its last state, or the state at each step."""

    def __init__(self, layer: nn.LSTM | nn.GRU, output: RecurrentOutput) -> None:
        super().__init__()
        self.layer = layer
        self._is_last = output == "last"

    def forward(self, sequence: Tensor) -> Tensor:
        """[batch, steps, features] -> [batch, hidden] or [batch, steps, hidden]."""
        states: Tensor = self.layer(sequence)[0]
        return states[:, -1] if self._is_last else states


class RecordOperation(nn.Module):
    """An operation without weights on one record's axes; the batch axis stays first."""

    def __init__(self, operation: Mean | GlobalAvgPool | Permute | Select | Slice | Scale) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, values: Tensor) -> Tensor:
        """[batch, ...] -> [batch, ...]."""
        match self.operation:
            case Mean(axes=axes):
                return values.mean(dim=[axis + 1 for axis in axes])
            case GlobalAvgPool():
                return values.flatten(2).mean(dim=2)
            case Permute(order=order):
                return values.permute(0, *(axis + 1 for axis in order))
            case Select(axis=axis, index=index):
                return values.select(axis + 1, index)
            case Slice(axis=axis, start=start, stop=stop):
                whole = (slice(None),) * (axis + 1)
                return values[(*whole, slice(start, stop))]
            case Scale(factor=factor):
                return values * factor
            case _:
                assert_never(self.operation)

    def extra_repr(self) -> str:
        """What it does."""
        return str(self.operation)


class Combine(nn.Module):
    """An operation without weights on several values of one record."""

    def __init__(self, operation: Add | Multiply | Concatenate | Matmul) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, *values: Tensor) -> Tensor:
        """Each [batch, ...] -> [batch, ...]."""
        match self.operation:
            case Add():
                return values[0] + values[1]
            case Multiply():
                return values[0] * values[1]
            case Concatenate(axis=axis):
                return torch.cat(values, dim=axis + 1)
            case Matmul():
                return values[0] @ values[1]
            case _:
                assert_never(self.operation)

    def extra_repr(self) -> str:
        """What it does."""
        return str(self.operation)


def _inputs(step: Step) -> tuple[int, ...]:
    return tuple(value.index for value in step.inputs)


def _module(step: Step) -> nn.Module:
    operation: Operation = step.operation
    arrived = step.inputs[0].shape
    if isinstance(operation, Weighted):
        return _weighted(operation, arrived)
    if isinstance(operation, Pooling):
        return _pooling(operation)
    if isinstance(operation, CellOperation):
        return _of_cells(operation, arrived)
    match operation:
        case Activation(function=function):
            return _activation(function)
        case Softmax(axis=axis):
            return nn.Softmax(dim=axis + 1)
        case Flatten():
            return nn.Flatten()
        case Reshape(shape=shape):
            return _reshape(arrived, shape)
        case Mean() | Permute() | Select() | Slice() | Scale():
            return RecordOperation(operation)
        case Add() | Multiply() | Concatenate() | Matmul():
            return Combine(operation)
        case _:
            assert_never(operation)


def _reshape(arrived: tuple[int, ...], shape: tuple[int, ...]) -> nn.Module:
    if len(arrived) == 1:
        return nn.Unflatten(1, shape)
    return nn.Sequential(nn.Flatten(), nn.Unflatten(1, shape))


def _weighted(layer: Weighted, arrived: tuple[int, ...]) -> nn.Module:
    match layer:
        case Linear():
            return nn.Linear(arrived[-1], layer.outputs, bias=layer.bias)
        case OneHotEmbedding():
            # Torch's weight is [width, words]: a word's vector is a column of it.
            return nn.Linear(arrived[-1], layer.width, bias=False)
        case Embedding():
            return TokenEmbedding(layer.vocabulary, layer.width)
        case PositionalEmbedding():
            return PositionEmbedding(*arrived)
        case LayerNorm():
            axes = list(arrived[-layer.axes :])
            return nn.LayerNorm(axes, layer.epsilon, elementwise_affine=layer.affine)
        case GroupNorm():
            return nn.GroupNorm(layer.groups, arrived[0], layer.epsilon, affine=layer.affine)
        case Conv1d() | Conv2d():
            return _convolution(layer, arrived[0])
        case Lstm() | Gru():
            kind = nn.LSTM if isinstance(layer, Lstm) else nn.GRU
            recurrent = kind(arrived[-1], layer.hidden, layer.layers, batch_first=True)
            return RecurrentLayer(recurrent, layer.output)
        case _:
            assert_never(layer)


def _of_cells(operation: CellOperation, arrived: tuple[int, ...]) -> nn.Module:
    match operation:
        case CellEmbedding(cells=cells, width=width):
            return CellVectors(cells, width)
        case CausalSum():
            return SumBefore()
        case CellLinear(cells=cells):
            return PositionLinear(cells, arrived[-1])
        case CellLikelihood(cells=cells):
            return LogLikelihood(cells)
        case _:
            assert_never(operation)


def _convolution(layer: Conv1d | Conv2d, inputs: int) -> nn.Module:
    made = (
        partial(nn.Conv1d, kernel_size=layer.kernel, stride=layer.stride, padding=layer.padding)
        if isinstance(layer, Conv1d)
        else partial(
            nn.Conv2d, kernel_size=layer.kernel, stride=layer.stride, padding=layer.padding
        )
    )
    return made(inputs, layer.channels, groups=layer.groups, bias=layer.bias)


def _pooling(operation: Pooling) -> nn.Module:
    match operation:
        case MaxPool1d():
            return nn.MaxPool1d(operation.kernel, operation.stride, operation.padding)
        case AvgPool1d():
            return nn.AvgPool1d(
                operation.kernel, operation.stride or operation.kernel, operation.padding
            )
        case MaxPool2d():
            return nn.MaxPool2d(operation.kernel, operation.stride, operation.padding)
        case AvgPool2d():
            return nn.AvgPool2d(operation.kernel, operation.stride, operation.padding)
        case GlobalAvgPool():
            return RecordOperation(operation)
        case _:
            assert_never(operation)


def _activation(function: ActivationName) -> nn.Module:
    match function:
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()
        case "relu":
            return nn.ReLU()
        case "gelu":
            return nn.GELU()
        case "gelu_tanh":
            return nn.GELU(approximate="tanh")
        case "silu":
            return nn.SiLU()
        case "elu":
            return nn.ELU()
        case _:
            assert_never(function)
