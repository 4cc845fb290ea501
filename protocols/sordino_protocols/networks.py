"""A model spec as a torch module, and its parameters as the flat vector that travels.

Kept apart from `models` so that reading a job does not import torch. The module is for whoever
receives a trained model; training itself works on the flat vector.
"""

import numpy as np
import torch
from torch import nn

from sordino_protocols.models import FloatVector, MlpSpec, ModelSpec, layers


def build(spec: ModelSpec, feature_count: int) -> nn.Sequential:
    """The module [batch, feature_count] -> logits [batch, 1], float64, all parameters zero.

    Raises:
        InputError: no features, or too many parameters.
    """
    modules: list[nn.Module] = []
    # Torch draws initial weights that nobody wants: leave its global generator as it was.
    with torch.random.fork_rng(devices=[]):
        for shape in layers(spec, feature_count):
            if modules and isinstance(spec, MlpSpec):
                modules.append(nn.Tanh() if spec.activation == "tanh" else nn.ReLU())
            modules.append(nn.Linear(shape.inputs, shape.outputs, dtype=torch.float64))
    module = nn.Sequential(*modules)
    load_flat(module, np.zeros(sum(p.numel() for p in module.parameters())))
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
