"""What a loss tells a network: its gradient at each row's outputs, in closed form.

For a small network, autograd's bookkeeping around a loss costs as much as the network. A row's
gradient depends on its outputs and label alone, and is exactly zero for a label that makes no sense
(`losses`). Like every array of a pass it is normed before it is summed: a mistake here would spoil
a model, never the clipping norm.
"""

from typing import assert_never

import torch
from torch import Tensor

from sordino_client.training.losses import (
    BinaryLogistic,
    CrossEntropy,
    Likelihood,
    Loss,
    SquaredError,
)


def at_outputs(
    loss: Loss, outputs: Tensor, labels: Tensor, *, shares: Tensor | None = None
) -> Tensor:
    """The gradient of each row's loss at that row's outputs, as autograd has it.

    Args:
        loss: of one row.
        outputs: [rows, k], of any floating type.
        labels: [rows], or [rows, k] for numbers; one number is wanted of all a row's outputs.
        shares: [rows], what each row's loss is multiplied with; None for ones.

    Returns:
        [rows, k], of the outputs' type.
    """
    match loss:
        case BinaryLogistic():
            gradients = _logistic(outputs, labels)
        case CrossEntropy():
            gradients = _cross_entropy(outputs, labels)
        case SquaredError():
            gradients = _squared(outputs, labels)
        case Likelihood():
            gradients = torch.full_like(outputs, -1)
        case _:
            assert_never(loss)
    return gradients if shares is None else gradients * shares.to(gradients)[:, None]


def _logistic(outputs: Tensor, labels: Tensor) -> Tensor:
    column = labels[:, None]
    is_class = (column == 0).logical_or_(column == 1)
    return outputs.sigmoid().sub_(column).masked_fill_(is_class.logical_not_(), 0)


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    column = labels[:, None]
    is_class = (column >= 0) & (column < outputs.shape[1]) & (column == column.floor())
    classes = torch.where(is_class, column, 0).long()
    gradients = outputs.softmax(dim=1)
    gradients.scatter_add_(1, classes, gradients.new_full((1, 1), -1).expand_as(classes))
    return gradients.masked_fill_(is_class.logical_not_(), 0)


def _squared(outputs: Tensor, labels: Tensor) -> Tensor:
    wanted = labels.to(outputs.dtype).reshape(outputs.shape[0], -1)
    is_number = wanted.isfinite().all(dim=1, keepdim=True)
    return (outputs - wanted).masked_fill_(is_number.logical_not_(), 0)
