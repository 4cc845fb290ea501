"""A PyTorch module as data: bring your own model, push no code.

The module is run symbolically by torch.fx in this process, on a made-up input; what comes out is a
`graph` spec of allow-listed operations that sites rebuild. Nothing of the module's code, and no
pickle, travels. What must stay true: a spec is given only if the module rebuilt from it, with the
same weights, gave the same outputs and the same gradients; whatever could not be translated exactly
is refused by name.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from sordino.tracing_graph import Translation, observe, symbolic_trace
from sordino.tracing_layers import advice, is_refused
from sordino_protocols.errors import InputError
from sordino_protocols.graph import GraphSpec
from sordino_protocols.models import FloatVector, architecture_of
from sordino_protocols.networks import build, load_flat

_TOLERANCE = 1e-3
_BATCHES = (2, 3)


@dataclass(frozen=True, slots=True)
class TracedModel:
    """A module as a job can name it.

    Attributes:
        spec: the `[model]` of a job.
        weights: the module's own, flat, in the spec's order.
        parameter_names: the module's names of the tensors that make up `weights`.
    """

    spec: GraphSpec
    weights: FloatVector
    parameter_names: tuple[str, ...]


def trace(module: nn.Module, example_input: Tensor) -> TracedModel:
    """Translate a module; it is left as it was.

    Args:
        module: takes a batch [batch, ...] and gives [batch, outputs] or [batch]. A site hands over
            each record as [batch, features]; the spec begins by giving it the example's shape.
        example_input: [batch, ...], made up, never records. Of floats only the shape counts; whole
            numbers (tokens, int64) must be such that the module takes them.

    Raises:
        InputError: a layer or an operation is not allowed, or the forward pass depends on values.
            The text says which one, where it stands, and what to use instead.
    """
    _check_modules(module)
    own = copy.deepcopy(module)
    for parameter in own.parameters():
        parameter.requires_grad_()
    batches = [_batch(example_input, size) for size in _BATCHES]
    _refuse_custom_gradients(_run(own, batches[-1]))
    graph_module = symbolic_trace(own)
    observed = [observe(graph_module, batch) for batch in batches]
    translation = Translation(own, observed, _BATCHES)
    translation.run(graph_module.graph)
    _check_every_parameter_used(own, translation.parameter_names)
    return _verified(own, translation, batches[-1])


def spec_from_module(module: nn.Module, example_input: Tensor) -> GraphSpec:
    """The spec of a module; see `trace`.

    Raises:
        InputError: as `trace`.
    """
    return trace(module, example_input).spec


def weights_from_module(module: nn.Module, example_input: Tensor) -> FloatVector:
    """The flat vector of a module's own weights, in the order of its spec; see `trace`.

    Raises:
        InputError: as `trace`.
    """
    return trace(module, example_input).weights


def load_weights(module: nn.Module, traced: TracedModel, weights: FloatVector) -> None:
    """Put a trained flat vector back into the module that was traced.

    Args:
        module: the module, or another of the same class and sizes.
        traced: what `trace` gave for it.
        weights: in the order of `traced.spec`, without lanes.

    Raises:
        ValueError: the vector's length is not the number of the module's parameters.
    """
    parameters = dict(module.named_parameters())
    ordered = nn.ParameterList([parameters[name] for name in traced.parameter_names])
    load_flat(ordered, weights)


def _check_modules(module: nn.Module) -> None:
    """Refuse what is wrong wherever it is used."""
    if next(module.children(), None) is None and type(module).__module__.startswith("torch.nn"):
        raise InputError("the module is a single layer; wrap it: nn.Sequential(layer)")
    for name, each in module.named_modules():
        if is_refused(each):
            kind = type(each).__name__
            raise InputError(f"{name or 'the module'}: nn.{kind} is not allowed: {advice(kind)}")
        if nn.utils.parametrize.is_parametrized(each):
            raise InputError(f"{name or 'the module'}: has parametrized weights; remove them")
    for name, _ in module.named_buffers():
        raise InputError(f"{name}: a buffer is not allowed: only layers may hold numbers")
    first_names: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        first = first_names.setdefault(id(parameter), name)
        if first != name:
            raise InputError(f"{name}: shares its weights with {first}; give it its own")
        if not parameter.requires_grad:
            raise InputError(f"{name}: is frozen; a site would train it: remove it from the model")


def _check_every_parameter_used(module: nn.Module, used: Sequence[str]) -> None:
    for name, _ in module.named_parameters():
        if name not in used:
            raise InputError(f"{name}: does not reach the output; remove it")


def _batch(example: Tensor, size: int) -> Tensor:
    """`size` records like the example's, no two alike where they are floats."""
    if example.ndim < 2:  # noqa: PLR2004
        raise InputError(f"example_input has shape {list(example.shape)}; expected [batch, ...]")
    if not example.is_floating_point():
        return example[[index % len(example) for index in range(size)]]
    public = torch.Generator().manual_seed(0)
    return torch.randn(size, *example.shape[1:], dtype=example.dtype, generator=public)


def _run(module: nn.Module, batch: Tensor) -> Tensor:
    """An ordinary pass, with a gradient at the input where there can be one."""
    entering = batch.clone()
    if entering.is_floating_point():
        # Not a leaf: a module may work in place.
        entering = entering.requires_grad_() * 1
    try:
        output: object = module(entering)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"the module does not run on {len(batch)} records: {error}") from None
    if not _is_tensor(output):
        raise InputError(f"the module gives a {type(output).__name__}; expected one tensor")
    return output


def _refuse_custom_gradients(output: Tensor) -> None:
    """A custom autograd function would lose its own gradient without a word."""
    pending, seen = [output.grad_fn], set()
    while pending:
        step = pending.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if isinstance(step, torch.autograd.function.BackwardCFunction):
            name = type(step).__name__.removesuffix("Backward")
            raise InputError(f"{name}: a custom autograd function is not allowed: use torch's own")
        pending += [previous for previous, _ in step.next_functions]


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor)


def _verified(module: nn.Module, translation: Translation, batch: Tensor) -> TracedModel:
    """The spec, if it computes what the module computes.

    Raises:
        InputError: it does not, or it passes a bound.
    """
    expected = _run(module, batch).reshape(len(batch), -1)
    spec = GraphSpec(kind="graph", nodes=tuple(translation.nodes), outputs=expected.shape[1])
    architecture_of(spec, batch[0].numel())
    named = dict(module.named_parameters())
    ordered = [named[name] for name in translation.parameter_names]
    weights = np.concatenate([p.detach().double().reshape(-1).numpy() for p in ordered])
    rebuilt = build(spec, batch[0].numel())
    load_flat(rebuilt, weights)
    actual = _run(rebuilt, batch.reshape(len(batch), -1).double())
    same_gradients = _agree(
        _gradient(actual, list(rebuilt.parameters())), _gradient(expected, ordered)
    )
    if not (_agree(actual, expected) and same_gradients):
        raise InputError(
            "the module rebuilt from the spec gives other outputs or gradients: something in it (a"
            " hook, no_grad, an in-place change) is not translated; write it without"
        )
    return TracedModel(spec, weights, tuple(translation.parameter_names))


def _gradient(output: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """The flat gradient of a fixed weighted sum of the outputs."""
    total = (output * torch.linspace(0.5, 1.5, output.numel()).reshape(output.shape)).sum()
    if not total.requires_grad:
        return torch.zeros(0)
    gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def _agree(actual: Tensor, expected: Tensor) -> bool:
    """Equal up to single precision's rounding."""
    if actual.shape != expected.shape:
        return False
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    difference = (actual.double() - expected.double()).abs()
    return bool(torch.all(difference <= _TOLERANCE * (largest + _TOLERANCE)))
