"""One layer of PyTorch as operations of a model spec, or the reason why it has none.

What is listed here is translated exactly; an option that the specs do not know is refused, never
dropped. The caller says where the layer stands.
"""

from torch import nn

from sordino_protocols.errors import InputError
from sordino_protocols.operations import (
    Activation,
    ActivationName,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
    Pooling,
    Reshape,
    Softmax,
    Weightless,
)
from sordino_protocols.shapes import Shape
from sordino_protocols.weighted import (
    Conv1d,
    Conv2d,
    Embedding,
    GroupNorm,
    Gru,
    LayerNorm,
    Linear,
    Lstm,
    Weighted,
)

_ATTENTION = (
    "write it with nn.Linear layers and functional.scaled_dot_product_attention,"
    ' or use kind = "transformer"'
)
_ADVICE: tuple[tuple[str, str], ...] = (
    ("BatchNorm", "it mixes the records of a batch; use nn.GroupNorm"),
    ("InstanceNorm", "use nn.GroupNorm with as many groups as channels"),
    ("LocalResponseNorm", "use nn.GroupNorm"),
    ("RMSNorm", "use nn.LayerNorm"),
    ("Dropout", "its masks are random; remove it: the noise of DP-SGD regularises already"),
    ("MultiheadAttention", _ATTENTION),
    ("Transformer", _ATTENTION),
    ("RNN", "use nn.LSTM or nn.GRU"),
    ("Cell", "use nn.LSTM or nn.GRU over the whole sequence"),
    ("EmbeddingBag", "use nn.Embedding and a mean over the sequence"),
    ("PReLU", "use nn.ReLU or nn.ELU"),
    ("AdaptiveAvgPool", "only nn.AdaptiveAvgPool1d(1) and nn.AdaptiveAvgPool2d(1) are allowed"),
    ("ConvTranspose", "use nn.Conv2d"),
    ("Conv3d", "use nn.Conv2d"),
    ("Lazy", "name the sizes"),
)
_ALLOWED = (
    "nn.Linear, Conv1d, Conv2d, Embedding, LayerNorm, GroupNorm, LSTM, GRU, MaxPool, AvgPool, Tanh,"
    " Sigmoid, ReLU, GELU, SiLU, ELU, Softmax, Flatten, Unflatten and Identity"
)


def advice(name: str) -> str:
    """What to use in place of a layer that is not allowed."""
    for part, instead in _ADVICE:
        if part in name:
            return instead
    return f"allowed are {_ALLOWED}"


def is_refused(module: nn.Module) -> bool:
    """Whether a layer of torch is known to have no place in a model, whatever its options."""
    is_torchs = type(module).__module__.startswith("torch.nn")
    name = type(module).__name__
    is_identity = isinstance(module, nn.Dropout) and module.p == 0
    return (
        is_torchs
        and not is_identity
        and any(part in name for part, _ in _ADVICE if part != "AdaptiveAvgPool")
    )


def layer_operations(
    module: nn.Module, arrived: Shape, shape: Shape
) -> tuple[Weighted | Weightless, ...]:
    """A layer as operations, one after the other; none for a layer that does nothing.

    Args:
        module: a layer of torch.
        arrived: the shape of one record that enters.
        shape: the shape of one record that leaves.

    Raises:
        InputError: the layer or one of its options is not on the allow-list.
    """
    match module:
        case nn.Identity() | nn.Dropout(p=0):
            return ()
        case nn.Flatten() | nn.Unflatten():
            return (Reshape(kind="reshape", shape=shape),)
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveAvgPool2d() if set(shape[1:]) == {1}:
            return (GlobalAvgPool(kind="global_avg_pool"), Reshape(kind="reshape", shape=shape))
        case nn.Softmax():
            return (Softmax(kind="softmax", axis=record_axis(module.dim, len(arrived))),)
        case nn.MaxPool1d() | nn.MaxPool2d() | nn.AvgPool1d() | nn.AvgPool2d():
            return (_pooling(module),)
        case nn.Tanh() | nn.Sigmoid() | nn.ReLU() | nn.GELU() | nn.SiLU() | nn.ELU():
            return (_activation(module),)
        case _:
            return (_weighted(module),)


def record_axis(axis: object, rank: int) -> int:
    """An axis of a batch as an axis of one record.

    Args:
        axis: as torch counts, the batch first; negative from the end.
        rank: number of axes of one record.

    Raises:
        InputError: it is the batch axis, or no axis.
    """
    if not isinstance(axis, int) or not -rank - 1 <= axis <= rank:
        raise InputError(f"axis {axis} is none of a batch of records with {rank} axes")
    if axis % (rank + 1) == 0:
        raise InputError("works along the batch axis, which mixes records")
    return axis % (rank + 1) - 1


def recurrent_operation(module: nn.LSTM | nn.GRU) -> Lstm | Gru:
    """A recurrent layer that gives the whole sequence.

    Raises:
        InputError: an option is not on the allow-list.
    """
    _require_option(module.batch_first, "batch_first = True")
    _require_option(module.bias, "bias = True")
    _require_option(not module.bidirectional, "bidirectional = False")
    _require_option(module.dropout == 0, "dropout = 0")
    _require_option(module.proj_size == 0, "proj_size = 0")
    hidden, layers = module.hidden_size, module.num_layers
    if isinstance(module, nn.LSTM):
        return Lstm(kind="lstm", hidden=hidden, layers=layers, output="sequence")
    return Gru(kind="gru", hidden=hidden, layers=layers, output="sequence")


def _weighted(module: nn.Module) -> Weighted:
    match module:
        case nn.Linear():
            has_bias = module.bias is not None
            return Linear(kind="linear", outputs=module.out_features, bias=has_bias)
        case nn.Embedding():
            _require_option(module.padding_idx is None, "padding_idx = None")
            _require_option(module.max_norm is None, "max_norm = None")
            _require_option(not module.scale_grad_by_freq, "scale_grad_by_freq = False")
            vocabulary, width = module.num_embeddings, module.embedding_dim
            return Embedding(kind="embedding", vocabulary=vocabulary, width=width)
        case nn.LayerNorm():
            affine = module.elementwise_affine
            _require_option(not affine or module.bias is not None, "bias = True")
            axes = len(module.normalized_shape)
            return LayerNorm(kind="layer_norm", axes=axes, epsilon=module.eps, affine=affine)
        case nn.GroupNorm():
            groups = module.num_groups
            return GroupNorm(
                kind="group_norm", groups=groups, epsilon=module.eps, affine=module.affine
            )
        case nn.Conv1d() | nn.Conv2d():
            return _convolution(module)
        case _:
            name = type(module).__name__
            raise InputError(f"nn.{name} is not allowed: {advice(name)}")


def _convolution(module: nn.Conv1d | nn.Conv2d) -> Conv1d | Conv2d:
    _require_option(module.padding_mode == "zeros", 'padding_mode = "zeros"')
    _require_option(set(module.dilation) == {1}, "dilation = 1")
    padding = _padding(module)
    if isinstance(module, nn.Conv1d):
        return Conv1d(
            kind="conv1d",
            channels=module.out_channels,
            kernel=module.kernel_size[0],
            stride=module.stride[0],
            padding=padding[0],
            groups=module.groups,
            bias=module.bias is not None,
        )
    return Conv2d(
        kind="conv2d",
        channels=module.out_channels,
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_pair(padding),
        groups=module.groups,
        bias=module.bias is not None,
    )


def _padding(module: nn.Conv1d | nn.Conv2d) -> tuple[int, ...]:
    if module.padding == "valid":
        return tuple(0 for _ in module.kernel_size)
    if module.padding == "same":
        is_even = any(width % 2 == 0 for width in module.kernel_size)
        _require_option(not is_even, 'an odd kernel_size where padding = "same"')
        return tuple(width // 2 for width in module.kernel_size)
    return tuple(int(border) for border in module.padding)


def _pooling(module: nn.MaxPool1d | nn.MaxPool2d | nn.AvgPool1d | nn.AvgPool2d) -> Pooling:
    _require_option(not module.ceil_mode, "ceil_mode = False")
    match module:
        case nn.MaxPool1d() | nn.MaxPool2d():
            _require_option(not module.return_indices, "return_indices = False")
            _require_option(_pair(module.dilation) == (1, 1), "dilation = 1")
        case _:
            _require_option(module.count_include_pad, "count_include_pad = True")
    kernel, stride, padding = map(_pair, (module.kernel_size, module.stride, module.padding))
    match module:
        case nn.MaxPool1d():
            return MaxPool1d(
                kind="max_pool1d", kernel=kernel[0], stride=stride[0], padding=padding[0]
            )
        case nn.AvgPool1d():
            return AvgPool1d(
                kind="avg_pool1d", kernel=kernel[0], stride=stride[0], padding=padding[0]
            )
        case nn.MaxPool2d():
            return MaxPool2d(kind="max_pool2d", kernel=kernel, stride=stride, padding=padding)
        case _:
            _require_option(module.divisor_override is None, "divisor_override = None")
            return AvgPool2d(kind="avg_pool2d", kernel=kernel, stride=stride, padding=padding)


def _activation(module: nn.Module) -> Activation:
    function: ActivationName
    match module:
        case nn.Tanh():
            function = "tanh"
        case nn.Sigmoid():
            function = "sigmoid"
        case nn.ReLU():
            function = "relu"
        case nn.GELU():
            function = "gelu" if module.approximate == "none" else "gelu_tanh"
        case nn.SiLU():
            function = "silu"
        case _:
            _require_option(getattr(module, "alpha", None) == 1.0, "alpha = 1")
            function = "elu"
    return Activation(kind="activation", function=function)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """A number twice; of a tuple the first and the last."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _require_option(is_met: bool, option: str) -> None:  # noqa: FBT001 (reads as a sentence)
    if not is_met:
        raise InputError(f"only {option} is allowed")
