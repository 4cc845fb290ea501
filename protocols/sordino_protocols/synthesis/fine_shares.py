"""How a coarse cell's records are spread over its fine cells, from noisy fine counts."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sordino_protocols.synthesis.shapes import SingleShape
from sordino_protocols.synthesis.stacking import Stack
from sordino_protocols.synthesis.tables import SiteTable

Floats = npt.NDArray[np.float64]


def fine_shares(tables: Sequence[SiteTable], coarse_units: Floats, stack: Stack) -> Floats:
    """Probabilities of the fine cells of all single columns given their coarse cells, flat.

    Within a coarse cell they are the distribution nearest to the noisy counts, of all sites
    together: noise that makes counts negative is taken off the others, too.

    Args:
        tables: of the sites.
        coarse_units: expected units in each stacked coarse cell, over all sites.
        stack: of the tables' shape.
    """
    sums = dict[int, Floats]()
    for table in tables:
        for marginal, _, counts in table.parts():
            if len(marginal.columns) == 1:
                index = marginal.columns[0]
                sums[index] = sums.get(index, 0.0) + counts
    shares = [np.zeros(0)]
    for index, (column, run) in enumerate(stack.columns()):
        if isinstance(column, SingleShape):
            shares.append(_within(sums.get(index), coarse_units[run], column))
    return np.concatenate(shares)


def _within(counts: Floats | None, totals: Floats, column: SingleShape) -> Floats:
    groups = np.array(column.groups)
    if counts is None:
        return 1 / np.repeat(groups, groups)
    found, begin = np.empty(column.fine), 0
    for size, total in zip(groups, totals, strict=True):
        run = slice(begin, begin + size)
        found[run] = _nearest_distribution(counts[run], max(float(total), 1e-9))
        begin += size
    return found


def _nearest_distribution(counts: Floats, total: float) -> Floats:
    """The nearest vector without negative entries that adds up to `total`, over `total`.

    Euclidean projection onto a simplex (Duchi et al. 2008, fig. 1).
    """
    ordered = -np.sort(-counts)
    excess = (np.cumsum(ordered) - total) / np.arange(1, len(counts) + 1)
    kept = int(np.count_nonzero(ordered > excess))
    nearest = np.maximum(counts - excess[kept - 1], 0)
    return np.asarray(nearest / nearest.sum())
