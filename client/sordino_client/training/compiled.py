"""A pass compiled by torch for one shape: what is not a product is fused.

Compiled code cannot tell autograd about the values between the layers. So a zero is added to each
layer's output: the loss's gradient at that zero is its gradient at the output.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sordino_client.training.layers import Layer, Use
from sordino_client.training.passes import LossesOf

Forward = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


class CompiledPass:
    """A module's pass in the shape that it is first used in."""

    def __init__(self, module: nn.Module, layers: Sequence[Layer]) -> None:
        self._module = module
        self._layers = layers
        self._order: list[int] = []
        self._zeros: list[Tensor] = []
        self._forward: Forward = torch.compile(self._with_zeros, dynamic=False)

    def uses(self, features: Tensor, losses_of: LossesOf) -> list[list[Use]]:
        """See `Pass`."""
        if not self._zeros:
            self._record(features)
        with torch.enable_grad():
            outputs, inputs = self._forward(features, self._zeros)
            gradients = torch.autograd.grad(
                losses_of(outputs).sum(), self._zeros, materialize_grads=True
            )
        uses: list[list[Use]] = [[] for _ in self._layers]
        for index, kept, gradient in zip(self._order, inputs, gradients, strict=True):
            uses[index].append(Use(kept.detach(), gradient))
        return uses

    def _record(self, features: Tensor) -> None:
        """Find out which layers run in which order, and the shapes of what they give."""

        def note(index: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
            def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
                self._order.append(index)
                self._zeros.append(torch.zeros_like(output).requires_grad_())

            return hook

        handles = [
            layer.module.register_forward_hook(note(index))
            for index, layer in enumerate(self._layers)
        ]
        with torch.no_grad():
            self._module(features)
        for handle in handles:
            handle.remove()

    def _with_zeros(self, features: Tensor, zeros: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The outputs, and the input of every layer in the order of use."""
        inputs: list[Tensor] = []

        def hook(_module: nn.Module, entering: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs.append(entering[0])
            return output + zeros[len(inputs) - 1]

        handles = [layer.module.register_forward_hook(hook) for layer in self._layers]
        outputs: Tensor = self._module(features)
        for handle in handles:
            handle.remove()
        return outputs, inputs


def compiled_pass(module: nn.Module, layers: Sequence[Layer]) -> CompiledPass:
    """A pass that is compiled when first used; a RuntimeError there says that it cannot be."""
    return CompiledPass(module, layers)
