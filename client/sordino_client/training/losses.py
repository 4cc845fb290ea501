"""Losses of one record at a time: what a record's gradient is the gradient of.

A loss that couples records (a batch's contrast, Cox' partial likelihood) has no per-unit gradient
and cannot be here. A label that makes no sense gives that record no gradient, never an error:
an error would tell of a record.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sordino_protocols.plan import LossName


@dataclass(frozen=True, slots=True)
class BinaryLogistic:
    """One logit, labels 0 or 1."""

    def per_record(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [n] of logits [n, 1] and labels [n]; exactly 0 for a label that is neither."""
        is_class = (labels == 0) | (labels == 1)
        losses = functional.binary_cross_entropy_with_logits(
            outputs.reshape(len(labels)),
            torch.where(is_class, labels, 0).to(outputs.dtype),
            reduction="none",
        )
        return torch.where(is_class, losses, 0.0)


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """k logits, labels 0 to k - 1."""

    def per_record(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [n] of logits [n, k] and labels [n]; exactly 0 for a label that is no class."""
        is_class = (labels >= 0) & (labels < outputs.shape[1]) & (labels == labels.floor())
        classes = torch.where(is_class, labels, 0).long()
        losses = functional.cross_entropy(outputs, classes, reduction="none")
        return torch.where(is_class, losses, 0.0)


@dataclass(frozen=True, slots=True)
class SquaredError:
    """Numbers: half the squared distance, summed over the outputs."""

    def per_record(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [n] of outputs [n, k] and labels [n] or [n, k]; exactly 0 for no number."""
        flat = outputs.reshape(len(labels), -1)
        wanted = labels.to(outputs.dtype).reshape(len(labels), -1)
        is_number = wanted.isfinite().all(dim=1)
        distances = flat - torch.where(is_number[:, None], wanted, 0)
        return torch.where(is_number, distances.square().sum(dim=1) / 2, 0.0)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Log-probabilities that the network itself gives of parts of a record; no label."""

    def per_record(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Losses [n] of log-probabilities [n, k]: minus their sum; labels [n] are not read."""
        return -outputs.reshape(len(labels), -1).sum(dim=1)


Loss = BinaryLogistic | CrossEntropy | SquaredError | Likelihood


def loss_of(name: LossName) -> Loss:
    """The loss that a plan names."""
    match name:
        case "binary":
            return BinaryLogistic()
        case "cross_entropy":
            return CrossEntropy()
        case "squared":
            return SquaredError()
        case "likelihood":
            return Likelihood()
