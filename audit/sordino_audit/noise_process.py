"""Evidence against the claimed scale of noise, kept across runs: an e-process on held-out lanes.

Each ratio in `RATIOS` is a bet that the noise is that much smaller than claimed: its capital is
multiplied by the likelihood of what was read under the bet over that under the claim. If the noise
is Gaussian and at least as large as claimed, no capital is expected to grow, whatever was read
before, and neither is their mean: the chance that it ever reaches 1 / a is at most a (Ville 1939).
"""

import math
from dataclasses import dataclass

from sordino_audit.bounds.e_process import log_mean

RATIOS: tuple[float, ...] = (0.998, 0.99, 0.96, 0.9, 0.75, 0.5)
"""Bets on the noise, as a share of what is claimed."""


@dataclass(frozen=True, slots=True)
class NoiseProcess:
    """The state of one e-process.

    Attributes:
        log_capitals: natural logarithm of the capital of each bet in `RATIOS`; they start at 0.
        readings: number of readings seen.
    """

    log_capitals: tuple[float, ...] = (0.0,) * len(RATIOS)
    readings: int = 0

    def __post_init__(self) -> None:
        if len(self.log_capitals) != len(RATIOS) or not all(map(math.isfinite, self.log_capitals)):
            raise ValueError(f"expected {len(RATIOS)} finite logarithms of capital")
        if self.readings < 0:
            raise ValueError("readings must be at least 0")

    @property
    def log_value(self) -> float:
        """Natural logarithm of the e-value: of the mean of the capitals."""
        return log_mean(self.log_capitals)


def update(process: NoiseProcess, *, squares: float, readings: int) -> NoiseProcess:
    """The process after some more readings of held-out lanes.

    Args:
        process: the state so far.
        squares: sum of their squares over the claimed variance.
        readings: their number.

    Raises:
        ValueError: a sum that is not finite.
    """
    gains = (-readings * math.log(r) - squares * (r**-2 - 1) / 2 for r in RATIOS)
    capitals = tuple(a + b for a, b in zip(process.log_capitals, gains, strict=True))
    return NoiseProcess(capitals, process.readings + readings)
