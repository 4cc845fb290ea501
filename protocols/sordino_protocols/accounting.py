"""Events to epsilon(delta): tight by PLD, composable by Rényi curves.

Two accountants, two purposes. The privacy loss distribution (PLD; Koskela et al. 2020, Doroshenko
et al. 2022) gives a run's own epsilon, tight to 5e-4 of it. The Rényi curve (RDP; Mironov 2017,
Mironov et al. 2019) is looser by about a tenth, but sums of curves stay valid when each job is
chosen after seeing earlier results (Feldman & Zrnic 2021), so curves are what a lifetime budget is
kept in.

Curves have closed forms (`renyi_divergences`). PLDs are dp-accounting's (`loss_distributions`), but
where nothing is sampled and all noise is Gaussian: then there are closed forms, or for many
discrete releases convolutions of our own, both instant (`unsampled_losses`). The library takes a
second or two to import, so it is imported when the first other event is priced.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sordino_protocols.errors import InputError
from sordino_protocols.loss_distributions import (
    MOST_GROUPS,
    Parts,
    loss_distribution,
    parts_of,
)
from sordino_protocols.privacy import Choice, Composed, Event, Leaf
from sordino_protocols.renyi_divergences import Values, divergences
from sordino_protocols.unsampled_losses import unsampled_losses

# Integers only: the moments of the sampled Gaussian have a closed form there.
ORDERS: tuple[int, ...] = (*range(2, 65), 72, 80, 96, 128, 192, 256, 384, 512, 1024)
_LARGEST_EPSILON = 500.0
_PRECISION = 1e-12
# So little noise costs more than any epsilon that is looked for.
_SMALLEST_NOISE = 1e-3
# What costs more by its Rényi curve is no privacy to speak of, and takes a PLD of gigabytes.
_LARGEST_PLD = 100.0
_USUAL_DELTA = 1e-6


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


@lru_cache(maxsize=1024)
def renyi_curve(event: Event) -> RenyiCurve:
    """The Rényi curve of an event under add or remove one unit."""
    parts = parts_of(event)
    # Mironov 2017, corollary 3.
    values = np.array(ORDERS, dtype=np.float64) * (parts.precision / 2)
    for leaf, count in parts.groups:
        with np.errstate(over="ignore"):
            values += count * _divergences(leaf)
    return RenyiCurve(tuple(values.tolist()))


@lru_cache(maxsize=256)
def epsilon_by_pld(event: Event, delta: float) -> float:
    """The epsilon at `delta`, by PLD, rounded up by the discretisation (by 5e-4 of it or less).

    Exact where nothing is sampled and all noise is Gaussian, but for one discrete release; with
    more of these, up by 1e-4 of it or less. An upper bound by the Rényi curve where that exceeds
    100 or the event has more than a thousand different mechanisms, where delta is too small for a
    PLD, and where it is the X PLD is not tight.
    """
    parts = parts_of(event)
    if not parts.groups:
        return gaussian_epsilon(parts.precision**-0.5, delta) if parts.precision else 0.0
    loose = epsilon_by_rdp(event, delta)
    if not has_tight_epsilon(event):
        return loose
    if (losses := unsampled_losses(parts)) is not None:
        if losses.delta(0.0) <= delta:
            return 0.0
        exact = smallest(lambda each: losses.delta(each) <= delta, low=1e-9, high=_LARGEST_EPSILON)
        return min(exact, loose)
    tight = float(loss_distribution(event).get_epsilon_for_delta(delta))
    # The library adds 1e-15 to delta for each composition, which is too much for the smallest ones.
    return min(tight, loose) if _has_choices(parts) or math.isinf(tight) else tight


def has_tight_epsilon(event: Event) -> bool:
    """Whether a PLD of the event is worth its while, or its Rényi curve has to do."""
    is_small = len(parts_of(event).groups) <= MOST_GROUPS
    return is_small and epsilon_by_rdp(event, _USUAL_DELTA) <= _LARGEST_PLD


def composed_epsilon(events: Sequence[Event], delta: float) -> float:
    """The epsilon at `delta` of a whole lifetime by PLD, had all of it been planned at the start.

    Not a bound where a job was chosen after seeing what an earlier one released: that is why
    budgets are kept in Rényi curves. The difference is what that costs.
    """
    return epsilon_by_pld(Composed(tuple(events)), delta) if events else 0.0


def epsilon_by_rdp(event: Event, delta: float) -> float:
    """The epsilon at `delta` of one event on its own, by its Rényi curve."""
    return renyi_curve(event).epsilon(delta)


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """The epsilon at `delta` of one Gaussian release; infinite where it exceeds 500."""

    def is_enough(epsilon: float) -> bool:
        return gaussian_delta(noise_multiplier, epsilon) <= delta

    if noise_multiplier < _SMALLEST_NOISE:
        return math.inf
    return 0.0 if is_enough(0.0) else smallest(is_enough, low=1e-12, high=_LARGEST_EPSILON)


def gaussian_delta(noise_multiplier: float, epsilon: float) -> float:
    """The delta of one Gaussian release at `epsilon` (Balle & Wang 2018, thm. 8)."""
    half, ratio = 0.5 / noise_multiplier, epsilon * noise_multiplier
    return _cdf(half - ratio) - math.exp(epsilon) * _cdf(-half - ratio)


def smallest(is_enough: Callable[[float], bool], *, low: float, high: float) -> float:
    """The smallest number that is enough, by bisection of its logarithm, from above.

    Infinite where not even `high` is enough.
    """
    if not is_enough(high):
        return math.inf
    while high / low - 1 > _PRECISION:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _cdf(value: float) -> float:
    # Not `NormalDist.cdf`: it adds to 1 and loses the lower tail, which is all that counts here.
    return math.erfc(-value / math.sqrt(2)) / 2


@lru_cache(maxsize=1024)
def _divergences(leaf: Leaf) -> Values:
    return divergences(leaf, ORDERS)


def _has_choices(parts: Parts) -> bool:
    return any(isinstance(leaf, Choice) for leaf, _ in parts.groups)
