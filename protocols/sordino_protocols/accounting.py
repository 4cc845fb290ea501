"""Events to epsilon(delta): tight by PLD, composable by Rényi curves, and noise calibrated to both.

Two accountants, two purposes. The privacy loss distribution (PLD; Koskela et al. 2020, Doroshenko
et al. 2022) gives a run's own epsilon, tight to 1e-4. The Rényi curve (RDP; Mironov 2017, Mironov
et al. 2019) is looser by about a tenth, but sums of curves stay valid when each job is chosen after
seeing earlier results (Feldman & Zrnic 2021), so curves are what a lifetime budget is kept in.

Both are dp-accounting's but for one case: where nothing is sampled, everything is one Gaussian and
both have closed forms, exact and instant, which a test holds against the library. The library takes
a second or two to import, so it is imported when the first sampled event is priced.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sordino_protocols.errors import InputError
from sordino_protocols.privacy import Composed, Event, Gaussian, Guarantee, PoissonGaussian

if TYPE_CHECKING:
    import dp_accounting

# Integers only: the moments of the sampled Gaussian have a closed form there, while fractional
# orders fail to converge for large sampling rates.
ORDERS: tuple[int, ...] = (*range(2, 65), 72, 80, 96, 128, 192, 256, 384, 512, 1024)
PLD_INTERVAL = 1e-4
_WASTE = 1e-3
_LARGEST_NOISE = 1e6
_SMALLEST_NOISE = 1e-3
_LARGEST_EPSILON = 500.0
_PRECISION = 1e-12
_SMALLEST_STEP = 1e-9
# Tight accounting saves a tenth to a third of the noise that the Rényi curve asks for, never more.
_LARGEST_SAVING = math.log(1.6)


@dataclass(frozen=True, slots=True)
class RenyiCurve:
    """Rényi divergence bounds at `ORDERS`; curves of composed events add up."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(ORDERS):
            raise InputError(f"a Rényi curve has {len(ORDERS)} values, not {len(self.values)}")
        if any(math.isnan(value) or value < 0 for value in self.values):
            raise InputError("a Rényi curve has values >= 0")

    def __add__(self, other: "RenyiCurve") -> "RenyiCurve":
        return RenyiCurve(tuple(a + b for a, b in zip(self.values, other.values, strict=True)))

    def is_within(self, other: "RenyiCurve") -> bool:
        """Whether this curve is nowhere above `other`, up to rounding of sums."""
        pairs = zip(self.values, other.values, strict=True)
        return all(a <= b * (1 + 1e-9) for a, b in pairs)

    def epsilon(self, delta: float) -> float:
        """The best epsilon at `delta` over all orders (Canonne et al. 2020, prop. 12)."""
        candidates = (
            value + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
            for order, value in zip(ORDERS, self.values, strict=True)
        )
        return 0.0 if self == NO_COST else max(0.0, min(candidates))


NO_COST = RenyiCurve((0.0,) * len(ORDERS))


def total(curves: Sequence[RenyiCurve]) -> RenyiCurve:
    """The curve of everything together."""
    return sum(curves, start=NO_COST)


@lru_cache(maxsize=256)
def renyi_curve(event: Event) -> RenyiCurve:
    """The Rényi curve of an event under add or remove one unit."""
    match event:
        case Composed(events):
            return total([renyi_curve(part) for part in events])
        case _ if (precision := _precision(event)) is not None:
            # Mironov 2017, corollary 3.
            return RenyiCurve(tuple(order * precision / 2 for order in ORDERS))
        case _:
            from dp_accounting import rdp  # noqa: PLC0415  # slow to import, see above

            accountant = rdp.RdpAccountant(ORDERS, _neighbours())
            accountant.compose(_dp_event(event))
            return RenyiCurve(tuple(float(value) for value in accountant.rdp))


@lru_cache(maxsize=256)
def epsilon_by_pld(event: Event, delta: float) -> float:
    """The epsilon at `delta`, by PLD, rounded up by the discretisation (error below 1e-3).

    Exact where nothing is sampled: the privacy loss of Gaussians is Gaussian.
    """
    parts = _simplified(event)
    match parts:
        case [Gaussian(noise_multiplier)]:
            return _gaussian_epsilon(noise_multiplier, delta)
        case _:
            from dp_accounting import pld  # noqa: PLC0415  # slow to import, see above

            accountant = pld.PLDAccountant(_neighbours(), PLD_INTERVAL)
    for part in parts:
        accountant.compose(_dp_event(part))
    return float(accountant.get_epsilon(delta))


def epsilon_by_rdp(event: Event, delta: float) -> float:
    """The epsilon at `delta` of one event on its own, by its Rényi curve."""
    return renyi_curve(event).epsilon(delta)


@lru_cache(maxsize=256)
def gaussian_noise(guarantee: Guarantee) -> float:
    """The noise multiplier with which one Gaussian release is (epsilon, delta)-DP, and no larger.

    Analytic calibration (Balle & Wang 2018, thm. 8), on the safe side by 1e-12 of it.
    """
    wanted = guarantee.delta

    def is_enough(noise_multiplier: float) -> bool:
        return _gaussian_delta(noise_multiplier, guarantee.epsilon) <= wanted

    return _smallest(is_enough, low=1e-3, high=_LARGEST_NOISE)


def calibrate(event_at: Callable[[float], Event], guarantee: Guarantee) -> float:
    """A noise multiplier whose event stays within the guarantee and wastes at most 0.1 % of it.

    A secant on log epsilon over log noise, which is nearly a line, started where the cheap Rényi
    curve says; three to five PLDs in all.

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
    """Find x with -tolerance <= excess(x) <= 0, for a falling and nearly linear function."""
    aim = -tolerance / 2
    x, value, slope = start, excess(start), -1.0
    while not -tolerance <= value <= 0:
        step = min(max((aim - value) / slope, -2.0), 2.0)
        if x + step > math.log(_LARGEST_NOISE):
            raise InputError(
                "no noise reaches this guarantee: another part of the plan exceeds it, or epsilon"
                " is too small for Rényi curves, which end near log(1/delta)/1000"
            )
        if x == lowest and step < 0:
            raise InputError("hardly any noise reaches this guarantee already: choose less delta")
        step = max(step, lowest - x)
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


def _gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    def is_enough(epsilon: float) -> bool:
        return _gaussian_delta(noise_multiplier, epsilon) <= delta

    return 0.0 if is_enough(0.0) else _smallest(is_enough, low=1e-12, high=_LARGEST_EPSILON)


def _gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """The delta of one Gaussian release at `epsilon` (Balle & Wang 2018, thm. 8)."""
    half, ratio = 0.5 / noise_multiplier, epsilon * noise_multiplier
    return _cdf(half - ratio) - math.exp(epsilon) * _cdf(-half - ratio)


def _cdf(value: float) -> float:
    # Not `NormalDist.cdf`: it adds to 1 and loses the lower tail, which is all that counts here.
    return math.erfc(-value / math.sqrt(2)) / 2


def _smallest(is_enough: Callable[[float], bool], *, low: float, high: float) -> float:
    """The smallest number that is enough, by bisection of its logarithm, from above."""
    if not is_enough(high):
        return math.inf
    while high / low - 1 > _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _simplified(event: Event) -> list[Event]:
    """Flatten, and merge all unsampled Gaussians into one: exact, and one PLD instead of many."""
    parts = _flat(event)
    precisions = [p for p in map(_precision, parts) if p is not None]
    rest = [part for part in parts if _precision(part) is None]
    merged: list[Event] = [Gaussian(1 / math.sqrt(sum(precisions)))] if precisions else []
    return merged + rest


def _flat(event: Event) -> list[Event]:
    match event:
        case Composed(events):
            return [leaf for part in events for leaf in _flat(part)]
        case _:
            return [event]


def _precision(event: Event) -> float | None:
    """Return mu squared where the event is an unsampled Gaussian, else None."""
    match event:
        case Gaussian(noise_multiplier):
            return noise_multiplier**-2
        case PoissonGaussian(1.0, noise_multiplier, steps):
            return steps * noise_multiplier**-2
        case _:
            return None


def _neighbours() -> "dp_accounting.NeighboringRelation":
    import dp_accounting  # noqa: PLC0415  # slow to import, see above

    return dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE


def _dp_event(event: Event) -> "dp_accounting.DpEvent":
    import dp_accounting  # noqa: PLC0415  # slow to import, see above

    match event:
        case Gaussian(noise_multiplier):
            return dp_accounting.GaussianDpEvent(noise_multiplier)
        case PoissonGaussian(sampling_rate, noise_multiplier, steps):
            step = dp_accounting.GaussianDpEvent(noise_multiplier)
            sampled = dp_accounting.PoissonSampledDpEvent(sampling_rate, step)
            return dp_accounting.SelfComposedDpEvent(sampled, steps)
        case Composed(events):
            return dp_accounting.ComposedDpEvent([_dp_event(part) for part in events])
