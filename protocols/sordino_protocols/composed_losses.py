"""The losses of many releases of discrete Gaussian noise together: all convolutions in one product.

A synthetic table is made of a hundred noisy marginals or a thousand, with dozens of different
sigmas. Every loss of a release lies on a lattice of its own, so there is no closed form of their
sum. Here each lattice is moved onto one grid: an outcome between two grid points becomes both of
them, with shares that keep its probability under either neighbour, which is what makes the moved
pair of distributions dominate the true one, alone and composed (Doroshenko et al. 2022, "connect
the dots"; Zhu et al. 2022, thm. 10). So a delta is overstated or right, never understated. Then the
composition is a product of Fourier transforms, each raised to how often its release is made.

Discrete Gaussians are sub-Gaussian: E exp(tX) / exp(t^2 sigma^2 / 2) is a sum of Gaussian weights
around a shifted centre over the one around 0, and by Poisson summation the latter is the largest.
That says how wide the grid must be; what is beyond it, and the rounding of the transforms, counts
as lost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.privacy import DiscreteGaussian

Values = npt.NDArray[np.float64]

# The grid overstates the variance of the losses by this much of it, and epsilon by half of that.
_ACCEPTED_EXCESS = 1e-4
# Beyond this many standard deviations lies a mass below 1e-21, in both tails together.
_TAIL = 10.0
_TAIL_MASS = 1e-21
_MOST_POINTS = 2**20
# What the rounding of a transform can add to a delta, for each release; tests find a hundredth.
_ROUNDING = 1e-15
_FIXED_ROUNDING = 1e-13

Release = tuple[DiscreteGaussian, int]
"""One release, and how often it is made."""


@dataclass(frozen=True, slots=True)
class GridLosses:
    """Losses on a grid, the same whichever of the neighbours has one unit more.

    Attributes:
        step: between grid points.
        first: the first loss, in steps.
        probabilities: of each grid point's loss.
        lost: the probability of a loss beyond the grid, rounding included.
    """

    step: float
    first: int
    probabilities: Values
    lost: float

    def losses(self) -> Values:
        """The grid's points, [n]."""
        places = np.arange(self.first, self.first + len(self.probabilities), dtype=np.float64)
        return places * self.step


def composed_losses(
    releases: Sequence[Release], *, mu_squared: float = 0.0, step: float | None = None
) -> GridLosses:
    """The losses of all releases together; they dominate the true ones.

    Args:
        releases: at least one.
        mu_squared: of one more release, with continuous Gaussian noise; 0 for none.
        step: the grid's; None for one that overstates the variance of the losses by 1e-4 of it, or
            as much as a million grid points do.
    """
    precisions = [(leaf.sensitivity / leaf.noise_std) ** 2 for leaf, _ in releases]
    runs = sum(count for _, count in releases) + (mu_squared > 0)
    variance = mu_squared + math.fsum(
        precision * count for precision, (_, count) in zip(precisions, releases, strict=True)
    )
    if step is None:
        step = _grid_step(variance, runs)
    reach = _reach(variance, runs, step)
    points = 1 << math.ceil(math.log2(2 * reach / step + 3))
    product, shift = np.ones(points // 2 + 1, dtype=np.complex128), 0
    for (leaf, count), precision in zip(releases, precisions, strict=True):
        middle = round(precision / 2 / step)
        product *= np.fft.rfft(_on_grid(leaf, step, middle, points)) ** count
        shift += middle * count
    if mu_squared:
        middle = round(mu_squared / 2 / step)
        product *= np.fft.rfft(_gaussian_on_grid(mu_squared, step, middle, points))
        shift += middle
    # Position k of the product holds all losses of k + shift steps, modulo the grid's length.
    first = math.floor((variance / 2 - reach) / step) - 1
    probabilities = np.roll(np.fft.irfft(product, points), shift - first)
    lost = _FIXED_ROUNDING + runs * (_ROUNDING + _TAIL_MASS)
    return GridLosses(step, first, np.maximum(probabilities, 0.0), lost)


def _grid_step(variance: float, runs: int) -> float:
    # An outcome anywhere between two grid points gains a sixth of the step squared on average.
    wanted = math.sqrt(6 * _ACCEPTED_EXCESS * variance / runs)
    return max(wanted, 2 * _reach(variance, runs, wanted) / (_MOST_POINTS - 3))


def _reach(variance: float, runs: int, step: float) -> float:
    """How far from `variance / 2` the sum of the moved losses is, but for a mass of 1e-21."""
    # A move is bounded by a step (Hoeffding), and by an eighth of its square on average.
    return _TAIL * math.sqrt(variance + runs * step**2 / 4) + runs * step**2 / 8


def _on_grid(leaf: DiscreteGaussian, step: float, middle: int, points: int) -> Values:
    """The probabilities of one release's losses, `middle` steps being at index 0."""
    furthest = math.ceil(_TAIL * leaf.noise_std)
    noises = np.arange(-furthest, furthest + 1, dtype=np.float64)
    weights = np.exp(-0.5 * (noises / leaf.noise_std) ** 2)
    weights /= weights.sum()
    losses = leaf.sensitivity * (leaf.sensitivity + 2 * noises) / (2 * leaf.noise_std**2)
    below = np.floor(losses / step)
    rest = np.clip(losses / step - below, 0.0, 1.0)
    upper = weights * (np.expm1(-rest * step) / math.expm1(-step))
    return _gathered(below.astype(np.int64) - middle, weights - upper, upper, points)


def _gaussian_on_grid(mu_squared: float, step: float, middle: int, points: int) -> Values:
    """The same of a continuous Gaussian: each piece between grid points moves to both of them."""
    from scipy.special import ndtr  # noqa: PLC0415  # slow to import

    mu = math.sqrt(mu_squared)
    first, last = (math.floor((mu_squared / 2 + side * _TAIL * mu) / step) for side in (-1, 1))
    edges = np.arange(first, last + 2) * step

    def masses(mean: float) -> Values:
        scores = (edges - mean) / mu
        # In the nearer tail, where differences keep their digits.
        upper = scores[:-1] > 0
        low, high = (
            np.where(upper, -scores[1:], scores[:-1]),
            np.where(upper, -scores[:-1], scores[1:]),
        )
        return np.asarray(ndtr(high) - ndtr(low))

    present, absent = masses(mu_squared / 2), masses(-mu_squared / 2)
    upper = (present - absent * np.exp(edges[:-1])) / -math.expm1(-step)
    upper = np.clip(upper, 0.0, present)
    return _gathered(np.arange(first, last + 1) - middle, present - upper, upper, points)


def _gathered(below: npt.NDArray[np.int64], lower: Values, upper: Values, points: int) -> Values:
    """The masses at `below` and one step above it, on a circle of so many points."""
    gathered: Values = np.zeros(points)
    gathered += np.bincount(below % points, lower, points)
    gathered += np.bincount((below + 1) % points, upper, points)
    return gathered
