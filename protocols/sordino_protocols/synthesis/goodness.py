"""How well a fitted mixture explains the noisy counts: it needs no record, so it costs nothing."""

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.mixture import Mixture
from sordino_protocols.synthesis.shapes import SetShape, SingleShape
from sordino_protocols.synthesis.stacking import Stack, stack_of
from sordino_protocols.synthesis.tables import SiteTable

Floats = npt.NDArray[np.float64]


def goodness_of_fit(mixture: Mixture, table: SiteTable) -> float:
    """The mean over all counts of ((count - expected) / noise)^2.

    About 1 if the mixture is as good as the truth; below, as far as it has been fitted to the noise
    itself; above 1 by the squared error of its expectations, in units of the noise.

    Args:
        mixture: fitted to this table, and perhaps others.
        table: a site's.

    Raises:
        InputError: the mixture is of another shape, or was not fitted to this site.
    """
    stds = np.repeat(table.noise_stds, [each.cells for each in table.marginals])
    residuals = (table.counts - expected_counts(mixture, table)) / stds
    return float(np.mean(residuals**2))


def expected_counts(mixture: Mixture, table: SiteTable) -> Floats:
    """What the mixture expects each of a table's counts to be without noise.

    Raises:
        InputError: the mixture is of another shape, or was not fitted to this site.
    """
    if table.shape != mixture.shape:
        raise InputError("the mixture is of another shape than the table")
    weights = mixture.weights_of(table.site)
    units = float(mixture.units[mixture.sites.index(table.site)])
    ones = weights @ mixture.cells
    pairs = (mixture.cells * weights[:, np.newaxis]).T @ mixture.cells
    stack = stack_of(mixture.shape)
    fine = _fine_probabilities(mixture, stack, ones)
    expected = [np.zeros(0)]
    for marginal in table.marginals:
        if len(marginal.columns) == 1:
            expected.append(fine[marginal.columns[0]])
            continue
        first, second = (stack.run(each) for each in marginal.columns)
        block = pairs[first, second]
        within = marginal.columns[0] == marginal.columns[1]
        expected.append(block[np.triu_indices(len(block), 1)] if within else block.ravel())
    return units * np.concatenate(expected)


def _fine_probabilities(mixture: Mixture, stack: Stack, ones: Floats) -> list[Floats]:
    """Of each column's fine cells, or items."""
    found, begin = list[Floats](), 0
    for column, run in stack.columns():
        match column:
            case SetShape():
                found.append(ones[run])
            case SingleShape() as single:
                within = mixture.fine[begin : begin + single.fine]
                found.append(ones[run][single.coarse_of()] * within)
                begin += single.fine
    return found
