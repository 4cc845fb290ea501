"""The server's optimiser as public data: it works on noisy sums only, so it costs no privacy."""

import math
from dataclasses import dataclass

from sordino_protocols.errors import InputError


@dataclass(frozen=True, slots=True)
class ServerOptimizer:
    """Gradient descent with momentum, and the average of the later rounds as the result.

    Attributes:
        learning_rate: step length on the noisy mean gradient.
        momentum: share of the last step that is kept (Polyak 1964); 0 is none.
        average_from: the released model is the mean of the weights after this fraction of the
            rounds (Polyak & Juditsky 1992): averaging cancels noise for free. 1 keeps the last.
    """

    learning_rate: float
    momentum: float
    average_from: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError("optimizer.learning_rate must be > 0 and finite")
        if not 0 <= self.momentum < 1:
            raise InputError("optimizer.momentum must be in [0, 1)")
        if not 0 <= self.average_from <= 1:
            raise InputError("optimizer.average_from must be in [0, 1]")
