"""Sums of clipped per-unit gradients by book-keeping: no unit's gradient is ever materialised.

One forward keeps the input of each linear layer, one backward gives the gradient at each layer's
output. A unit's gradient of a weight is the outer product of the two, so its norm is a product of
two norms, and the clipped sum is one weighted matrix product a layer (Goodfellow 2015; Bu et al.
2023). What must stay true: **only what was normed is ever summed**. The same two arrays give the
norm and the sum; a unit whose norm is not finite contributes exactly zero.

Everything is float64. In float32 the last bits of one unit's gradient depend on which other units
share its batch, and over thousands of units that adds up to a visible part of the sensitivity.
Rows go through in chunks of `CHUNK_ROWS`, so that the rounding error of a sum of n clipped
gradients stays below n * (CHUNK_ROWS + n / CHUNK_ROWS) * 2^-53 of the bound: 2^-22 for a million.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from sordino_client.training.sampling import Indices
from sordino_protocols.models import (
    Activation,
    FloatVector,
    MlpSpec,
    ModelSpec,
    layers,
    parameter_count,
)

CHUNK_ROWS = 1024
# A canary's gradient over the bound: far above it, so that a canary is always clipped.
CANARY_EXCESS = 1024.0


@dataclass(frozen=True, slots=True)
class Units:
    """The privacy units of one site: records first, then canaries. All of it is secret.

    A canary is a unit whose loss is linear in the weight of its own lane and reads nothing else.
    Lanes are coordinates behind the model's own that no logit reads, so a canary has a huge
    gradient on one lane and exactly none on the model.

    Attributes:
        features: [records, features], encoded.
        labels: [records], 0 or 1.
        canary_lanes: [canaries], the lane of each canary that is inserted.
    """

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]
    canary_lanes: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:  # noqa: PLR2004
            raise ValueError("expected features [records, features] and labels [records]")
        if self.canary_lanes.ndim != 1:
            raise ValueError("expected canary_lanes [canaries]")

    def __len__(self) -> int:
        """Units in all; a secret."""
        return len(self.labels) + len(self.canary_lanes)

    def __repr__(self) -> str:
        """Nothing about the records, whatever logs it."""
        return "Units(...)"


@dataclass(frozen=True, slots=True)
class _LayerTrace:
    """What one linear layer keeps of a forward and a backward pass, a row a unit."""

    inputs: Tensor
    output_gradient: Tensor


def clipped_sum(
    units: Units,
    batch: Indices,
    weights: FloatVector,
    spec: ModelSpec,
    *,
    bound: float,
) -> FloatVector:
    """The sum over `batch` of each unit's gradient, clipped to the L2 norm `bound`.

    A record's gradient is that of its logistic loss; a canary's is `CANARY_EXCESS * bound` on its
    lane. Model and lanes are clipped together. A unit whose gradient has no finite norm
    contributes exactly zero.

    Args:
        units: records and canaries.
        batch: indices of the units to sum over; an index counts as often as it occurs.
        weights: flat model parameters, then one weight a lane.
        spec: the model.
        bound: the largest L2 norm of a contribution, up to float64 rounding of a factor 1 + 2^-40.

    Returns:
        A vector as long as `weights`.

    Raises:
        ValueError: `weights` is shorter than the model, or a canary's lane is not in it.
    """
    dimension = parameter_count(spec, units.features.shape[1])
    lanes = _lane_count(units, weights, dimension)
    record_count = len(units.labels)
    records = batch[batch < record_count]
    canaries = batch[batch >= record_count] - record_count
    total = np.zeros(dimension + lanes)
    parameters = _parameters(spec, units.features.shape[1], weights[:dimension])
    for chunk in _chunks(records):
        traces = _trace(units.features[chunk], units.labels[chunk], parameters, spec)
        total[:dimension] += _weighted_sum(traces, _clip_scales(_squared_norms(traces), bound))
    slopes = torch.full((len(canaries),), CANARY_EXCESS * bound, dtype=torch.float64)
    contributions = (_clip_scales(slopes.square(), bound) * slopes).numpy()
    np.add.at(total[dimension:], units.canary_lanes[canaries], contributions)
    return total


def predict(
    weights: FloatVector, spec: ModelSpec, features: npt.NDArray[np.float32]
) -> FloatVector:
    """The model's probability of the positive label, [records] in [0, 1].

    Args:
        weights: flat model parameters; lanes behind them are ignored.
        spec: the model.
        features: [records, features], encoded.

    Raises:
        ValueError: `weights` is shorter than the model.
    """
    dimension = parameter_count(spec, features.shape[1])
    if weights.ndim != 1 or len(weights) < dimension:
        raise ValueError(f"weights have shape {weights.shape}; the model needs {dimension}")
    parameters = _parameters(spec, features.shape[1], weights[:dimension])
    scores = np.empty(len(features))
    for chunk in _chunks(np.arange(len(features))):
        activation = torch.from_numpy(features[chunk]).to(torch.float64)
        for index, (weight, bias) in enumerate(parameters):
            hidden = activation if index == 0 else _activate(activation, spec)
            activation = functional.linear(hidden, weight, bias)
        scores[chunk] = torch.sigmoid(activation[:, 0]).numpy()
    return scores


def _lane_count(units: Units, weights: FloatVector, dimension: int) -> int:
    if weights.ndim != 1 or len(weights) < dimension:
        raise ValueError(f"weights have shape {weights.shape}; the model alone needs {dimension}")
    lanes = len(weights) - dimension
    if np.any((units.canary_lanes < 0) | (units.canary_lanes >= lanes)):
        raise ValueError(f"a canary's lane is outside the {lanes} lanes behind the model")
    return lanes


def _chunks(indices: Indices) -> Iterator[Indices]:
    for start in range(0, len(indices), CHUNK_ROWS):
        yield indices[start : start + CHUNK_ROWS]


def _parameters(
    spec: ModelSpec, feature_count: int, vector: FloatVector
) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each layer, as views of a copy of the flat vector."""
    flat = torch.tensor(vector, dtype=torch.float64)
    parameters = []
    for shape in layers(spec, feature_count):
        weight_size = shape.inputs * shape.outputs
        weight = flat[:weight_size].view(shape.outputs, shape.inputs)
        parameters.append((weight, flat[weight_size : shape.parameter_count]))
        flat = flat[shape.parameter_count :]
    return parameters


def _trace(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float32],
    parameters: list[tuple[Tensor, Tensor]],
    spec: ModelSpec,
) -> list[_LayerTrace]:
    """One forward, and one backward to the layers' outputs only."""
    inputs = [torch.from_numpy(features).to(torch.float64)]
    outputs = [functional.linear(inputs[0], *parameters[0]).requires_grad_()]
    for parameter in parameters[1:]:
        inputs.append(_activate(outputs[-1], spec))
        outputs.append(functional.linear(inputs[-1], *parameter))
    # A sum, never a mean: each row's gradient is its own unit's.
    loss = functional.binary_cross_entropy_with_logits(
        outputs[-1][:, 0], torch.from_numpy(labels).to(torch.float64), reduction="sum"
    )
    gradients = torch.autograd.grad(loss, outputs)
    return [
        _LayerTrace(entering.detach(), gradient)
        for entering, gradient in zip(inputs, gradients, strict=True)
    ]


def _activate(values: Tensor, spec: ModelSpec) -> Tensor:
    activation: Activation = spec.activation if isinstance(spec, MlpSpec) else "tanh"
    return torch.tanh(values) if activation == "tanh" else torch.relu(values)


def _squared_norms(traces: list[_LayerTrace]) -> Tensor:
    """Each unit's squared gradient norm: |g a^T|^2 = |g|^2 |a|^2, and |g|^2 for the bias."""
    squares = [
        trace.output_gradient.square().sum(dim=1) * (trace.inputs.square().sum(dim=1) + 1)
        for trace in traces
    ]
    return torch.stack(squares).sum(dim=0)


def _clip_scales(squared_norms: Tensor, bound: float) -> Tensor:
    """What each unit's gradient is multiplied with; zero where its norm is not finite."""
    norms = squared_norms.sqrt()
    scales = torch.clamp(bound / norms, max=1.0)
    return torch.where(norms.isfinite(), scales, 0.0)


def _weighted_sum(traces: list[_LayerTrace], scales: Tensor) -> FloatVector:
    """The scaled gradients' sum, flat: one matrix product a layer."""
    # Zero times NaN is NaN: rows that do not count are replaced, not multiplied.
    counts = (scales > 0)[:, None]
    parts = []
    for trace in traces:
        gradient = torch.where(counts, trace.output_gradient * scales[:, None], 0.0)
        inputs = torch.where(counts, trace.inputs, 0.0)
        parts += [(gradient.T @ inputs).reshape(-1), gradient.sum(dim=0)]
    return torch.cat(parts).numpy()
