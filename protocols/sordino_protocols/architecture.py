"""A model as a chain of checked steps: shapes, weights and costs known, still without torch.

Every kind of model spec is written out into this one form; the layout of the flat vector, the
initial weights and the torch module are read off it. What must stay true: a step sees only values
made before it (so there is no cycle), owns its weights alone (so none is used twice), and is within
the bounds before the next one is looked at (so a hostile spec costs no more than a large one).
"""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from sordino_protocols.cells import (
    CellLikelihood,
    CellOperation,
    WeightedCells,
    multiply_adds_of_cells,
)
from sordino_protocols.errors import InputError
from sordino_protocols.operations import (
    Combination,
    Matmul,
    Rearrangement,
    Weightless,
)
from sordino_protocols.shapes import MAX_RANK, Parameter, Shape, spell
from sordino_protocols.weighted import Embedding, Weighted, multiply_adds

MAX_PARAMETERS = 4_000_000
MAX_STEPS = 1_000
MAX_ACTIVATIONS = 2**22
MAX_MULTIPLY_ADDS = 2**31

Operation = Weightless | Weighted | Combination | CellOperation
AnyOperation = Annotated[Weightless | Weighted | Combination, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Value:
    """What a step makes of one record: 0 is the features, i + 1 the output of step i."""

    index: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class Step:
    """One operation in its place.

    Attributes:
        path: where it stands in the spec, such as `layers[3].conv2d`.
        operation: what is computed.
        inputs: the values that enter.
        shape: of the value that it makes.
        parameters: its weights, in the order of the flat vector.
    """

    path: str
    operation: Operation
    inputs: tuple[Value, ...]
    shape: Shape
    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A whole model: [feature_count] in, [outputs] out, every bound kept.

    Attributes:
        feature_count: encoded features of a record.
        steps: in the order in which they run; the last makes the output.
    """

    feature_count: int
    steps: tuple[Step, ...]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All weights, in the order of the flat vector."""
        return tuple(parameter for step in self.steps for parameter in step.parameters)

    @property
    def parameter_count(self) -> int:
        """Length of the flat vector."""
        return sum(parameter.size for parameter in self.parameters)

    @property
    def activation_count(self) -> int:
        """Values that a forward pass of one record makes: what a batch costs in memory."""
        return sum(math.prod(step.shape) for step in self.steps)


class Assembly:
    """Builds an architecture step by step, refusing the first that does not fit."""

    def __init__(self, kind: str, feature_count: int) -> None:
        if feature_count < 1:
            raise InputError(f"model.{kind}: feature_count is {feature_count}; expected >= 1")
        self._kind = kind
        self._steps: list[Step] = []
        self._features = Value(0, (feature_count,))
        # Values that hold features only moved about: what an embedding may read.
        self._raw = {0}
        self._parameters = self._activations = self._multiply_adds = 0

    @property
    def features(self) -> Value:
        """The record as it comes from the encoder."""
        return self._features

    def add(self, path: str, operation: Operation, *inputs: Value) -> Value:
        """Append a step.

        Args:
            path: where the step stands in the spec; errors begin with it.
            operation: what is computed.
            inputs: values that this assembly made.

        Raises:
            InputError: shapes that do not fit, or a bound is passed.
        """
        try:
            step = self._step(path, operation, inputs)
            self._charge(step)
        except InputError as error:
            raise self.refusal(path, str(error)) from None
        self._steps.append(step)
        value = Value(len(self._steps), step.shape)
        if isinstance(operation, Rearrangement) and inputs[0].index in self._raw:
            self._raw.add(value.index)
        return value

    def finish(self, output: Value, *, outputs: int) -> Architecture:
        """The whole model.

        Raises:
            InputError: the last value is not [outputs], a step's value is never used, or there
                is no weight.
        """
        if output.shape != (outputs,):
            raise InputError(
                f"model.{self._kind}: ends with {spell(output.shape)} a record; expected"
                f" [{outputs}], for outputs = {outputs}: end with a linear layer of that many"
            )
        used = {value.index for step in self._steps for value in step.inputs} | {output.index}
        for index, step in enumerate(self._steps, start=1):
            if index not in used:
                raise self.refusal(step.path, "nothing reads its value")
        if self._parameters == 0:
            raise InputError(f"model.{self._kind}: has no weights; there is nothing to train")
        return Architecture(self._features.shape[0], tuple(self._steps))

    def refusal(self, path: str, reason: str) -> InputError:
        """The error that says which layer of the model is wrong, and why."""
        return InputError(f"model.{self._kind}: {path}: {reason}")

    def _step(self, path: str, operation: Operation, inputs: tuple[Value, ...]) -> Step:
        if isinstance(operation, Combination | CellLikelihood):
            shapes = tuple(value.shape for value in inputs)
            if len(shapes) < 2:  # noqa: PLR2004
                raise InputError(f"combines values; {len(shapes)} arrived")
            return Step(path, operation, inputs, operation.output_shape(shapes), ())
        if len(inputs) != 1:
            raise InputError(f"takes one value; {len(inputs)} arrived")
        if isinstance(operation, Embedding) and inputs[0].index not in self._raw:
            raise InputError("reads whole numbers of the features: put it before other layers")
        arrived = inputs[0].shape
        shape = operation.output_shape(arrived)
        if isinstance(operation, Weighted | WeightedCells):
            return Step(path, operation, inputs, shape, operation.parameters(arrived))
        return Step(path, operation, inputs, shape, ())

    def _charge(self, step: Step) -> None:
        self._parameters += sum(parameter.size for parameter in step.parameters)
        self._activations += math.prod(step.shape)
        self._multiply_adds += _multiply_adds(step)
        if len(self._steps) >= MAX_STEPS or len(step.shape) > MAX_RANK:
            raise InputError(f"at most {MAX_STEPS} steps of {MAX_RANK} axes are allowed")
        _require_at_most(MAX_PARAMETERS, self._parameters, "parameters", "make the layers narrower")
        _require_at_most(MAX_ACTIVATIONS, self._activations, "values a record", "pool earlier")
        _require_at_most(
            MAX_MULTIPLY_ADDS, self._multiply_adds, "multiplications a record", "pool earlier"
        )


def _multiply_adds(step: Step) -> int:
    arrived = step.inputs[0].shape
    if isinstance(step.operation, Matmul):
        return math.prod(step.shape) * arrived[-1]
    if isinstance(step.operation, Weighted):
        return multiply_adds(step.operation, arrived)
    if isinstance(step.operation, WeightedCells):
        return multiply_adds_of_cells(step.operation, arrived)
    return 0


def _require_at_most(limit: int, count: int, noun: str, fix: str) -> None:
    if count > limit:
        raise InputError(
            f"{count:,} {noun} up to here; at most {limit:,} {noun} are allowed: {fix}"
        )
