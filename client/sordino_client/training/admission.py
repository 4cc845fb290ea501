"""Which modules may be trained: parameters have per-unit gradients, and no record meets another.

Types are refused by name, with what to use instead. What a type does not tell is tried on made-up
records: a changed record must leave the others' gradients alone, and the
contributions must add up to what plain back-propagation gives, so that no use of a parameter
outside its layer goes unseen. Nothing here reads a record.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sordino_client.training.contributions import Scales
from sordino_client.training.layers import Layer, opacus_sampler
from sordino_protocols.errors import InputError

if TYPE_CHECKING:
    from sordino_client.training.network import Network

ForwardHook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]

_PROBES = 3
_REPLACEMENTS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.modules.batchnorm._NormBase, "it mixes records; use nn.GroupNorm"),  # noqa: SLF001
    (nn.modules.dropout._DropoutNd, "leave it out: the noise regularises"),  # noqa: SLF001
    (nn.MultiheadAttention, "build it from nn.Linear and scaled_dot_product_attention"),
    (nn.RNN, "use nn.GRU or nn.LSTM"),
)


def check_layers(module: nn.Module) -> None:
    """Refuse what can be told from the types of the layers.

    Raises:
        InputError: names the layer and what to use instead.
    """
    if not any(True for _ in module.parameters()):
        raise InputError("the model has no parameters to train")
    for name, child in module.named_modules():
        for kind, replacement in _REPLACEMENTS:
            if isinstance(child, kind):
                raise InputError(f"layer {name} ({type(child).__name__}): {replacement}")
        owned = [n for n, _ in child.named_parameters(recurse=False)]
        if owned and not _has_gradients(child):
            raise InputError(
                f"layer {name or '(the model itself)'} ({type(child).__name__}): no per-unit "
                f"gradients for its parameters {', '.join(owned)}; build it from nn.Linear, "
                f"nn.Conv1d, nn.Conv2d, nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.LSTM, nn.GRU"
            )
        _check_options(name, child)


def prepare(module: nn.Module) -> None:
    """Make a private copy safe to trace: nothing in place, no index outside a table."""
    for child in module.modules():
        if isinstance(getattr(child, "inplace", None), bool):
            child.inplace = False  # type: ignore[assignment]
        if isinstance(child, nn.Embedding):
            child.register_forward_pre_hook(_known_indices)
        if not _has_rule(child):
            # Opacus forms gradients of what requires them, and of nothing else.
            for parameter in child.parameters(recurse=False):
                parameter.requires_grad_()


def check_network(network: "Network") -> None:
    """Refuse what only shows when the model runs, on made-up records and weights.

    Raises:
        InputError: records influence each other, or a parameter is used outside its layer.
    """
    weights = made_up_weights(network)
    records, labels = made_up_records(network, _PROBES)
    others, _ = made_up_records(network, _PROBES, seed=1)
    changed = records.clone()
    changed[1] = others[1]
    with network.holding(weights.numpy()):
        try:
            first = _gradients(network, records, labels)
            second = _gradients(network, changed, labels)
            whole = network.plain_gradient(records, labels)
        except RuntimeError as error:
            raise InputError(f"the model cannot run on made-up records: {error}") from error
    tolerance = network.arithmetic.unit_roundoff**0.5 * float(whole.abs().max() + 1e-12)
    if not torch.allclose(first[[0, 2]], second[[0, 2]], rtol=0, atol=tolerance):
        raise InputError("the model mixes records: one record's gradient depends on another's")
    wrong = (first.sum(dim=0) - whole).abs() > tolerance
    for layer in network.layers:
        for name, span in layer.spans.items():
            if bool(span.of(wrong).any()):
                raise InputError(
                    f"layer {layer.name}: {name} is used outside of its layer; call the layer"
                )


def made_up_weights(network: "Network") -> Tensor:
    """Public parameters, none of them zero."""
    return 0.1 * torch.randn(network.dimension, generator=_generator(), dtype=torch.float64)


def made_up_records(network: "Network", count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`count` public records like the network's example, and labels 0."""
    example, generator = network.example, _generator(seed)
    shape = (count, *example.shape[1:])
    labels = torch.zeros(count)
    if example.is_floating_point():
        return torch.randn(shape, generator=generator), labels
    tables = [
        layer.module.num_embeddings
        for layer in network.layers
        if isinstance(layer.module, nn.Embedding)
    ]
    return torch.randint(0, min(tables, default=2), shape, generator=generator), labels


def _gradients(network: "Network", records: Tensor, labels: Tensor) -> Tensor:
    """Each record's gradient as the contributions have it, [records, parameters]."""
    contributions = network.unchecked(records, labels)
    gradients = torch.zeros(len(labels), network.dimension, dtype=torch.float64)
    for row, total in enumerate(gradients):
        factors = torch.zeros(len(labels), dtype=torch.float64)
        factors[row] = 1
        for contribution in contributions:
            contribution.add_to(total, Scales(factors, None), network.arithmetic)
    return gradients


def _generator(seed: int = 0) -> torch.Generator:
    """Public numbers, for made-up records and weights only."""
    return torch.Generator().manual_seed(seed)


def _known_indices(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """An index outside the table becomes 0: an error would tell of a record."""
    assert isinstance(module, nn.Embedding)  # noqa: S101 (for the type checker)
    indices = inputs[0]
    known = (indices >= 0) & (indices < module.num_embeddings)
    return (torch.where(known, indices, 0).long(),)


def _has_rule(module: nn.Module) -> bool:
    return Layer("", module, {}).has_rule


def _has_gradients(module: nn.Module) -> bool:
    if isinstance(module, nn.LSTM | nn.GRU) or _has_rule(module):
        return True
    return opacus_sampler(module) is not None


def _check_options(name: str, module: nn.Module) -> None:
    if isinstance(module, nn.Embedding) and (
        module.max_norm is not None or module.scale_grad_by_freq or module.sparse
    ):
        raise InputError(
            f"layer {name}: max_norm, scale_grad_by_freq and sparse are not supported; "
            f"they change the table or mix records"
        )
