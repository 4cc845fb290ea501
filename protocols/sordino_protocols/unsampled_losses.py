"""The privacy profile of Gaussian noise, continuous and discrete, where nothing is sampled: exact.

All continuous noise is one Gaussian, whose loss is Gaussian; one release of discrete Gaussian noise
has a loss on a lattice. Their sum has a delta that is a finite sum of closed forms, so a full-batch
run with one noisy table is priced without a distribution's grid, and without the seconds that a
library takes to be imported.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sordino_protocols.loss_distributions import Parts
from sordino_protocols.privacy import DiscreteGaussian

# Beyond this many standard deviations lies a mass of 1e-21, which counts as lost.
_TAIL = 9.5
_TAIL_MASS = 1e-20
# A sum of a few thousand terms is instant; more noise than this is rare, and has a grid.
_LARGEST_STD = 100.0
# From here on the error function is 0.
_UNDERFLOW = 38.0


@dataclass(frozen=True, slots=True)
class UnsampledLosses:
    """The losses of one Gaussian and of one release of discrete noise.

    Attributes:
        mu: of the Gaussian; 0 for none.
        lattice: losses of the discrete noise, each with its probability; one of 0 for none.
    """

    mu: float
    lattice: Sequence[tuple[float, float]]

    def delta(self, epsilon: float) -> float:
        """The hockey-stick divergence at `epsilon`, the same in both directions."""
        terms = (share * self._gaussian(epsilon - loss) for loss, share in self.lattice)
        return math.fsum(terms) + _TAIL_MASS

    def _gaussian(self, epsilon: float) -> float:
        """The delta of the Gaussian at any real `epsilon` (Balle & Wang 2018, thm. 8)."""
        if self.mu == 0:
            return max(0.0, -math.expm1(epsilon))
        below = epsilon / self.mu - self.mu / 2
        if below > _UNDERFLOW:
            return 0.0
        # What is taken off is never more than what it is taken from, so it underflows as well.
        return _cdf(-below) - math.exp(min(epsilon, 700.0)) * _cdf(-below - self.mu)


def unsampled_losses(parts: Parts) -> UnsampledLosses | None:
    """The losses of an event that is no more than that; None if it is."""
    mu = math.sqrt(parts.precision)
    match parts.groups:
        case ():
            return UnsampledLosses(mu, ((0.0, 1.0),))
        case ((DiscreteGaussian(noise_std, sensitivity), 1),) if noise_std <= _LARGEST_STD:
            return UnsampledLosses(mu, _lattice(noise_std, sensitivity))
        case _:
            return None


def _lattice(noise_std: float, sensitivity: int) -> list[tuple[float, float]]:
    furthest = math.ceil(_TAIL * noise_std) + 1
    noises = range(-furthest, furthest + 1)
    weights = [math.exp(-((noise / noise_std) ** 2) / 2) for noise in noises]
    total = math.fsum(weights)
    losses = [sensitivity * (sensitivity + 2 * noise) / (2 * noise_std**2) for noise in noises]
    return [(loss, weight / total) for loss, weight in zip(losses, weights, strict=True)]


def _cdf(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2
