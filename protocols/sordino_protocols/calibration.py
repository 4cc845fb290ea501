"""Noise calibrated to a guarantee: how much is needed, and not a thousandth more.

Split from `accounting`, which prices what is there, because this searches for what should be.
"""

import math
from collections.abc import Callable
from functools import lru_cache

from sordino_protocols.accounting import (
    epsilon_by_pld,
    epsilon_by_rdp,
    gaussian_delta,
    smallest,
)
from sordino_protocols.errors import InputError
from sordino_protocols.privacy import Event, Guarantee

_WASTE = 1e-3
_LARGEST_NOISE = 1e6
_SMALLEST_NOISE = 1e-3
_SMALLEST_STEP = 1e-9
_SMALLEST_JUMP = 1e-6
# Tight accounting saves a tenth to a third of the noise that the Rényi curve asks for, never more.
_LARGEST_SAVING = math.log(1.6)


@lru_cache(maxsize=256)
def gaussian_noise(guarantee: Guarantee) -> float:
    """The noise multiplier with which one Gaussian release is (epsilon, delta)-DP, and no larger.

    Analytic calibration (Balle & Wang 2018, thm. 8), on the safe side by 1e-12 of it.
    """
    wanted = guarantee.delta

    def is_enough(noise_multiplier: float) -> bool:
        return gaussian_delta(noise_multiplier, guarantee.epsilon) <= wanted

    return smallest(is_enough, low=1e-3, high=_LARGEST_NOISE)


def calibrate(event_at: Callable[[float], Event], guarantee: Guarantee) -> float:
    """A noise multiplier whose event stays within the guarantee and wastes at most 0.1 % of it.

    An event that rounds its noise up wastes what one step of its rounding is worth, if that is
    more. A secant on log epsilon over log noise, which is nearly a line, started where the cheap
    Rényi curve says; three to five PLDs in all.

    Args:
        event_at: builds the event from a noise multiplier; more noise must not cost more.
        guarantee: what the event may cost, by PLD.

    Returns:
        Seven significant digits, on the safe side.

    Raises:
        InputError: not even a noise multiplier of 1e6 stays within the guarantee; or delta is so
            large that hardly any noise is needed, because a unit is so rarely sampled.
    """

    def excess(log_noise: float, epsilon_of: Callable[[Event, float], float]) -> float:
        epsilon = epsilon_of(event_at(_on_grid(math.exp(log_noise))), guarantee.delta)
        return math.log(max(epsilon, 1e-9) / guarantee.epsilon)

    lowest = math.log(_SMALLEST_NOISE)
    start = _descend(lambda x: excess(x, epsilon_by_rdp), 0.0, tolerance=1e-2, lowest=lowest)
    lowest = start - _LARGEST_SAVING
    found = _descend(lambda x: excess(x, epsilon_by_pld), start, tolerance=_WASTE, lowest=lowest)
    return _on_grid(math.exp(found))


def _descend(
    excess: Callable[[float], float], start: float, *, tolerance: float, lowest: float
) -> float:
    """Find x with -tolerance <= excess(x) <= 0, for a falling and nearly linear function.

    Where the function jumps over that range, as it does where a plan rounds its noise up, the x
    just behind the jump.
    """
    aim = -tolerance / 2
    too_low, enough = -math.inf, math.inf
    x, value, slope = start, excess(start), -1.0
    while not -tolerance <= value <= 0:
        too_low, enough = (max(too_low, x), enough) if value > 0 else (too_low, min(enough, x))
        if enough - too_low < _SMALLEST_JUMP:
            return enough
        step = min(max((aim - value) / slope, -2.0), 2.0)
        if x + step > math.log(_LARGEST_NOISE):
            raise InputError(
                "no noise reaches this guarantee: another part of the plan exceeds it, or epsilon"
                " is too small for Rényi curves, which end near log(1/delta)/1000"
            )
        if x == lowest and step < 0:
            raise InputError("hardly any noise reaches this guarantee already: choose less delta")
        step = max(step, lowest - x)
        if not too_low < x + step < enough:
            step = (too_low + enough) / 2 - x
        if abs(step) < _SMALLEST_STEP:
            raise InputError("the privacy cost does not fall as noise grows: check the plan")
        next_value = excess(x + step)
        # Where another part of the plan dominates, the line is flat: never trust a slope near 0.
        slope = min((next_value - value) / step, -0.02)
        x, value = x + step, next_value
    return x


def _on_grid(noise_multiplier: float) -> float:
    # Up to seven significant digits: short in a job file, and coarse noise stays on the safe side.
    digits = 6 - math.floor(math.log10(noise_multiplier))
    scale = 10.0**digits
    return math.ceil(noise_multiplier * scale) / scale
