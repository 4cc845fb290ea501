"""Scaling of features before they enter a network: a public shift and factor each.

Without one, features are what the schema's public bounds make of them. A job with `[statistics]`
has its scaling made of noisy statistics, so it is as public as they are. What must stay true: a
scaled feature depends on its own record alone, and is finite and bounded whatever the scaling says,
so a server that makes up a scaling learns nothing that it has not paid for.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError

SCALED_LIMIT: Final = 5.0
"""Scaled features are clipped to this, both ways: an outlier must not drown the others."""

Features = npt.NDArray[np.float32]
FloatVector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scaling:
    """What every site of a run does to its features.

    Attributes:
        shift: [features], taken off first; finite.
        factor: [features], multiplied with then; finite.
    """

    shift: FloatVector
    factor: FloatVector

    def __post_init__(self) -> None:
        if self.shift.ndim != 1 or self.shift.shape != self.factor.shape:
            raise InputError("expected as many shifts as factors, one a feature")
        # Not finite in single precision, in which features are.
        largest = float(np.finfo(np.float32).max)
        if not all(bool(np.all(np.abs(each) <= largest)) for each in (self.shift, self.factor)):
            raise InputError("a shift or a factor is not finite")

    def __len__(self) -> int:
        """How many features are scaled."""
        return len(self.shift)

    def apply(self, features: Features) -> Features:
        """Scaled copies of records.

        Args:
            features: [records, features], in [-1, 1] and in the order of the schema.

        Returns:
            [records, features], in [-`SCALED_LIMIT`, `SCALED_LIMIT`].

        Raises:
            ValueError: another number of features.
        """
        if features.ndim != 2 or features.shape[1] != len(self):  # noqa: PLR2004
            raise ValueError(f"features have shape {features.shape}; expected [n, {len(self)}]")
        with np.errstate(over="ignore"):
            scaled = features - self.shift.astype(np.float32)
            scaled *= self.factor.astype(np.float32)
        return np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT, out=scaled)

    def vector(self) -> npt.NDArray[np.float32]:
        """The form in which a scaling travels: shifts, then factors, [2 * features]."""
        return np.concatenate([self.shift, self.factor]).astype(np.float32)


def scaling_from(vector: npt.NDArray[np.floating]) -> Scaling:
    """The inverse of `Scaling.vector`.

    Raises:
        InputError: the vector has not two values a feature, or one that is not finite.
    """
    if vector.ndim != 1 or len(vector) % 2:
        raise InputError(f"a scaling has shape {vector.shape}; expected two values a feature")
    shift, factor = np.split(vector.astype(np.float64), 2)
    return Scaling(shift, factor)
