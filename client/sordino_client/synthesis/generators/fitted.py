"""What a generator is once it is paid for: something to draw records from, freely."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Cells = npt.NDArray[np.int32]


class Sampler(Protocol):
    """A distribution of records."""

    def sample(self, rows: int, *, rng: np.random.Generator) -> Cells:
        """Independent records of fine cells, [rows, positions]."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A generator made of noisy measurements alone, so that nothing that is done with it costs.

    Attributes:
        sampler: draws records.
        units: how many privacy units there seem to be.
    """

    sampler: Sampler
    units: float
