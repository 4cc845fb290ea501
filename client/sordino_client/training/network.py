"""A torch module as the engine trains it: admitted once, then passes that keep what it needs.

One forward keeps each layer's input, one backward gives the loss's gradient at each layer's output
and at nothing else. A pass runs on a private copy of the module, in one of few shapes, for which
`check_rows` showed that a row's bits depend on the row alone.
"""

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn

from sordino_client.training import admission
from sordino_client.training.arithmetic import Form, Performance, choose_arithmetic
from sordino_client.training.compiled import compiled_pass
from sordino_client.training.contributions import Contribution, Instantiated, Span
from sordino_client.training.dense import dense_stack
from sordino_client.training.grouping import regrouped
from sordino_client.training.layers import Layer, Use, contributions
from sordino_client.training.loss_gradients import at_outputs
from sordino_client.training.losses import Loss
from sordino_client.training.passes import Pass, TracedPass
from sordino_client.training.processor import single_threaded
from sordino_client.training.recurrent import UnrolledRecurrent, unroll
from sordino_protocols.cell_modules import PositionLinear
from sordino_protocols.errors import InputError
from sordino_protocols.models import FloatVector


class Network:
    """A module and a loss, admitted: every parameter has per-unit gradients.

    It may be used again for many rounds; one thread at a time is inside, others wait.

    Attributes:
        loss: of one record.
        dimension: length of the flat vector: the parameters in the module's own order.
        layers: the layers that have parameters.
        arithmetic: precision and shapes.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        example: Tensor,
        *,
        performance: Performance | None = None,
    ) -> None:
        """Admit a module.

        Args:
            module: takes [records, ...] to outputs [records, k]; it is copied.
            loss: of one record.
            example: a made-up input of one record, [1, ...], of the type that the module takes.
            performance: how fast to compute; touches no privacy.

        Raises:
            InputError: a layer has no per-unit gradient, mixes records, or shares its parameters.
        """
        performance = performance or Performance()
        module = copy.deepcopy(module)
        admission.check_layers(module)
        spans = _spans(module)
        unroll(module)
        self.loss = loss
        self.dimension = sum(p.numel() for p in module.parameters())
        self.layers = _layers(module, spans)
        stack = dense_stack(module) if example.dim() == 2 else None  # noqa: PLR2004
        arithmetic = choose_arithmetic(
            performance,
            parameter_count=self.dimension,
            form="stack" if stack else _form(module, self.layers, example),
        )
        # What is tried on made-up records is compared in full precision.
        self.arithmetic = replace(arithmetic, reduced_products=False)
        self._module = module.to(
            device=self.arithmetic.device, dtype=self.arithmetic.dtype
        ).requires_grad_(requires_grad=False)
        self._example = example
        self._lock = threading.RLock()
        self._checked: set[int] = set()
        self._checked_outputs: set[int] = set()
        self._held = torch.zeros(self.dimension, dtype=torch.float64)
        admission.prepare(self._module)
        self._parameters = [
            (layer.module.get_parameter(name), span)
            for layer in self.layers
            for name, span in layer.spans.items()
        ]
        self._stack = stack
        self._pass: Pass = stack or TracedPass(self._module, self.layers)
        self._compiled: Pass | None = None
        admission.check_network(self)
        self.arithmetic = arithmetic
        if performance.compile and stack is None:
            self._compile()
        if self.arithmetic.reduced_products:
            self._try_reduced_products()

    @property
    def slow_layers(self) -> tuple[str, ...]:
        """Names of the layers that go through per-sample gradients of Opacus."""
        return tuple(layer.name for layer in self.layers if not layer.has_rule)

    @property
    def example(self) -> Tensor:
        """The made-up record, [1, ...]."""
        return self._example

    @contextmanager
    def holding(self, weights: FloatVector) -> Iterator[None]:
        """Hold the network for this thread, with `weights` in it.

        Raises:
            ValueError: the length is not `dimension`.
        """
        if weights.shape != (self.dimension,):
            raise ValueError(f"weights have shape {weights.shape}; expected {self.dimension}")
        with self._lock:
            self._held = torch.from_numpy(weights)
            self._load(self._held)
            yield

    def _load(self, flat: Tensor) -> None:
        with torch.no_grad():
            for parameter, span in self._parameters:
                parameter.copy_(span.of(flat).view_as(parameter))

    def outputs(self, features: Tensor) -> Tensor:
        """The module's outputs [records, k], of the weights that are held."""
        with torch.no_grad():
            outputs: Tensor = self._module(self._entering(features))
        return outputs.cpu()

    def trace(self, features: Tensor, labels: Tensor) -> list[Contribution]:
        """What every parameter gets from each of these units, unclipped.

        Units are padded to a checked shape; the padding's rows come last and count for nothing
        if their scale is zero.

        Raises:
            InputError: on this processor a row's bits depend on other rows.
        """
        return list(chain.from_iterable(self.trace_layers(features, labels)))

    def trace_layers(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        shares: Tensor | None = None,
        rows_per_unit: int = 1,
    ) -> list[list[Contribution]]:
        """As `trace`, layer by layer, and for units of several rows.

        Args:
            features: [units * rows_per_unit, ...], the rows of a unit one after the other.
            labels: of each row.
            shares: what each row's loss is multiplied with; None for ones.
            rows_per_unit: divides the checked shapes, or is a multiple of `row_multiple`.

        Raises:
            InputError: on this processor a row's bits depend on other rows.
        """
        rows = self.arithmetic.padded_rows(len(labels))
        self._check_rows(rows)
        weighted = None if shares is None else _padded(shares, rows)
        uses = self.uses(_padded(features, rows), _padded(labels, rows), shares=weighted)
        return [
            regrouped(contributions(layer, of_layer), rows_per_unit) if of_layer else []
            for layer, of_layer in zip(self.layers, uses, strict=True)
        ]

    def unchecked(self, features: Tensor, labels: Tensor) -> list[Contribution]:
        """As `trace`, in a shape that nobody checked: for made-up records only."""
        uses = self.uses(features, labels)
        return [
            contribution
            for layer, of_layer in zip(self.layers, uses, strict=True)
            if of_layer
            for contribution in contributions(layer, of_layer)
        ]

    def uses(
        self, features: Tensor, labels: Tensor, *, shares: Tensor | None = None
    ) -> list[list[Use]]:
        """Every use of every layer in one pass over these rows."""

        def losses_of(outputs: Tensor) -> Tensor:
            losses = self.loss.per_record(outputs, labels.to(outputs.device))
            return losses if shares is None else losses * shares.to(losses)

        def gradient_of(outputs: Tensor) -> Tensor:
            return at_outputs(self.loss, outputs, labels.to(outputs.device), shares=shares)

        entering = self._entering(features)
        with self.arithmetic.products():
            if self._stack is not None:
                return self._stack.uses_told(entering, gradient_of)
            return self._pass_for(len(labels)).uses(entering, losses_of)

    def plain_gradient(self, features: Tensor, labels: Tensor) -> Tensor:
        """The summed gradient by plain back-propagation, flat: for made-up records only."""
        parameters = {span.start: parameter for parameter, span in self._parameters}
        ordered = [parameters[start] for start in sorted(parameters)]
        before = [parameter.requires_grad for parameter in ordered]
        for parameter in ordered:
            parameter.requires_grad_()
        outputs = self._module(self._entering(features))
        losses = self.loss.per_record(outputs, labels.to(outputs.device))
        gradients = torch.autograd.grad(losses.sum(), ordered, materialize_grads=True)
        for parameter, needed in zip(ordered, before, strict=True):
            parameter.requires_grad_(needed)
        return torch.cat([gradient.reshape(-1) for gradient in gradients]).double().cpu()

    def _entering(self, features: Tensor) -> Tensor:
        features = features.to(self.arithmetic.device)
        if not features.is_floating_point():
            return features
        if features.dim() == 4:  # noqa: PLR2004 ([records, channels, height, width])
            # Pooling is many times faster with the channels last.
            return features.to(self.arithmetic.dtype, memory_format=torch.channels_last)
        return features.to(self.arithmetic.dtype)

    def _pass_for(self, rows: int) -> Pass:
        """The compiled pass in its own shape, if there is one; else the traced one."""
        if self._compiled is not None and rows == self.arithmetic.chunk_rows:
            return self._compiled
        return self._pass

    def _compile(self) -> None:
        """Compile the pass in the shape of a chunk, if that works here and changes nothing."""
        rows = self.arithmetic.chunk_rows
        with self.holding(admission.made_up_weights(self).numpy()):
            expected = self._kept(*admission.made_up_records(self, rows))
            self._compiled = compiled_pass(self._module, self.layers)
            try:
                found = self._kept(*admission.made_up_records(self, rows))
            except RuntimeError:
                # No compiler, or an operation that it does not know.
                self._compiled = None
                return
        if not all(map(self._is_close, found, expected)):
            self._compiled = None
            return
        # One shape: whatever a chunk lacks is padding.
        self.arithmetic = replace(self.arithmetic, row_multiple=rows, spare_rows=0)

    def _is_close(self, found: Tensor, expected: Tensor) -> bool:
        tolerance = self.arithmetic.unit_roundoff**0.5 * float(expected.abs().max() + 1e-12)
        return torch.allclose(found, expected, rtol=0, atol=tolerance)

    def _try_reduced_products(self) -> None:
        """Keep them if they leave rows alone in every shape; else compute in full.

        Decided here, from made-up records: the shape of a pass depends on a batch, which is secret.
        """
        step, largest = self.arithmetic.row_multiple, self.arithmetic.chunk_rows
        shapes = range(step, largest + self.arithmetic.spare_rows + 1, step)
        try:
            with single_threaded(), self.holding(admission.made_up_weights(self).numpy()):
                for rows in shapes:
                    self._check_rows(rows)
        except InputError:
            self.arithmetic = self.arithmetic.in_full
            self._checked.clear()

    def check_outputs(self, rows: int) -> None:
        """Return if equal records give equal outputs wherever they stand among `rows`.

        Raises:
            InputError: on this processor they do not.
        """
        if rows in self._checked_outputs:
            return
        record, _ = admission.made_up_records(self, 1)
        with self.holding(admission.made_up_weights(self).numpy()):
            found = self.outputs(record.expand(rows, *record.shape[1:]).contiguous())
        if not torch.equal(found, found[:1].expand_as(found)):
            raise InputError(
                f"this processor's arithmetic in {self.arithmetic.dtype} depends on a row's place "
                f"among {rows} rows, so one record could change how another is counted"
            )
        self._checked_outputs.add(rows)

    def _check_rows(self, rows: int) -> None:
        """Equal rows must give equal bits, at every place of every shape that is used."""
        if rows in self._checked:
            return
        # Weights of zero would agree whatever the order of adding.
        self._load(admission.made_up_weights(self))
        reference, tried = self._rows_alike(self.arithmetic.chunk_rows), self._rows_alike(rows)
        self._load(self._held)
        for kept, wanted in zip(tried, reference, strict=True):
            if not torch.equal(kept, wanted[:1].expand_as(kept)):
                raise InputError(
                    f"this processor's arithmetic in {self.arithmetic.dtype} depends on a row's "
                    f"place among {rows} rows, so the clipping norm would not hold"
                )
        self._checked.add(rows)

    def _rows_alike(self, rows: int) -> list[Tensor]:
        """All that a pass keeps of the same made-up record, again and again."""
        record, label = admission.made_up_records(self, 1)
        copies = record.expand(rows, *record.shape[1:]).contiguous()
        return self._kept(copies, label.expand(rows, *label.shape[1:]).contiguous())

    def _kept(self, features: Tensor, labels: Tensor) -> list[Tensor]:
        """All that a pass keeps, forms and norms, a record a row."""
        uses = self.uses(features, labels)
        kept = [values for layer in uses for use in layer for values in (use.inputs, use.gradients)]
        for layer, of_layer in zip(self.layers, uses, strict=True):
            for part in contributions(layer, of_layer) if of_layer else []:
                kept.append(part.squared_norms(self.arithmetic))
                if isinstance(part, Instantiated):
                    kept.append(part.gradients)
        return kept


def _spans(module: nn.Module) -> dict[int, Span]:
    """Where each parameter lies in the flat vector, by identity."""
    spans, start = {}, 0
    for parameter in module.parameters():
        spans[id(parameter)] = Span(start, start + parameter.numel())
        start += parameter.numel()
    return spans


def _form(module: nn.Module, layers: list[Layer], example: Tensor) -> Form:
    """What kind of network this is; decides how many records go through it together."""
    if any(isinstance(child, UnrolledRecurrent) for child in module.modules()):
        return "recurrent"
    if any(isinstance(child, PositionLinear) for child in module.modules()):
        return "cells"
    is_flat = example.dim() == 2  # noqa: PLR2004 ([records, features])
    is_dense = is_flat and all(isinstance(layer.module, nn.Linear) for layer in layers)
    return "dense" if is_dense else "other"


def _layers(module: nn.Module, spans: dict[int, Span]) -> list[Layer]:
    layers = []
    owners: dict[int, str] = {}
    for name, child in module.named_modules():
        own = {n: spans[id(p)] for n, p in child.named_parameters(recurse=False)}
        for parameter in child.parameters(recurse=False):
            first = owners.setdefault(id(parameter), name)
            if first != name:
                raise InputError(
                    f"layers {first} and {name} share a parameter; use one layer twice instead"
                )
        if own:
            layers.append(Layer(name, child, own))
    return layers


def _padded(values: Tensor, rows: int) -> Tensor:
    padding = rows - values.shape[0]
    return torch.cat([values, values.new_zeros(padding, *values.shape[1:])]) if padding else values
