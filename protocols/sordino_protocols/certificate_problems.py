"""What can be wrong with a certificate, and where two documents differ."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

TOLERANCE = 1e-3
"""Relative; rounding between machines, and a discretisation that became finer in between."""


class Ground(StrEnum):
    """What a problem speaks against."""

    INTEGRITY = "integrity"
    CLAIM = "claim"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a certificate.

    Attributes:
        ground: whether the bytes are not what was signed, or a claim does not follow from them.
        field: the path in the document.
        reason: one sentence.
    """

    ground: Ground
    field: str
    reason: str


def broken(field: str, reason: str) -> Problem:
    """The bytes are not what somebody signed."""
    return Problem(Ground.INTEGRITY, field, reason)


def false(field: str, reason: str) -> Problem:
    """A claim does not follow from what was signed."""
    return Problem(Ground.CLAIM, field, reason)


def differences(
    field: str, claimed: BaseModel, proven: BaseModel, *, tolerance: float = 0.0
) -> Iterator[Problem]:
    """Every place in which a part of a certificate is not what the evidence says.

    Args:
        field: path of the part.
        claimed: as the certificate has it.
        proven: as it was made anew.
        tolerance: relative, of numbers that were computed and not copied.
    """
    yield from _differences(field, _tree(claimed), _tree(proven), tolerance)


def _tree(part: BaseModel) -> object:
    return part.model_dump(mode="json")


def _differences(
    field: str, claimed: object, proven: object, tolerance: float
) -> Iterator[Problem]:
    match claimed, proven:
        case dict(), dict() if claimed.keys() == proven.keys():
            for key in claimed:
                yield from _differences(f"{field}.{key}", claimed[key], proven[key], tolerance)
        case list(), list() if len(claimed) == len(proven):
            for index, (left, right) in enumerate(zip(claimed, proven, strict=True)):
                yield from _differences(f"{field}[{index}]", left, right, tolerance)
        case float(), float() if math.isclose(claimed, proven, rel_tol=tolerance):
            pass
        case _ if type(claimed) is type(proven) and claimed == proven:
            pass
        case float() | int() | str() | None, float() | int() | str() | None:
            yield false(field, f"says {_short(claimed)}; the evidence says {_short(proven)}")
        case _:
            yield false(field, "has other parts than the evidence")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004
