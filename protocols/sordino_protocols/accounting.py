"""Events to epsilon(delta): tight by PLD, composable by Rényi curves, and noise calibrated to both.

Two accountants, two purposes. The privacy loss distribution (PLD; Koskela et al. 2020, Doroshenko
et al. 2022) gives a run's own epsilon, tight to 1e-4. The Rényi curve (RDP; Mironov 2017, Mironov
et al. 2019) is looser by about a tenth, but sums of curves stay valid when each job is chosen after
seeing earlier results (Feldman & Zrnic 2021), so curves are what a lifetime budget is kept in.
Both are dp-accounting's; we never price an event ourselves.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import dp_accounting
from dp_accounting import pld, rdp

from sordino_protocols.errors import InputError
from sordino_protocols.privacy import Composed, Event, Gaussian, Guarantee, PoissonGaussian

# Integers only: the moments of the sampled Gaussian have a closed form there, while fractional
# orders fail to converge for large sampling rates.
ORDERS: tuple[int, ...] = (*range(2, 65), 72, 80, 96, 128, 192, 256, 384, 512, 1024)
PLD_INTERVAL = 1e-4
_WASTE = 1e-3
_LARGEST_NOISE = 1e6
_SMALLEST_STEP = 1e-9
_NEIGHBOURS = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE


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
        return float(rdp.compute_epsilon(ORDERS, self.values, delta)[0])


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
        case _:
            accountant = rdp.RdpAccountant(ORDERS, _NEIGHBOURS)
            accountant.compose(_dp_event(event))
            return RenyiCurve(tuple(float(value) for value in accountant.rdp))


@lru_cache(maxsize=256)
def epsilon_by_pld(event: Event, delta: float) -> float:
    """The epsilon at `delta`, by PLD, rounded up by the discretisation (error below 1e-3).

    Where everything is an unsampled Gaussian, the distribution is a Gaussian again and its epsilon
    has a closed form (Balle & Wang 2018, thm. 8), which is used: exact, and instant.
    """
    parts = _simplified(event)
    match parts:
        case [Gaussian(noise_multiplier)]:
            return float(dp_accounting.get_epsilon_gaussian(noise_multiplier, delta))
        case _:
            accountant = pld.PLDAccountant(_NEIGHBOURS, PLD_INTERVAL)
    for part in parts:
        accountant.compose(_dp_event(part))
    return float(accountant.get_epsilon(delta))


def epsilon_by_rdp(event: Event, delta: float) -> float:
    """The epsilon at `delta` of one event on its own, by its Rényi curve."""
    return renyi_curve(event).epsilon(delta)


@lru_cache(maxsize=256)
def gaussian_noise(guarantee: Guarantee) -> float:
    """The noise multiplier with which one Gaussian release is exactly (epsilon, delta)-DP.

    Analytic calibration (Balle & Wang 2018, thm. 8).
    """
    return float(dp_accounting.get_sigma_gaussian(guarantee.epsilon, guarantee.delta))


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
        InputError: not even a noise multiplier of 1e6 stays within the guarantee.
    """

    def excess(log_noise: float, epsilon_of: Callable[[Event, float], float]) -> float:
        epsilon = epsilon_of(event_at(_on_grid(math.exp(log_noise))), guarantee.delta)
        return math.log(max(epsilon, 1e-9) / guarantee.epsilon)

    start = _descend(lambda x: excess(x, epsilon_by_rdp), 0.0, tolerance=1e-2)
    found = _descend(lambda x: excess(x, epsilon_by_pld), start, tolerance=_WASTE)
    return _on_grid(math.exp(found))


def _descend(excess: Callable[[float], float], start: float, *, tolerance: float) -> float:
    """Find x with -tolerance <= excess(x) <= 0, for a falling and nearly linear function."""
    aim = -tolerance / 2
    x, value, slope = start, excess(start), -1.0
    while not -tolerance <= value <= 0:
        step = min(max((aim - value) / slope, -2.0), 2.0)
        if x + step > math.log(_LARGEST_NOISE):
            raise InputError("no noise reaches this guarantee: another part of the plan exceeds it")
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


def _dp_event(event: Event) -> dp_accounting.DpEvent:
    match event:
        case Gaussian(noise_multiplier):
            return dp_accounting.GaussianDpEvent(noise_multiplier)
        case PoissonGaussian(sampling_rate, noise_multiplier, steps):
            step = dp_accounting.GaussianDpEvent(noise_multiplier)
            sampled = dp_accounting.PoissonSampledDpEvent(sampling_rate, step)
            return dp_accounting.SelfComposedDpEvent(sampled, steps)
        case Composed(events):
            return dp_accounting.ComposedDpEvent([_dp_event(part) for part in events])
