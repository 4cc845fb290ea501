"""The default generator, run by one site alone: measure, fit, and sample."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sordino_client.synthesis.generators.fitted import Fitted
from sordino_client.synthesis.measure import measure
from sordino_client.training.noise import Noise
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.mixture_fit import fit_mixture
from sordino_protocols.synthesis.shapes import DomainShape
from sordino_protocols.synthesis.specs import MixtureSpec
from sordino_protocols.synthesis.tables import SiteTable, estimate_units

Cells = npt.NDArray[np.int32]

_HERE = "this site"


def fit_products(
    cells: Cells,
    marginals: Sequence[Marginal],
    spec: MixtureSpec,
    *,
    shape: DomainShape,
    noise: Noise,
    rng: np.random.Generator,
) -> Fitted:
    """A mixture of products: costs `marginals.event_of(marginals, unit)`.

    Args:
        cells: [units, positions], of fine cells; a secret.
        marginals: what to measure.
        spec: how many components.
        shape: of the cells.
        noise: source of the randomness that privacy rests on.
        rng: of where the fit begins.
    """
    released = measure(cells, marginals, shape=shape, noise=noise).astype(np.float64)
    noise_stds = tuple(marginal.noise_std for marginal in marginals)
    table = SiteTable(_HERE, shape, tuple(marginals), released, noise_stds)
    mixture = fit_mixture([table], components=spec.components, rng=rng)
    return Fitted(mixture, max(1.0, estimate_units(table).value))
