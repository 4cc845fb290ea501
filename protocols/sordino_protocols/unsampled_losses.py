"""The privacy profile of Gaussian noise, continuous and discrete, where nothing is sampled.

All continuous noise is one Gaussian, whose loss is Gaussian; one release of discrete Gaussian noise
has a loss on a lattice. Their sum has a delta that is a finite sum of closed forms, exact. Of more
releases of discrete noise the losses are composed on a grid, which overstates epsilon by less than
a ten-thousandth (`composed_losses`). Neither takes the seconds that a library takes to be imported.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.composed_losses import composed_losses
from sordino_protocols.loss_distributions import Parts, discrete_releases
from sordino_protocols.privacy import DiscreteGaussian

Values = npt.NDArray[np.float64]

# Beyond this many standard deviations lies a mass of 1e-21, which counts as lost.
_TAIL = 9.5
_TAIL_MASS = 1e-20
# A sum of a few thousand terms is instant; more noise than this is rare, and has a grid.
_LARGEST_STD = 100.0
# From here on the error function is 0.
_UNDERFLOW = 38.0


@dataclass(frozen=True, slots=True)
class UnsampledLosses:
    """The losses of one Gaussian and of whatever else there is.

    Attributes:
        mu: of the Gaussian; 0 for none.
        losses: of the rest, [n], ascending; one of 0 for none.
        probabilities: of these losses.
        lost: the probability of a loss that is not among them.
    """

    mu: float
    losses: Values
    probabilities: Values
    lost: float

    def delta(self, epsilon: float) -> float:
        """The hockey-stick divergence at `epsilon`, the same in both directions."""
        if self.mu == 0:
            above = np.searchsorted(self.losses, epsilon, side="right")
            parts = -np.expm1(epsilon - self.losses[above:])
            return float((self.probabilities[above:] * parts).sum()) + self.lost
        terms = (
            share * self._gaussian(epsilon - loss)
            for loss, share in zip(self.losses.tolist(), self.probabilities.tolist(), strict=True)
        )
        return math.fsum(terms) + self.lost

    def _gaussian(self, epsilon: float) -> float:
        """The delta of the Gaussian at any real `epsilon` (Balle & Wang 2018, thm. 8)."""
        below = epsilon / self.mu - self.mu / 2
        if below > _UNDERFLOW:
            return 0.0
        # What is taken off is never more than what it is taken from, so it underflows as well.
        return _cdf(-below) - math.exp(min(epsilon, 700.0)) * _cdf(-below - self.mu)


def unsampled_losses(parts: Parts) -> UnsampledLosses | None:
    """The losses of an event that has no other mechanisms; None if it has."""
    mu = math.sqrt(parts.precision)
    releases = discrete_releases(parts)
    if len(releases) < len(parts.groups):
        return None
    match releases:
        case ():
            return UnsampledLosses(mu, np.zeros(1), np.ones(1), _TAIL_MASS)
        case ((release, 1),) if release.noise_std <= _LARGEST_STD:
            return UnsampledLosses(mu, *_lattice(release), _TAIL_MASS)
        case _:
            composed = composed_losses(releases, mu_squared=parts.precision)
            return UnsampledLosses(0.0, composed.losses(), composed.probabilities, composed.lost)


def _lattice(release: DiscreteGaussian) -> tuple[Values, Values]:
    noise_std, sensitivity = release.noise_std, release.sensitivity
    furthest = math.ceil(_TAIL * noise_std) + 1
    noises = np.arange(-furthest, furthest + 1, dtype=np.float64)
    weights = np.exp(-((noises / noise_std) ** 2) / 2)
    losses = sensitivity * (sensitivity + 2 * noises) / (2 * noise_std**2)
    return losses, weights / math.fsum(weights)


def _cdf(value: float) -> float:
    return math.erfc(-value / math.sqrt(2)) / 2
