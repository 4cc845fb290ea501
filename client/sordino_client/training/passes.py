"""One forward and one backward pass over a chunk, keeping what each layer saw and was told.

The backward pass goes to the layers' outputs alone: no parameter's gradient is formed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Call:
    """One use of a layer: what it was given, what it gave, and how often that had been changed."""

    layer: int
    inputs: Tensor
    output: Tensor
    version: int


class TracedPass:
    """Any module: hooks keep the inputs, autograd gives the gradients."""

    def __init__(self, module: nn.Module, layers: Sequence[Layer]) -> None:
        self._module = module
        self._layers = layers
        self._calls: list[_Call] = []
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
                    losses.sum(), [call.output for call in calls], materialize_grads=True
                )
        finally:
            self._is_tracing = False
            self._calls = []
        uses: list[list[Use]] = [[] for _ in self._layers]
        for call, gradient in zip(calls, gradients, strict=True):
            _check(self._layers[call.layer].name, call, rows=len(losses))
            uses[call.layer].append(Use(call.inputs, gradient))
        return uses

    def _keep(self, index: int) -> ForwardHook:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._is_tracing:
                if not output.requires_grad:
                    output.requires_grad_()
                # A layer may itself have changed what it now gives: a bias added in place.
                version = output._version  # noqa: SLF001 (the one way to see a change in place)
                self._calls.append(_Call(index, inputs[0].detach(), output, version))

        return hook


def _check(name: str, call: _Call, *, rows: int) -> None:
    if call.output.shape[:1] != (rows,):
        raise InputError(
            f"layer {name}: its output has {call.output.shape[0]} rows for {rows} records; every "
            f"layer's input must have one row a record: expand constant inputs to [records, ...]"
        )
    if call.output._version != call.version:  # noqa: SLF001 (as above)
        raise InputError(
            f"layer {name}: its output is changed in place; "
            f"use the form of the operation that gives a new tensor"
        )
