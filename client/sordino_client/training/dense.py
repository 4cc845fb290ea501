"""Stacks of dense layers and activations: both passes by hand, without hooks or an autograd graph.

A stack this simple needs neither, and on small batches they cost as much as the products. It keeps
the very arrays that a traced pass keeps: each layer's input, and the loss's gradient at its output.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sordino_client.training.layers import Use
from sordino_client.training.passes import LossesOf

InPlace = Callable[[Tensor], Tensor]
GradientOf = Callable[[Tensor], Tensor]
Backward = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class _Activation:
    """An activation whose derivative can be told from its output.

    Attributes:
        apply: changes what it is given.
        backward: takes the loss's gradient at the output, and the output.
    """

    apply: InPlace
    backward: Backward


@dataclass(frozen=True, slots=True)
class DenseStack:
    """Linear layers, each used once, with activations between them."""

    linears: tuple[nn.Linear, ...]
    activations: tuple[tuple[_Activation, ...], ...]

    def uses(self, features: Tensor, losses_of: LossesOf) -> list[list[Use]]:
        """See `Pass`."""
        return self.uses_told(features, lambda outputs: _at_outputs(outputs, losses_of))

    def uses_told(self, features: Tensor, gradient_of: GradientOf) -> list[list[Use]]:
        """As `uses`, where the loss's gradient at the outputs is known in closed form.

        Args:
            features: [rows, ...].
            gradient_of: takes the outputs to the loss's gradient at them.
        """
        with torch.no_grad():
            inputs, outputs = self._forward(features)
            gradient = gradient_of(outputs)
            gradients = []
            for index in reversed(range(len(self.linears))):
                hidden = inputs[index + 1] if index + 1 < len(inputs) else outputs
                for activation in reversed(self.activations[index]):
                    gradient = activation.backward(gradient, hidden)
                gradients.append(gradient)
                if index:
                    gradient = gradient @ self.linears[index].weight
        return [[Use(*kept)] for kept in zip(inputs, reversed(gradients), strict=True)]

    def _forward(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        inputs, hidden = [], features
        for linear, activations in zip(self.linears, self.activations, strict=True):
            inputs.append(hidden)
            hidden = functional.linear(hidden, linear.weight, linear.bias)
            for activation in activations:
                hidden = activation.apply(hidden)
        return inputs, hidden


def dense_stack(module: nn.Module) -> DenseStack | None:
    """`module` as a stack, or None if it is more than that: then its passes have to be traced."""
    linears: list[nn.Linear] = []
    activations: list[tuple[_Activation, ...]] = []
    for part in _parts(module):
        if part._forward_hooks or part._forward_pre_hooks:  # noqa: SLF001 (there is no other way)
            return None
        known = _ACTIVATIONS.get(type(part))
        if type(part) is nn.Linear and part not in linears:
            linears.append(part)
            activations.append(())
        elif known is not None and linears and not activations[-1]:
            activations[-1] = (known,)
        elif type(part) is not nn.Identity:
            return None
    return DenseStack(tuple(linears), tuple(activations)) if linears else None


def _parts(module: nn.Module) -> list[nn.Module]:
    """The modules that run one after the other."""
    if type(module) is not nn.Sequential:
        return [module]
    return [part for child in module for part in _parts(child)]


def _at_outputs(outputs: Tensor, losses_of: LossesOf) -> Tensor:
    leaf = outputs.detach().requires_grad_()
    with torch.enable_grad():
        # A sum, never a mean: each row's gradient is its own unit's.
        (gradient,) = torch.autograd.grad(losses_of(leaf).sum(), [leaf])
    return gradient


def _tanh_backward(gradient: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward(gradient, output)  # type: ignore[no-any-return]


def _sigmoid_backward(gradient: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.sigmoid_backward(gradient, output)  # type: ignore[no-any-return]


def _relu_backward(gradient: Tensor, output: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward(gradient, output, 0)  # type: ignore[no-any-return]


_ACTIVATIONS: dict[type[nn.Module], _Activation] = {
    nn.Tanh: _Activation(torch.tanh_, _tanh_backward),
    nn.Sigmoid: _Activation(torch.sigmoid_, _sigmoid_backward),
    nn.ReLU: _Activation(torch.relu_, _relu_backward),
}
