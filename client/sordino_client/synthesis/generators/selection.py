"""The exponential mechanism: one of several candidates, the better its score the likelier.

A candidate is proposed uniformly and kept with probability exp(epsilon * (score - best) / (2 *
sensitivity)), until one is kept: this draws exactly from the mechanism's distribution (McSherry &
Talwar 2007), without exponentials that over- or underflow and without noise in floating point. How
often it proposes depends on the scores, and so does the time. Fine-grained timing is not defended
against here.
"""

import math

import numpy as np
import numpy.typing as npt

from sordino_client.training.noise import Noise
from sordino_client.training.sampling import uniform_integers

Scores = npt.NDArray[np.float64]

# Scores are sums in double precision, and off by far less than this share of a sensitivity.
_ROUNDING = 2.0**-20


def choose(scores: Scores, *, epsilon: float, sensitivity: float, noise: Noise) -> int:
    """The index of one score: costs `Exponential(epsilon)`.

    Args:
        scores: [candidates], finite; a secret. Which candidates there are must be public.
        epsilon: of the choice.
        sensitivity: what one unit more can change a score by.
        noise: source of the randomness.

    Raises:
        ValueError: there is no candidate, or a score is not finite.
    """
    if not len(scores) or not bool(np.isfinite(scores).all()):
        raise ValueError("expected scores, all of them finite")
    exponents = (scores.max() - scores) * (epsilon / (2 * sensitivity * (1 + _ROUNDING)))
    while True:
        for proposed in uniform_integers(len(scores), below=len(scores), noise=noise):
            chance = math.exp(-exponents[proposed])
            if noise.bernoulli(1, probability=chance)[0]:
                return int(proposed)
