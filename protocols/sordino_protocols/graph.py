"""A model as a graph of named nodes: what `sordino.tracing` makes of a PyTorch module.

The site rebuilds the module from this data: no code travels. What must stay true: a node reads only
nodes above it, every node but the last is read, and the last one is the output.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from sordino_protocols.architecture import MAX_STEPS, AnyOperation, Architecture, Assembly
from sordino_protocols.files import STRICT
from sordino_protocols.shapes import LARGEST_FAN_IN, Width

FEATURES = "features"

NodeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Node(BaseModel):
    """One operation of a graph.

    Attributes:
        name: what later nodes call its value; `features` is the record itself.
        inputs: names of nodes above, in the order in which they enter.
        operation: what is computed of them.
    """

    model_config = STRICT

    name: NodeName
    inputs: Annotated[tuple[NodeName, ...], Field(strict=False, max_length=LARGEST_FAN_IN)]
    operation: AnyOperation


class GraphSpec(BaseModel):
    """A directed acyclic graph of allow-listed operations.

    Attributes:
        nodes: in the order in which they run; the last makes the output.
        outputs: logits or values a record; 1 for a binary label.
    """

    model_config = STRICT

    kind: Literal["graph"]
    nodes: Annotated[tuple[Node, ...], Field(strict=False, max_length=MAX_STEPS)]
    outputs: Width = 1

    @model_validator(mode="after")
    def _acyclic(self) -> "GraphSpec":
        known = {FEATURES}
        for index, node in enumerate(self.nodes):
            for name in node.inputs:
                if name not in known:
                    raise ValueError(f"nodes[{index}]: no node above it is called {name!r}")
            if node.name in known:
                raise ValueError(f"nodes[{index}]: the name {node.name!r} is taken")
            known.add(node.name)
        return self


def assemble_graph(spec: GraphSpec, feature_count: int) -> Architecture:
    """The graph with its shapes and weights.

    Raises:
        InputError: shapes that do not fit, a bound is passed, or a node that nothing reads.
    """
    assembly = Assembly(spec.kind, feature_count)
    values = {FEATURES: assembly.features}
    for index, node in enumerate(spec.nodes):
        path = f"nodes[{index}].{node.operation.kind} ({node.name})"
        inputs = (values[name] for name in node.inputs)
        values[node.name] = assembly.add(path, node.operation, *inputs)
    output = values[spec.nodes[-1].name] if spec.nodes else assembly.features
    return assembly.finish(output, outputs=spec.outputs)
