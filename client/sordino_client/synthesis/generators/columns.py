"""The first step of every baseline: each column's fine one-way marginal, with noise."""

import numpy as np
import numpy.typing as npt

from sordino_client.synthesis.measure import measure, places_of
from sordino_client.training.noise import Noise
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.positions import singles
from sordino_protocols.synthesis.shapes import DomainShape

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]


def noisy_columns(
    cells: Cells, flat: DomainShape, *, noise_std: float, noise: Noise
) -> list[Numbers]:
    """Noisy counts [fine cells] of each column: costs a `DiscreteGaussian(noise_std)` each.

    Args:
        cells: [units, columns], of fine cells; a secret.
        flat: their shape, without sets.
        noise_std: sigma of the noise.
        noise: source of the randomness.
    """
    marginals = [
        Marginal((index,), "fine", column.fine, 1, noise_std)
        for index, column in enumerate(singles(flat))
    ]
    released = measure(cells, marginals, shape=flat, noise=noise).astype(np.float64)
    return [released[place] for place in places_of(marginals)]
