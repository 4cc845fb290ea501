"""Public initial weights, bit for bit the same on every machine and in every version of a library.

They are drawn from SHAKE-256 of public bytes and scaled with nothing but IEEE additions, products
and square roots: a normal distribution would need logarithms, whose last bits differ from one
mathematical library to the next. So every random weight is uniform, with the variance of its paper.
"""

import hashlib
import math

import numpy as np
import numpy.typing as npt

from sordino_protocols.architecture import Architecture, Step
from sordino_protocols.operations import Activation, Pooling
from sordino_protocols.shapes import Constant, Fans, ForgetGate, Parameter, Rows
from sordino_protocols.weighted import GroupNorm, LayerNorm

_CONTEXT = b"sordino/initial-weights/1"
_SATURATING = ("tanh", "sigmoid")


def draw(
    architecture: Architecture, *, seed: bytes, widen_before_rectifiers: bool
) -> npt.NDArray[np.float64]:
    """The flat vector of initial weights.

    Weights are Glorot-uniform (Glorot & Bengio 2010, eq. 16); before a relu and its like He-uniform
    (He et al. 2015, eq. 10). The matrices of a recurrent layer count as one for each gate; the
    forget gate's bias is 1 (Jozefowicz et al. 2015). Rows of an embedding have an expected squared
    length of 1. Norms start as the identity, other biases at zero.

    Args:
        architecture: the model.
        seed: public bytes that differ from job to job.
        widen_before_rectifiers: False gives Glorot's bound everywhere.
    """
    random = [p for p in architecture.parameters if isinstance(p.start, Fans | Rows)]
    uniform = _public_uniform(seed, sum(parameter.size for parameter in random))
    rectified = _rectified(architecture) if widen_before_rectifiers else frozenset[int]()
    parts: list[npt.NDArray[np.float64]] = []
    for index, step in enumerate(architecture.steps):
        for parameter in step.parameters:
            if not isinstance(parameter.start, Fans | Rows):
                parts.append(_fixed(parameter))
                continue
            drawn, uniform = np.split(uniform, [parameter.size])
            bound = _bound(parameter.start, rectified=index in rectified)
            parts.append(bound * (2 * drawn - 1))
    return np.concatenate(parts) if parts else np.zeros(0)


def _bound(start: Fans | Rows, *, rectified: bool) -> float:
    """Half the width of the uniform distribution around zero: its variance is bound^2 / 3."""
    if isinstance(start, Rows):
        return math.sqrt(3 / start.width)
    if rectified:
        return math.sqrt(6 / start.inputs)
    return math.sqrt(6 / (start.inputs + start.outputs))


def _fixed(parameter: Parameter) -> npt.NDArray[np.float64]:
    match parameter.start:
        case Constant(value):
            return np.full(parameter.size, value)
        case ForgetGate(hidden):
            bias = np.zeros(parameter.size)
            bias[hidden : 2 * hidden] = 1.0
            return bias
        case _:
            raise ValueError(f"{parameter.name} starts at random")


def _rectified(architecture: Architecture) -> frozenset[int]:
    """Steps whose value goes into a relu or its like, perhaps through norms and poolings."""
    found: set[int] = set()
    # From the end: what a norm leads to is known before what leads to the norm.
    for index, step in reversed(list(enumerate(architecture.steps))):
        makers = [value.index - 1 for value in step.inputs]
        if _is_rectifier(step):
            found.update(makers)
        elif isinstance(step.operation, LayerNorm | GroupNorm | Pooling):
            found.update(makers if index in found else [])
    return frozenset(found)


def _is_rectifier(step: Step) -> bool:
    operation = step.operation
    return isinstance(operation, Activation) and operation.function not in _SATURATING


def _public_uniform(seed: bytes, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers in [0, 1) that only `seed` decides. Public: never for noise or sampling."""
    stream = hashlib.shake_256(_CONTEXT + seed).digest(8 * count)
    words = np.frombuffer(stream, dtype="<u8") >> np.uint64(11)
    return words.astype(np.float64) * 2.0**-53
