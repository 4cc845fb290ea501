"""What a model is made of: its steps, shapes and weights, and which layers train slowly.

The engine has a rule for nearly every layer: norms and clipped sums come from what goes into a
layer and from the gradient at what comes out. A few go through Opacus' per-sample gradients
instead: the guarantee is the same, but each record's own gradient of that layer has to be formed.
"""

from collections.abc import Iterable, Mapping

from sordino_protocols.architecture import Architecture, Operation
from sordino_protocols.graph import GraphSpec
from sordino_protocols.layers import Attention, Layer, LayersSpec, Residual
from sordino_protocols.models import LogisticSpec, MlpSpec, ModelSpec
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.weighted import Convolution

_BYTES = 4


def rows(architecture: Architecture) -> list[Mapping[str, object]]:
    """One row a step: where it stands in the spec, what it gives for one record, its weights."""
    return [
        {
            "step": step.path,
            "operation": step.operation.kind,
            "gives": list(step.shape),
            "parameters": sum(parameter.size for parameter in step.parameters),
            "gradients": _gradients(step.operation) if step.parameters else "",
        }
        for step in architecture.steps
    ]


def slow_layers(spec: ModelSpec) -> tuple[str, ...]:
    """Paths of the layers that go through Opacus' per-sample gradients, without building any."""
    match spec:
        case LogisticSpec() | MlpSpec() | NadeModelSpec():
            return ()
        case LayersSpec():
            return tuple(_slow_among(spec.layers, "layers"))
        case GraphSpec():
            return tuple(
                f"nodes[{index}].{node.operation.kind} ({node.name})"
                for index, node in enumerate(spec.nodes)
                if is_slow(node.operation)
            )
        case _:
            return tuple(_slow_among(spec.expand(), "layers"))


def is_slow(operation: Operation | Attention) -> bool:
    """Whether a layer's gradients are formed record by record."""
    return isinstance(operation, Convolution) and operation.groups != 1


def slow_note(spec: ModelSpec) -> str | None:
    """What to tell somebody who is about to pay for this model; None if all layers are fast."""
    slow = slow_layers(spec)
    if not slow:
        return None
    return (
        f"{', '.join(slow)}: no rule of the engine's own, so Opacus' per-sample gradients are"
        " used: the same guarantee and price, slower and with more memory"
    )


def slow_bytes(architecture: Architecture) -> int:
    """Memory of the gradients that are formed for each record, in single precision."""
    return sum(
        _BYTES * parameter.size
        for step in architecture.steps
        if is_slow(step.operation)
        for parameter in step.parameters
    )


def _gradients(operation: Operation) -> str:
    return "per record (Opacus)" if is_slow(operation) else "by rule"


def _slow_among(layers: Iterable[Layer], path: str) -> Iterable[str]:
    for index, layer in enumerate(layers):
        here = f"{path}[{index}].{layer.kind}"
        if isinstance(layer, Residual):
            yield from _slow_among(layer.layers, f"{here}.layers")
            yield from _slow_among(layer.projection or (), f"{here}.projection")
        elif is_slow(layer):
            yield here
