"""A call inside a `forward` as operations of a model spec: torch's functions, methods, operators.

Shapes come from two observed passes with batches of different sizes, so that `x.view(x.size(0),
-1)` and its many relatives all read as what they do to one record. A call that moves the batch axis
shows in those shapes, and is refused.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from sordino.tracing_layers import layer_operations, record_axis
from sordino_protocols.architecture import AnyOperation
from sordino_protocols.errors import InputError
from sordino_protocols.operations import (
    Add,
    Concatenate,
    Matmul,
    Mean,
    Multiply,
    Permute,
    Reshape,
    Scale,
    Select,
    Slice,
    Softmax,
)
from sordino_protocols.shapes import Shape


@dataclass(frozen=True, slots=True)
class Traced:
    """A value of the module being traced: the name of the node that makes it, and its shape."""

    name: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Call:
    """A call with its arguments as the two passes saw them.

    Attributes:
        arguments: `Traced` for values of records, constants as they are, in lists and tuples too.
        options: keyword arguments.
        shape: of one record of the result.
    """

    arguments: tuple[object, ...]
    options: Mapping[str, object]
    shape: Shape

    def option(self, index: int, name: str, default: object = None) -> object:
        """An argument by its place or its name."""
        if index < len(self.arguments):
            return self.arguments[index]
        return self.options.get(name, default)


Emit = Callable[..., Traced]
"""Appends a node: `emit(operation, *values)`; gives its value."""

_SHAPING = frozenset(
    {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"}
)
_KEEPING = frozenset({"contiguous", "float", "double", "long", "int", "to"})
_ARITHMETIC = frozenset({"add", "sub", "mul", "div", "neg", "matmul"})
_AXES = frozenset({"transpose", "permute", "mean", "sum", "cat", "getitem", "select"})

_FUNCTIONS: dict[object, str] = {
    operator.add: "add",
    operator.iadd: "add",
    operator.sub: "sub",
    operator.isub: "sub",
    operator.mul: "mul",
    operator.imul: "mul",
    operator.truediv: "div",
    operator.neg: "neg",
    operator.matmul: "matmul",
    operator.getitem: "getitem",
    torch.add: "add",
    torch.sub: "sub",
    torch.mul: "mul",
    torch.div: "div",
    torch.neg: "neg",
    torch.matmul: "matmul",
    torch.bmm: "matmul",
    torch.flatten: "flatten",
    torch.reshape: "reshape",
    torch.squeeze: "squeeze",
    torch.unsqueeze: "unsqueeze",
    torch.transpose: "transpose",
    torch.permute: "permute",
    torch.mean: "mean",
    torch.sum: "sum",
    torch.cat: "cat",
    torch.concat: "cat",
    torch.select: "select",
    functional.scaled_dot_product_attention: "attention",
}
_METHODS = {"bmm": "matmul", "swapaxes": "transpose"}
_LAYERS: dict[object, type[nn.Module]] = {
    torch.relu: nn.ReLU,
    functional.relu: nn.ReLU,
    "relu": nn.ReLU,
    torch.tanh: nn.Tanh,
    functional.tanh: nn.Tanh,
    "tanh": nn.Tanh,
    torch.sigmoid: nn.Sigmoid,
    functional.sigmoid: nn.Sigmoid,
    "sigmoid": nn.Sigmoid,
    functional.gelu: nn.GELU,
    functional.silu: nn.SiLU,
    functional.elu: nn.ELU,
    torch.softmax: nn.Softmax,
    functional.softmax: nn.Softmax,
    "softmax": nn.Softmax,
    functional.max_pool1d: nn.MaxPool1d,
    functional.max_pool2d: nn.MaxPool2d,
    functional.avg_pool1d: nn.AvgPool1d,
    functional.avg_pool2d: nn.AvgPool2d,
    functional.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}
_ADVICE = {
    "dropout": "its masks are random; remove it: the noise of DP-SGD regularises already",
    "batch_norm": "it mixes the records of a batch; use nn.GroupNorm",
    "instance_norm": "use nn.GroupNorm with as many groups as channels",
    "linear": "use nn.Linear",
    "conv2d": "use nn.Conv2d",
    "embedding": "use nn.Embedding",
    "layer_norm": "use nn.LayerNorm",
    "detach": "it hides a part of the gradient; freeze nothing, or train that part elsewhere",
    "chunk": "use one nn.Linear for each part",
    "split": "use one nn.Linear for each part",
    "einsum": "use permute and matmul",
}


def is_sum(target: object) -> bool:
    """Whether a call adds two values."""
    return target == "add" or (not isinstance(target, str) and _FUNCTIONS.get(target) == "add")


def translate(target: object, call: Call, emit: Emit) -> Traced:
    """Append the operations of one call; returns the value that they make.

    Args:
        target: the function, or the name of the method.
        call: its arguments and result.
        emit: appends a node.

    Raises:
        InputError: the function, or this use of it, is not on the allow-list.
    """
    if target in _LAYERS:
        return _as_layer(_LAYERS[target], call, emit)
    name = _METHODS.get(target, target) if isinstance(target, str) else _FUNCTIONS.get(target)
    if name in _SHAPING:
        return emit(Reshape(kind="reshape", shape=call.shape or (1,)), _value(call, 0))
    if name in _KEEPING:
        return _value(call, 0)
    if name in _ARITHMETIC:
        return _arithmetic(str(name), call, emit)
    if name in _AXES:
        return _along_axes(str(name), call, emit)
    if name == "attention":
        return _attention(call, emit)
    spelled = str(target if isinstance(target, str) else getattr(target, "__name__", target))
    instead = _ADVICE.get(spelled, "use layers and functions that docs/models.md lists")
    raise InputError(f"{spelled} is not allowed: {instead}")


def _as_layer(kind: type[nn.Module], call: Call, emit: Emit) -> Traced:
    """A function with a layer of the same arguments."""
    value = _value(call, 0)
    options = {
        key: option
        for key, option in call.options.items()
        if key not in {"input", "training", "_stacklevel"} and option is not None
    }
    module = kind(*call.arguments[1:], **options)
    for operation in layer_operations(module, value.shape, call.shape):
        value = emit(operation, value)
    return value


def _arithmetic(name: str, call: Call, emit: Emit) -> Traced:
    first, second = call.option(0, "input"), call.option(1, "other", -1.0)
    if call.options.get("alpha", 1) != 1 or call.options.get("rounding_mode") is not None:
        raise InputError(f"{name} with alpha or rounding_mode is not allowed")
    if name == "sub" and isinstance(second, Traced):
        second = emit(Scale(kind="scale", factor=-1.0), second)
    if isinstance(first, Traced) and isinstance(second, Traced):
        operations: dict[str, AnyOperation] = {
            "add": Add(kind="add"),
            "sub": Add(kind="add"),
            "mul": Multiply(kind="multiply"),
            "matmul": Matmul(kind="matmul"),
        }
        if name not in operations:
            raise InputError(f"{name} of two values is not allowed: divide by a constant only")
        return emit(operations[name], first, second)
    value, constant = (first, second) if isinstance(first, Traced) else (second, first)
    if name not in {"mul", "div", "neg"} or (name == "div" and value is second):
        raise InputError(f"{name} with a constant is not allowed: a layer's bias can do it")
    if not isinstance(value, Traced) or not isinstance(constant, int | float) or constant == 0:
        raise InputError(f"{name} needs a value and a constant number that is not 0")
    factor = 1 / constant if name == "div" else float(constant)
    return emit(Scale(kind="scale", factor=factor), value)


def _along_axes(name: str, call: Call, emit: Emit) -> Traced:
    match name:
        case "cat":
            return _concatenate(call, emit)
        case "getitem":
            return _select(_value(call, 0), call.arguments[1], emit)
        case "select":
            return _select_axis(call, emit)
        case "mean" | "sum":
            return _mean(name, call, emit)
        case _:
            value = _value(call, 0)
            order = _order(name, call, len(value.shape))
            return emit(Permute(kind="permute", order=order), value)


def _order(name: str, call: Call, rank: int) -> tuple[int, ...]:
    if name == "permute":
        given = call.arguments[1:] or (call.options.get("dims"),)
        axes = given[0] if isinstance(given[0], list | tuple) else given
        if not axes or axes[0] != 0:
            raise InputError("permute must leave the batch axis first")
        return tuple(record_axis(axis, rank) for axis in axes[1:])
    swapped = (call.option(1, "dim0"), call.option(2, "dim1"))
    first, second = (record_axis(axis, rank) for axis in swapped)
    order = list(range(rank))
    order[first], order[second] = second, first
    return tuple(order)


def _mean(name: str, call: Call, emit: Emit) -> Traced:
    value = _value(call, 0)
    given = call.option(1, "dim")
    if given is None:
        raise InputError(f"{name} without an axis mixes records: name the axis")
    listed = given if isinstance(given, list | tuple) else (given,)
    axes = tuple(sorted(record_axis(axis, len(value.shape)) for axis in listed))
    size = math.prod(value.shape[axis] for axis in axes)
    if len(axes) == len(value.shape):
        value = emit(Reshape(kind="reshape", shape=(1, math.prod(value.shape))), value)
        axes = (1,)
    value = emit(Mean(kind="mean", axes=axes), value)
    if name == "sum":
        value = emit(Scale(kind="scale", factor=float(size)), value)
    if value.shape != call.shape and call.shape:
        value = emit(Reshape(kind="reshape", shape=call.shape), value)
    return value


def _concatenate(call: Call, emit: Emit) -> Traced:
    values = call.option(0, "tensors")
    parts = [v for v in values if isinstance(v, Traced)] if isinstance(values, list | tuple) else []
    if not isinstance(values, list | tuple) or len(parts) != len(values) or not parts:
        raise InputError("cat needs a list of values of the same records")
    axis = record_axis(call.option(1, "dim", 0), len(parts[0].shape))
    return emit(Concatenate(kind="concatenate", axis=axis), *parts)


def _select(value: Traced, index: object, emit: Emit) -> Traced:
    """`x[:, 3]`, `x[:, 2:5]` and their like; the batch whole."""
    places = index if isinstance(index, tuple) else (index,)
    whole = slice(None)
    if places[0] != whole:
        raise InputError("an index must leave the batch axis whole: x[:, ...]")
    axis = 0
    for place in places[1:]:
        if isinstance(place, int):
            value = _select_place(value, axis, place, emit)
        elif place is None:
            widened = (*value.shape[:axis], 1, *value.shape[axis:])
            value, axis = emit(Reshape(kind="reshape", shape=widened), value), axis + 1
        elif isinstance(place, slice):
            value, axis = _slice(value, axis, place, emit), axis + 1
        else:
            raise InputError("an index may hold ':', None, whole numbers and a:b only")
    return value


def _slice(value: Traced, axis: int, place: slice, emit: Emit) -> Traced:
    ends = (place.start, place.stop, place.step)
    if not all(end is None or isinstance(end, int) for end in ends) or place.step not in (None, 1):
        raise InputError("an index a:b needs whole numbers, and no step")
    size = value.shape[axis] if axis < len(value.shape) else 0
    start, stop, _ = place.indices(size)
    if (start, stop) == (0, size):
        return value
    return emit(Slice(kind="slice", axis=axis, start=start, stop=stop), value)


def _select_axis(call: Call, emit: Emit) -> Traced:
    value = _value(call, 0)
    axis = record_axis(call.option(1, "dim"), len(value.shape))
    index = call.option(2, "index")
    if not isinstance(index, int):
        raise InputError("select needs a whole number")
    return _select_place(value, axis, index, emit)


def _select_place(value: Traced, axis: int, index: int, emit: Emit) -> Traced:
    if len(value.shape) == 1:
        # The last axis of a record: a model's one output stays [1].
        value = emit(Reshape(kind="reshape", shape=(1, *value.shape)), value)
        axis = 1
    return emit(Select(kind="select", axis=axis, index=index), value)


def _attention(call: Call, emit: Emit) -> Traced:
    """Softmax of scaled products (Vaswani et al. 2017, eq. 1), without a mask."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = [call.option(index, name) for index, name in enumerate(names)]
    query, key, value = given[:3]
    if any(given[3:]) or call.options.get("enable_gqa"):
        raise InputError("attention with a mask or dropout is not allowed")
    if not (isinstance(query, Traced) and isinstance(key, Traced) and isinstance(value, Traced)):
        raise InputError("attention needs queries, keys and values of the same records")
    scale = call.options.get("scale")
    if not isinstance(scale, float):
        scale = 1 / math.sqrt(query.shape[-1])
    rank = len(key.shape)
    order = (*range(rank - 2), rank - 1, rank - 2)
    products = emit(Matmul(kind="matmul"), query, emit(Permute(kind="permute", order=order), key))
    scores = emit(Scale(kind="scale", factor=scale), products)
    weights = emit(Softmax(kind="softmax", axis=rank - 1), scores)
    return emit(Matmul(kind="matmul"), weights, value)


def _value(call: Call, index: int) -> Traced:
    value = call.option(index, "input")
    if not isinstance(value, Traced):
        raise InputError("expects a value that the module computed from its input")
    return value
