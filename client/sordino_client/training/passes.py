"""One forward and one backward pass over a chunk, keeping what each layer saw and was told.

The backward pass goes to the layers' outputs alone: no parameter's gradient is formed.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from sordino_client.training.layers import Layer, Use
from sordino_protocols.errors import InputError

LossesOf = Callable[[Tensor], Tensor]
ForwardHook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor | None]


class Pass(Protocol):
    """A way to run a network forward and backward."""

    def uses(self, features: Tensor, losses_of: LossesOf) -> list[list[Use]]:
        """Every use of every layer, in one pass.

        Args:
            features: [rows, ...], as the module takes them.
            losses_of: takes the module's outputs to each row's loss.
        """


class TracedPass:
    """Any module: hooks keep the inputs, autograd gives the gradients."""

    def __init__(self, module: nn.Module, layers: Sequence[Layer]) -> None:
        self._module = module
        self._layers = layers
        self._calls: list[tuple[int, Tensor, Tensor]] = []
        self._is_tracing = False
        for index, layer in enumerate(layers):
            layer.module.register_forward_hook(self._keep(index))

    def uses(self, features: Tensor, losses_of: LossesOf) -> list[list[Use]]:
        """See `Pass`.

        Raises:
            InputError: a layer's input has no row for each record, or its output is changed.
        """
        self._is_tracing = True
        try:
            with torch.enable_grad():
                losses = losses_of(self._module(features))
                calls = self._calls
                # A sum, never a mean: each row's gradient is its own unit's.
                gradients = torch.autograd.grad(
                    losses.sum(), [output for _, _, output in calls], materialize_grads=True
                )
        finally:
            self._is_tracing = False
            self._calls = []
        uses: list[list[Use]] = [[] for _ in self._layers]
        for (index, inputs, output), gradient in zip(calls, gradients, strict=True):
            _check(self._layers[index].name, output, rows=len(losses))
            uses[index].append(Use(inputs, gradient))
        return uses

    def _keep(self, index: int) -> ForwardHook:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._is_tracing:
                if not output.requires_grad:
                    output.requires_grad_()
                self._calls.append((index, inputs[0].detach(), output))

        return hook


def _check(name: str, output: Tensor, *, rows: int) -> None:
    if output.shape[:1] != (rows,):
        raise InputError(
            f"layer {name}: its output has {output.shape[0]} rows for {rows} records; every "
            f"layer's input must have one row a record: expand constant inputs to [records, ...]"
        )
    if output._version:  # noqa: SLF001 (the one way to see a change in place)
        raise InputError(
            f"layer {name}: its output is changed in place; "
            f"use the form of the operation that gives a new tensor"
        )
