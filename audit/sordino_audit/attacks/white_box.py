"""Scores of an adversary who sees weights and updates: what he can ask of a target's own gradient.

Nasr, Shokri & Houmansadr (2019) train a network on gradients; these are the two quantities that it
finds, as plain scores: a member's gradient is small once it is fitted, and an update that the
member took part in points along it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad, vmap

Floats = NDArray[np.float64]

_SMALLEST_NORM = 1e-12


def gradient_norm_score(gradients: Floats) -> Floats:
    """Minus the L2 norm of each target's gradient (Nasr et al. 2019, the last-layer feature).

    Args:
        gradients: [..., targets, parameters], of each target's loss at the weights under attack.
    """
    return np.asarray(-np.linalg.norm(gradients, axis=-1))


def projection_score(gradients: Floats, update: Floats) -> Floats:
    """How far an update went down each target's own gradient, in units of the gradient's norm.

    Under DP-SGD, where a sampled member adds its clipped gradient to the sum, this is the matched
    filter: the likelihood ratio of Gaussian noise of equal scale in all coordinates (Nasr et al.
    2023, sec. 4). Take away from `update` whatever is known of the other records.

    Args:
        gradients: [..., targets, parameters], at the weights before the update.
        update: [parameters], new weights less old.

    Returns:
        [..., targets]: minus the update's component along each gradient; 0 for a zero gradient.
    """
    norms = np.maximum(np.linalg.norm(gradients, axis=-1), _SMALLEST_NORM)
    return np.asarray(-(gradients @ update) / norms)


def accumulated_projection(gradients: Floats, updates: Floats) -> Floats:
    """Sum of `projection_score` over rounds: the matched filter of a whole run.

    Args:
        gradients: [rounds, targets, parameters].
        updates: [rounds, parameters].

    Returns:
        [targets].
    """
    rounds = zip(gradients, updates, strict=True)
    return np.asarray(sum(projection_score(each, update) for each, update in rounds))


def target_gradients(
    module: torch.nn.Module, features: Tensor, labels: Tensor, loss: torch.nn.Module
) -> Floats:
    """Each target's gradient, one at a time, flattened in the order of the module's parameters.

    Args:
        module: at the weights under attack; it is not changed.
        features: [targets, ...].
        labels: [targets, ...], as `loss` takes them.
        loss: of outputs and labels with a first axis of length 1.

    Returns:
        [targets, parameters].
    """
    parameters = {name: each.detach() for name, each in module.named_parameters()}

    def loss_of(weights: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        outputs: Tensor = functional_call(module, weights, (row.unsqueeze(0),))
        value: Tensor = loss(outputs, label.unsqueeze(0))
        return value

    each = vmap(grad(loss_of), in_dims=(None, 0, 0))(parameters, features, labels)
    flat = [part.reshape(len(features), -1) for part in each.values()]
    return torch.cat(flat, dim=1).double().numpy()
