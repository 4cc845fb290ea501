"""Which models a job may name: declarative data, read without importing torch.

A model is a stack of linear layers with an elementwise activation between them and one logit at
the end, for a binary label. The list is an allow-list: every kind on it has per-unit gradients in
the training engine, and nothing is imported because a job says so. A flat vector of float64 is the
one form in which parameters travel: layer by layer, weight (row-major, outputs x inputs), bias.
What must stay true: the layout and the initial weights are functions of public data alone, so
server, site and auditor compute the same ones.
"""

import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from sordino_protocols.errors import InputError

MAX_PARAMETERS = 4_000_000
MAX_LAYER_WIDTH = 4096
MAX_HIDDEN_LAYERS = 8

_INITIAL_WEIGHTS = b"sordino/initial-weights/1"

Activation = Literal["tanh", "relu"]
FloatVector = npt.NDArray[np.float64]


class LogisticSpec(BaseModel):
    """Logistic regression: one linear layer, one logit."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["logistic"]


class MlpSpec(BaseModel):
    """A multi-layer perceptron with one logit.

    Attributes:
        hidden: widths of the hidden layers, from the input on.
        activation: between layers; tanh keeps activations, and so gradients, bounded.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Literal["mlp"]
    # A TOML array arrives as a list; its items stay strict.
    hidden: Annotated[
        tuple[Annotated[int, Field(ge=1, le=MAX_LAYER_WIDTH)], ...],
        Field(strict=False, min_length=1, max_length=MAX_HIDDEN_LAYERS),
    ]
    activation: Activation


ModelSpec = Annotated[LogisticSpec | MlpSpec, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class LinearShape:
    """One linear layer: its weight is [outputs, inputs], its bias [outputs]."""

    inputs: int
    outputs: int

    @property
    def parameter_count(self) -> int:
        """Scalars in weight and bias."""
        return self.outputs * (self.inputs + 1)


def layers(spec: ModelSpec, feature_count: int) -> tuple[LinearShape, ...]:
    """The model's linear layers, from the features to the logit.

    Raises:
        InputError: no features, or more than `MAX_PARAMETERS` parameters in all.
    """
    if feature_count < 1:
        raise InputError(f"model.{spec.kind}: feature_count is {feature_count}; expected >= 1")
    hidden = spec.hidden if isinstance(spec, MlpSpec) else ()
    widths = (feature_count, *hidden, 1)
    shapes = tuple(LinearShape(*pair) for pair in itertools.pairwise(widths))
    total = sum(shape.parameter_count for shape in shapes)
    if total > MAX_PARAMETERS:
        raise InputError(
            f"model.{spec.kind}: {total:,} parameters on {feature_count:,} features; "
            f"at most {MAX_PARAMETERS:,} are allowed: make the hidden layers narrower"
        )
    return shapes


def parameter_count(spec: ModelSpec, feature_count: int) -> int:
    """Length of the model's flat vector, canary lanes not included.

    Raises:
        InputError: as `layers`.
    """
    return sum(shape.parameter_count for shape in layers(spec, feature_count))


def initial_weights(spec: ModelSpec, feature_count: int, *, seed: bytes) -> FloatVector:
    """Public initial parameters, the same on every machine and in every version of a library.

    Logistic regression starts at zero. An MLP draws Glorot-uniform weights (Glorot & Bengio 2010,
    eq. 16) from SHAKE-256 of `seed`; biases are zero.

    Args:
        spec: the model.
        feature_count: encoded features.
        seed: public bytes that differ from job to job, such as the job's hash.

    Returns:
        The flat vector, `parameter_count(spec, feature_count)` long.

    Raises:
        InputError: as `layers`.
    """
    shapes = layers(spec, feature_count)
    if isinstance(spec, LogisticSpec):
        return np.zeros(sum(shape.parameter_count for shape in shapes))
    uniform = _public_uniform(seed, sum(shape.inputs * shape.outputs for shape in shapes))
    parts: list[FloatVector] = []
    for shape in shapes:
        drawn, uniform = np.split(uniform, [shape.inputs * shape.outputs])
        bound = math.sqrt(6 / (shape.inputs + shape.outputs))
        parts += [bound * (2 * drawn - 1), np.zeros(shape.outputs)]
    return np.concatenate(parts)


def _public_uniform(seed: bytes, count: int) -> FloatVector:
    """`count` numbers in [0, 1) that only `seed` decides. Public: never for noise or sampling."""
    stream = hashlib.shake_256(_INITIAL_WEIGHTS + seed).digest(8 * count)
    words = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
    return words.astype(np.float64) * 2.0**-53
