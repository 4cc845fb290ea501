"""From a module's symbolic trace to the nodes of a spec.

Each layer and call is handed to the table that knows it; here is what connects them: which value is
which node, what a recurrent layer's states are, and what two observed passes say of every shape.
"""

import math
import re
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, fx, nn

from sordino.tracing_calls import Call, Traced, is_sum, translate
from sordino.tracing_layers import layer_operations, recurrent_operation
from sordino_protocols.architecture import AnyOperation
from sordino_protocols.errors import InputError
from sordino_protocols.graph import FEATURES, Node
from sordino_protocols.operations import Combination, Reshape, Select
from sordino_protocols.shapes import Shape
from sordino_protocols.weighted import PositionalEmbedding

_NODE_NAME = re.compile(r"^[a-z][a-z0-9_]{0,63}$")
_SOURCE = "sordino_source"
_TORCH = str(Path(torch.__file__).parent)


def symbolic_trace(module: nn.Module) -> fx.GraphModule:
    """The calls that a forward pass makes.

    Raises:
        InputError: which calls it makes depends on values.
    """
    try:
        graph = _Tracer().trace(module)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        # It ran on numbers, so it is the symbols that it cannot take: it looks at values.
        line = _user_line(traceback.extract_tb(error.__traceback__))
        raise InputError(
            f"{line or 'the forward pass'}: depends on the values or on the size of a batch"
            f" ({error}); use fixed layers, and no if, loop or numpy over what was computed"
        ) from None
    graph_module = fx.GraphModule(module, graph)
    graph_module.graph.eliminate_dead_code()
    return graph_module


def observe(module: fx.GraphModule, batch: Tensor) -> dict[fx.Node, object]:
    """What each node gives on a batch."""
    observer = _Observer(module)
    with torch.no_grad():
        observer.run(batch)
    return observer.results


@dataclass
class Translation:
    """The graph as far as it is translated.

    Attributes:
        module: what was traced.
        observed: what each node gave in two passes, on batches of different sizes.
        batch_sizes: of the two.
        nodes: of the spec, so far.
        parameter_names: of the tensors that the nodes own, in the order of the flat vector.
    """

    module: nn.Module
    observed: Sequence[dict[fx.Node, object]]
    batch_sizes: tuple[int, ...]
    nodes: list[Node] = field(default_factory=list)
    parameter_names: list[str] = field(default_factory=list)
    _values: dict[fx.Node, Traced] = field(default_factory=dict)
    # What a recurrent layer gives besides its sequence: the layer's node, and the indices taken.
    _states: dict[fx.Node, tuple[fx.Node, tuple[object, ...]]] = field(default_factory=dict)
    # Embeddings of positions, by the node that looks them up: they join the spec when added.
    _positions: dict[fx.Node, str] = field(default_factory=dict)
    _current: str = ""

    def run(self, graph: fx.Graph) -> None:
        """Translate every node.

        Raises:
            InputError: one is not allowed; says where it stands.
        """
        for node in graph.nodes:
            self._current = node.name
            try:
                self._translate(node)
            except (InputError, ValidationError) as error:
                raise InputError(f"{_place(node)}: {_reason(error)}") from None

    def _emit(self, operation: AnyOperation, *inputs: Traced) -> Traced:
        """Append a node of the spec."""
        names = {node.name for node in self.nodes} | {FEATURES}
        name = self._current
        if name in names or not _NODE_NAME.match(name):
            name = f"node_{len(self.nodes)}"
        sources = tuple(value.name for value in inputs)
        self.nodes.append(Node(name=name, inputs=sources, operation=operation))
        shapes = tuple(value.shape for value in inputs)
        return Traced(name, _output_shape(operation, shapes))

    def _translate(self, node: fx.Node) -> None:
        match node.op:
            case "placeholder":
                self._enter(node)
            case "call_module":
                self._call_layer(node)
            case "call_function" | "call_method":
                self._call(node)
            case "get_attr" if not str(node.target).startswith("_tensor_constant"):
                raise InputError(
                    f"{node.target} is used outside of a layer: only layers may hold weights;"
                    " use nn.Linear, nn.Embedding or a norm for it"
                )
            case _:
                pass

    def _enter(self, node: fx.Node) -> None:
        if self._values:
            if node.users:
                raise InputError(f"the input {node.name}: a model takes one input")
            return
        shape = self._shape(node)
        size = math.prod(shape)
        value = Traced(FEATURES, (size,))
        is_flat = len(shape) == 1
        self._values[node] = (
            value if is_flat else self._emit(Reshape(kind="reshape", shape=shape), value)
        )

    def _call_layer(self, node: fx.Node) -> None:
        name = str(node.target)
        module = self.module.get_submodule(name)
        if isinstance(module, nn.Embedding) and self._are_positions(node.args, module):
            self._positions[node] = name
            return
        arguments = [*node.args, *node.kwargs.values()]
        value = self._argument(arguments[0]) if len(arguments) == 1 else None
        if not isinstance(value, Traced):
            raise InputError("takes one value, computed from the model's input")
        self._own(name, module)
        if isinstance(module, nn.LSTM | nn.GRU):
            self._values[node] = self._emit(recurrent_operation(module), value)
            self._states[node] = (node, ())
            return
        for operation in layer_operations(module, value.shape, self._shape(node)):
            value = self._emit(operation, value)
        self._values[node] = value

    def _own(self, name: str, module: nn.Module) -> None:
        owned = [f"{name}.{parameter}" for parameter, _ in module.named_parameters()]
        if set(owned) & set(self.parameter_names):
            raise InputError("is used twice: give each use a layer of its own")
        self.parameter_names += owned

    def _call(self, node: fx.Node) -> None:
        if not isinstance(self.observed[0][node], Tensor):
            self._index_states(node)
            return
        if self._is_state(node) or self._is_fixed(node) or self._adds_positions(node):
            return
        arguments = tuple(self._argument(argument) for argument in node.args)
        options = {key: self._argument(option) for key, option in node.kwargs.items()}
        call = Call(arguments, options, self._shape(node))
        self._values[node] = translate(node.target, call, self._emit)

    def _is_fixed(self, node: fx.Node) -> bool:
        """Whether no record has a part in it, such as `torch.arange(8)`."""
        sources = node.all_input_nodes
        return not any(
            s in self._values or s in self._states or s in self._positions for s in sources
        )

    def _are_positions(self, arguments: tuple[object, ...], module: nn.Embedding) -> bool:
        """Whether an embedding is looked up at 0, 1, 2 ... to its end, for every record."""
        source = arguments[0] if arguments else None
        if not isinstance(source, fx.Node) or source in self._values:
            return False
        steps = torch.arange(module.num_embeddings)
        looked_up = [results[source] for results in self.observed]
        return all(
            isinstance(indices, Tensor)
            and indices.shape[-1:] == steps.shape
            and bool((indices == steps).all())
            for indices in looked_up
        )

    def _adds_positions(self, node: fx.Node) -> bool:
        """Translates the sum of a sequence and learnt positions."""
        tables = [source for source in node.all_input_nodes if source in self._positions]
        if not tables:
            return False
        values = [self._values[s] for s in node.all_input_nodes if s in self._values]
        if not is_sum(node.target) or len(values) != 1 or values[0].shape != self._shape(node):
            raise InputError("learnt positions may only be added to a sequence of their length")
        name = self._positions[tables[0]]
        self._own(name, self.module.get_submodule(name))
        operation = PositionalEmbedding(kind="positional_embedding")
        self._values[node] = self._emit(operation, values[0])
        return True

    def _is_state(self, node: fx.Node) -> bool:
        """Translates what is taken out of a recurrent layer's results."""
        path = self._index_states(node)
        if path is None:
            return False
        layer, indices = path
        sequence = self._values[layer]
        module = self.module.get_submodule(str(layer.target))
        if indices == (0,):
            self._values[node] = sequence
        elif indices in _last_states(module):
            self._values[node] = self._emit(Select(kind="select", axis=0, index=-1), sequence)
        return True

    def _index_states(self, node: fx.Node) -> tuple[fx.Node, tuple[object, ...]] | None:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or source not in self._states:
            return None
        layer, indices = self._states[source]
        is_result = source in self._values and source is not layer
        if is_result or getattr(node.target, "__name__", "") != "getitem":
            return None
        self._states[node] = (layer, (*indices, node.args[1]))
        return self._states[node]

    def _argument(self, argument: object) -> object:
        match argument:
            case fx.Node() if argument in self._values:
                return self._values[argument]
            case fx.Node():
                return self._constant(argument)
            case list() | tuple():
                return tuple(self._argument(each) for each in argument)
            case slice(start=start, stop=stop, step=step):
                return slice(*(self._argument(each) for each in (start, stop, step)))
            case _:
                return argument

    def _constant(self, node: fx.Node) -> object:
        """A value that is not computed from records: a size."""
        first, second = (results[node] for results in self.observed)
        if isinstance(first, Tensor):
            if node in self._states:
                raise InputError("reads the inner state of a layer: use out[:, -1] of its sequence")
            raise InputError(
                f"reads {node.name}, in which no record has a part: only layers may hold numbers,"
                " and only nn.Embedding may read fixed ones, as positions"
            )
        # The two passes differ in the size of the batch only; shaping calls do not look at it.
        return first if first == second else None

    def _shape(self, node: fx.Node) -> Shape:
        """The shape of one record, where the batch axis is first in both passes."""
        shapes = [
            tuple(result.shape)
            for results in self.observed
            if isinstance(result := results[node], Tensor)
        ]
        if tuple(shape[:1] for shape in shapes) != tuple((size,) for size in self.batch_sizes):
            raise InputError("moves or folds the batch axis, which must stay the first")
        if shapes[0][1:] != shapes[1][1:]:
            raise InputError("has a shape that depends on the batch")
        return shapes[0][1:]


def _last_states(module: nn.Module) -> tuple[tuple[object, ...], ...]:
    """Index paths that lead to the last state of the last layer."""
    match module:
        case nn.LSTM():
            return ((1, 0, -1), (1, 0, module.num_layers - 1))
        case nn.GRU():
            return ((1, -1), (1, module.num_layers - 1))
        case _:
            return ()


def _output_shape(operation: AnyOperation, shapes: tuple[Shape, ...]) -> Shape:
    if isinstance(operation, Combination):
        return operation.output_shape(shapes)
    return operation.output_shape(shapes[0])


class _Tracer(fx.Tracer):
    """Notes for each node in which module, and on which line of the user's code, it stands."""

    def create_node(self, *args: object, **kwargs: object) -> fx.Node:
        # The signature is torch's; the arguments pass through unread.
        node: fx.Node = super().create_node(*args, **kwargs)  # type: ignore[arg-type]
        source = _user_line(traceback.extract_stack())
        node.meta[_SOURCE] = (self.scope.module_path, source)
        return node


class _Observer(fx.Interpreter):
    """Runs a graph and keeps what each node gave."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.results: dict[fx.Node, object] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run one node."""
        result: object = super().run_node(n)
        self.results[n] = result
        return result


def _place(node: fx.Node) -> str:
    """Where a node stands: its layer or module, and the line of the user's code."""
    module_path, source = node.meta.get(_SOURCE, ("", None))
    name = str(node.target) if node.op == "call_module" else module_path or "the module"
    return f"{name} ({source})" if source else name


def _reason(error: InputError | ValidationError) -> str:
    if isinstance(error, InputError):
        return str(error)
    problem = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def _user_line(stack: traceback.StackSummary) -> str | None:
    """The innermost line that belongs neither to torch nor to this module, as `net.py:12`."""
    for frame in reversed(stack):
        if frame.filename == __file__ and frame.name == symbolic_trace.__name__:
            # Whoever called us: no line of the module.
            return None
        if not frame.filename.startswith(_TORCH) and frame.filename != __file__:
            return f"{Path(frame.filename).name}:{frame.lineno}"
    return None
