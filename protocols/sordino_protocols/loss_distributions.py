"""Privacy loss distributions (PLD) of events, both directions of adding and removing one unit.

What an event loses is a distribution of log-likelihood ratios; composing events convolves them
(Koskela et al. 2020), and dp-accounting does that with rounding that only ever overstates the loss
(Doroshenko et al. 2022, "connect the dots"). Here are the single mechanisms as hockey-stick curves,
the choice of the grid, and the caches that make a second price of nearly the same run cheap.

A neighbour is the data with one unit more or one less, so each mechanism has two distributions: of
what the sampled Gaussian says of a unit that is there, and of one that is not. The library carries
both through a composition and answers with the worse.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, assert_never

import numpy as np
import numpy.typing as npt

from sordino_protocols.composed_losses import Release, composed_losses
from sordino_protocols.privacy import (
    DiscreteGaussian,
    DiscreteLaplace,
    Event,
    Exponential,
    ExponentialQuantile,
    Gaussian,
    Laplace,
    Leaf,
    PoissonGaussian,
    leaves,
)
from sordino_protocols.renyi_divergences import divergences, precision

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

Values = npt.NDArray[np.float64]
HockeyStick = Callable[[Values], Values]
"""The delta of a pair of distributions at each epsilon, which may be negative."""

# A grid's step adds at most step^2/12 to the variance of each loss: this much of it is accepted.
_ACCEPTED_EXCESS = 3e-4
_GRID_STEPS = (1e-4, 2e-4, 5e-4, 1e-3)
# Noise beyond this many standard deviations (probability 1e-23) counts as a certain loss.
_TAIL = 10.0
# A year of a data set has some hundred different mechanisms; more are priced by Rényi curve only.
MOST_GROUPS = 1000

# More different sigmas than this are composed in one product of transforms.
_FEW_RELEASES = 4

# Losses of one step that reach further have hardly any noise: the coarsest grid will do.
_LONGEST_REACH = 50.0

Group = tuple[Leaf, int]


@dataclass(frozen=True, slots=True)
class Parts:
    """An event, flattened: what is the same is counted, and all unsampled Gaussians are one.

    Attributes:
        precision: mu squared of that one Gaussian; 0 for none, infinite for no noise.
        groups: the other mechanisms, one step each, with how often they ran.
    """

    precision: float
    groups: tuple[Group, ...]


@lru_cache(maxsize=256)
def parts_of(event: Event) -> Parts:
    """Flatten an event; exact, and far fewer convolutions than one a part."""
    total, counts = 0.0, dict[Leaf, int]()
    for leaf, count in leaves(event):
        step: Leaf
        match leaf:
            case Gaussian(noise_multiplier):
                total += count * precision(noise_multiplier)
            case PoissonGaussian(1.0, noise_multiplier, steps):
                total += count * steps * precision(noise_multiplier)
            case PoissonGaussian(sampling_rate, noise_multiplier, steps):
                step = PoissonGaussian(sampling_rate, noise_multiplier, 1)
                counts[step] = counts.get(step, 0) + count * steps
            case _:
                # Whom a price is about does not change it.
                step = replace(leaf, unit="record")
                counts[step] = counts.get(step, 0) + count
    return Parts(total, tuple(counts.items()))


def loss_distribution(event: Event) -> "PrivacyLossDistribution":
    """The losses of a whole event, rounded so that no delta is understated.

    The variance of the losses is overstated by about 3e-4 of itself, or as much as a grid of 1e-4
    does, and so is epsilon by half of that.
    """
    parts = parts_of(event)
    step = _grid_step(parts)
    releases = discrete_releases(parts)
    groups = parts.groups
    composed = list["PrivacyLossDistribution"]()
    if len(releases) > _FEW_RELEASES:
        groups = tuple(each for each in groups if not isinstance(each[0], DiscreteGaussian))
        composed.append(_discrete_gaussians(releases, step))
    if groups:
        composed.append(_composed(groups, step))
    if parts.precision or not composed:
        composed.append(_gaussian(parts.precision, step))
    return reduce(lambda one, other: one.compose(other), composed)


def discrete_releases(parts: Parts) -> tuple[Release, ...]:
    """Those of the mechanisms that add discrete Gaussian noise, and nothing else."""
    return tuple(
        (leaf, count) for leaf, count in parts.groups if isinstance(leaf, DiscreteGaussian)
    )


def _grid_step(parts: Parts) -> float:
    # At order 2 the Rényi divergence is about the variance of the loss.
    variance, runs = parts.precision, 1 if parts.precision else 0
    for leaf, count in parts.groups:
        if isinstance(leaf, PoissonGaussian) and _reach(leaf) > _LONGEST_REACH:
            return _GRID_STEPS[-1]
        variance += count * float(divergences(leaf, (2,))[0])
        runs += count
    wanted = math.sqrt(12 * _ACCEPTED_EXCESS * variance / runs)
    return max((step for step in _GRID_STEPS if step <= wanted), default=_GRID_STEPS[0])


def _reach(leaf: PoissonGaussian) -> float:
    """About the largest loss of a step."""
    noise = leaf.noise_multiplier
    return math.log(leaf.sampling_rate) + (1 + 2 * _TAIL * noise) / (2 * noise**2)


@lru_cache(maxsize=128)
def _composed(groups: tuple[Group, ...], step: float) -> "PrivacyLossDistribution":
    """Compose blocks of powers of two, so that one group more finds most of them in the cache."""
    if len(groups) == 1:
        return _repeated(*groups[0], step)
    is_block = len(groups) & (len(groups) - 1) == 0
    last = len(groups) // 2 if is_block else len(groups) & -len(groups)
    return _composed(groups[:-last], step).compose(_composed(groups[-last:], step))


@lru_cache(maxsize=128)
def _repeated(leaf: Leaf, count: int, step: float) -> "PrivacyLossDistribution":
    single = _single(leaf, step)
    return single if count == 1 else single.self_compose(count)


@lru_cache(maxsize=32)
def _single(leaf: Leaf, step: float) -> "PrivacyLossDistribution":
    match leaf:
        case PoissonGaussian(sampling_rate, noise_multiplier):
            return _sampled_gaussian(sampling_rate, noise_multiplier, step)
        case Gaussian(noise_multiplier):
            return _gaussian(precision(noise_multiplier), step)
        case DiscreteGaussian(noise_std, sensitivity):
            return _discrete_gaussian(noise_std, sensitivity, step)
        case Laplace(noise_multiplier):
            epsilon = 1 / noise_multiplier
            return _from_curve(lambda at: -np.expm1((at - epsilon) / 2), -epsilon, epsilon, step)
        case DiscreteLaplace(noise_multiplier):
            epsilon = 1 / noise_multiplier
            return _from_curve(lambda at: _pure(at, epsilon), -epsilon, epsilon, step)
        case ExponentialQuantile(epsilon) | Exponential(epsilon):
            return _from_curve(lambda at: _bounded_range(at, epsilon), -epsilon, epsilon, step)
        case _:
            assert_never(leaf)


def _pure(at: Values, epsilon: float) -> Values:
    """Any epsilon-DP mechanism: randomised response (Kairouz et al. 2015, thm. 2.4)."""
    curve: Values = (math.exp(epsilon) - np.exp(at)) / (1 + math.exp(epsilon))
    return curve


def _bounded_range(at: Values, epsilon: float) -> Values:
    """Any mechanism whose losses lie in some [t - epsilon, t] (Dong et al. 2020, lemma 2).

    The worst t is different at each point, so this curve is that of no single mechanism: sound
    under composition (Zhu et al. 2022, thm. 10), and for many of them looser than the Rényi curve.
    """
    curve: Values = np.expm1((at - epsilon) / 2) ** 2 / -math.expm1(-epsilon)
    return curve


def _gaussian(mu_squared: float, step: float) -> "PrivacyLossDistribution":
    """All unsampled Gaussians together (Balle & Wang 2018, thm. 8)."""
    from scipy.special import log_ndtr, ndtr  # noqa: PLC0415  # slow to import

    mu, middle = math.sqrt(mu_squared), mu_squared / 2

    def curve(at: Values) -> Values:
        # The product in logarithms: either factor alone over- or underflows.
        rest: Values = np.exp(at + log_ndtr(-at / mu - mu / 2))
        return np.asarray(ndtr(mu / 2 - at / mu)) - rest

    return _from_curve(curve, middle - _TAIL * mu, middle + _TAIL * mu, step)


@lru_cache(maxsize=16)
def _discrete_gaussians(releases: tuple[Release, ...], step: float) -> "PrivacyLossDistribution":
    """Many releases with discrete Gaussian noise, the same in both directions."""
    from dp_accounting.pld import pld_pmf  # noqa: PLC0415  # slow to import
    from dp_accounting.pld.privacy_loss_distribution import (  # noqa: PLC0415
        PrivacyLossDistribution,
    )

    found = composed_losses(releases, step=step)
    return PrivacyLossDistribution(
        pld_pmf.DensePLDPmf(
            step, found.first, found.probabilities, found.lost, pessimistic_estimate=True
        )
    )


def _discrete_gaussian(sigma: float, sensitivity: int, step: float) -> "PrivacyLossDistribution":
    """One number with discrete Gaussian noise (Canonne et al. 2020, thm. 7)."""
    farthest = math.ceil(_TAIL * sigma) + 1
    numbers = np.arange(-farthest, farthest + 1)
    weights = np.exp(-0.5 * (numbers / sigma) ** 2)
    # tails[i] is the probability of numbers[i] or more; one past the end is 0.
    tails = np.append(np.cumsum(weights[::-1])[::-1], 0.0) / weights.sum()

    def at_least(number: Values) -> Values:
        index = np.clip(number + farthest, 0, len(numbers)).astype(np.int64)
        return np.asarray(tails[index])

    def curve(at: Values) -> Values:
        least = np.floor((at * sigma**2 - sensitivity**2 / 2) / sensitivity) + 1
        return at_least(least) - np.exp(at) * at_least(least + sensitivity)

    middle, reach = sensitivity**2 / (2 * sigma**2), farthest * sensitivity / sigma**2
    return _from_curve(curve, middle - reach, middle + reach, step)


def _sampled_gaussian(rate: float, noise: float, step: float) -> "PrivacyLossDistribution":
    """One step on a Poisson sample, in both directions (Koskela et al. 2020, sec. 5)."""
    from scipy.special import log_ndtr, ndtr  # noqa: PLC0415  # slow to import

    def loss(outcome: float) -> float:
        # Of the mixture (1 - rate) N(0, noise^2) + rate N(1, noise^2) against N(0, noise^2).
        exponent = (2 * outcome - 1) / (2 * noise**2)
        if exponent > 1:
            return exponent + math.log(rate + (1 - rate) * math.exp(-exponent))
        return math.log1p(rate * math.expm1(exponent))

    def log_growth(at: Values) -> Values:
        """The logarithm of 1 + (exp(at) - 1) / rate; minus infinity where that is negative."""
        with np.errstate(divide="ignore", invalid="ignore"):
            # In logarithms where it grows, because rates may be tiny.
            excess = at + np.log(-np.expm1(-at)) - math.log(rate)
            falling = np.log1p(np.maximum(np.expm1(np.minimum(at, 0.0)) / rate, -1.0))
            return np.where(at > 0, np.logaddexp(0.0, excess), falling)

    def removing(at: Values) -> Values:
        growth = log_growth(at)
        above = 0.5 + noise**2 * growth
        # The product in logarithms: either factor alone over- or underflows.
        without: Values = np.exp(growth + log_ndtr(-above / noise))
        gain: Values = rate * (ndtr((1 - above) / noise) - without)
        return np.where(np.isneginf(growth), -np.expm1(at), gain)

    def adding(at: Values) -> Values:
        below = 0.5 + noise**2 * log_growth(-at)
        with_unit = rate * ndtr((below - 1) / noise) + (1 - rate) * ndtr(below / noise)
        return np.asarray(ndtr(below / noise) - np.exp(at) * with_unit)

    lowest, highest = loss(-_TAIL * noise), loss(1 + _TAIL * noise)
    return _from_curves((removing, lowest, highest), (adding, -loss(_TAIL * noise), -lowest), step)


def _from_curve(
    curve: HockeyStick, lowest: float, highest: float, step: float
) -> "PrivacyLossDistribution":
    return _from_curves((curve, lowest, highest), None, step)


def _from_curves(
    removing: tuple[HockeyStick, float, float],
    adding: tuple[HockeyStick, float, float] | None,
    step: float,
) -> "PrivacyLossDistribution":
    from dp_accounting.pld import pld_pmf  # noqa: PLC0415  # slow to import
    from dp_accounting.pld.privacy_loss_distribution import (  # noqa: PLC0415
        PrivacyLossDistribution,
    )

    def on_grid(curve: HockeyStick, lowest: float, highest: float) -> pld_pmf.PLDPmf:
        first, last = math.floor(lowest / step), math.ceil(highest / step)
        at: Values = np.arange(first, last + 1, dtype=np.float64) * step
        # Beyond their range curves are known: nothing is left above, everything is lost below.
        deltas = np.where(at >= highest, curve(np.full(1, highest)), curve(at))
        deltas = np.where(at <= lowest, -np.expm1(at), deltas)
        falling: Values = np.minimum.accumulate(np.clip(deltas, 0.0, 1.0))
        return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(
            step, first, last, falling
        ).to_dense_pmf()

    return PrivacyLossDistribution(on_grid(*removing), None if adding is None else on_grid(*adding))
