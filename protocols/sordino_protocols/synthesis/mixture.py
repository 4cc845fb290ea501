"""A mixture of products: the model of a table that noisy marginals are fitted by.

    p(x) = sum over components k of weight_k * product over columns j of p_kj(x_j)

Components are over coarse cells and shared by all sites; each site has weights of its own. Within a
coarse cell, a fine one is drawn from the column's own fine marginal. All of it is made of numbers
that were paid for, so rows are free, and any number may be drawn.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape
from sordino_protocols.synthesis.stacking import stack_of

Cells = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Generator = np.random.Generator

# Stays below 1 when it is added to the number of a component.
_BELOW_ONE = 1 - 2.0**-40


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """A fitted mixture.

    Attributes:
        shape: of the cells.
        sites: the names of those it was fitted to.
        units: how many privacy units each site is taken to have, [sites]; not negative.
        weights: of the components, a row a site that adds up to 1, [sites, components].
        cells: probability of each stacked cell, [components, length of the stack]; a single
            column's run adds up to 1, an item of a set is in a record or not.
        fine: probability of each fine cell of the single columns, one column after another, given
            its coarse cell.
    """

    shape: DomainShape
    sites: tuple[str, ...]
    units: Floats
    weights: Floats
    cells: Floats
    fine: Floats

    def __post_init__(self) -> None:
        components, length = len(self.weights.T), stack_of(self.shape).length
        fine = sum(each.fine for each in self.shape.columns if isinstance(each, SingleShape))
        shapes = {
            "units": (self.units, (len(self.sites),)),
            "weights": (self.weights, (len(self.sites), components)),
            "cells": (self.cells, (components, length)),
            "fine": (self.fine, (fine,)),
        }
        for name, (numbers, expected) in shapes.items():
            if numbers.shape != expected:
                raise InputError(f"mixture: {name} is {numbers.shape}, expected {expected}")
            if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
                raise InputError(f"mixture: {name} must be finite and not negative")

    def weights_of(self, site: str | None) -> Floats:
        """The components' weights at a site, or over all sites by their size, [components].

        Raises:
            InputError: it was not fitted to this site.
        """
        if site is None:
            shares = self.units if self.units.sum() > 0 else np.ones(len(self.sites))
            return np.asarray(shares / shares.sum() @ self.weights)
        if site not in self.sites:
            raise InputError(f"no site {site!r}; there are {', '.join(self.sites)}")
        return np.asarray(self.weights[self.sites.index(site)])

    def sample(self, rows: int, *, rng: Generator, site: str | None = None) -> Cells:
        """Rows of cells, [rows, positions].

        Each row has the mixture's distribution. Together they vary less than independent rows do:
        components, and cells within a component, come as often as they should, up to rounding.

        Args:
            rows: how many.
            rng: draws them.
            site: as one site's records; None: as all sites' together.

        Raises:
            InputError: it was not fitted to this site.
        """
        component = _strata(self.weights_of(site), rows, rng)
        cells = np.empty((rows, self.shape.position_count), dtype=np.int32)
        stack = stack_of(self.shape)
        fine_start = 0
        for position, (column, run) in zip(self.shape.starts(), stack.columns(), strict=True):
            probabilities = self.cells[:, run]
            match column:
                case SetShape(items=items, at_most=at_most):
                    drawn = _items(probabilities[component], at_most=at_most, rng=rng)
                    cells[:, position : position + items] = drawn
                case SingleShape() as single:
                    coarse = _drawn(probabilities, component, rng)
                    fine = self.fine[fine_start : fine_start + single.fine]
                    cells[:, position] = _fine_of(coarse, single, fine, rng)
                    fine_start += single.fine
        return cells[rng.permutation(rows)]


def _strata(weights: Floats, rows: int, rng: Generator) -> Rows:
    """Which component each row is of, ascending: systematic sampling."""
    points = (np.arange(rows) + rng.random()) / max(rows, 1)
    return _found(np.cumsum(weights), points)


def _drawn(probabilities: Floats, stratum: Rows, rng: Generator) -> Rows:
    """A cell for each row, by the probabilities [strata, cells] of the row's stratum.

    Within a stratum one uniform number lies in each of as many equal intervals as there are rows.

    Args:
        probabilities: each row adds up to 1.
        stratum: of each row.
        rng: draws.
    """
    points = _spread(stratum, len(probabilities), rng)
    # One ascending sequence for all strata: stratum s lies in (s, s + 1].
    ends = np.cumsum(probabilities, axis=1)
    ends = np.clip(ends / ends[:, -1:], 0, 1) + np.arange(len(ends))[:, np.newaxis]
    width = probabilities.shape[1]
    places = np.searchsorted(ends.ravel(), points + stratum, side="right")
    # A cell of probability 0 is never found: its end is that of the one before it.
    return np.asarray(np.clip(places - stratum * width, 0, width - 1))


def _spread(stratum: Rows, strata: int, rng: Generator) -> Floats:
    """Uniform numbers in [0, 1): within a stratum, one in each of as many intervals as rows."""
    counts = np.bincount(stratum, minlength=strata)
    order = np.lexsort((rng.random(len(stratum)), stratum))
    firsts = np.cumsum(counts) - counts
    rank = np.empty(len(stratum))
    rank[order] = np.arange(len(stratum)) - firsts[stratum[order]]
    points = (rank + rng.random(len(stratum))) / counts[stratum]
    return np.asarray(np.minimum(points, _BELOW_ONE))


def _fine_of(coarse: Rows, column: SingleShape, fine: Floats, rng: Generator) -> Rows:
    """A fine cell within each coarse one, by the probabilities [fine] given the coarse cell."""
    groups = np.array(column.groups)
    firsts = np.cumsum(groups) - groups
    within = np.arange(column.fine) - np.repeat(firsts, groups)
    table = np.zeros((column.coarse, int(groups.max())))
    table[column.coarse_of(), within] = fine
    return np.asarray(firsts[coarse] + _drawn(table, coarse, rng))


def _items(probabilities: Floats, *, at_most: int, rng: Generator) -> Cells:
    """Zeros and ones, [rows, items]; of too many ones, as many as allowed are kept at random."""
    chosen = rng.random(probabilities.shape) < probabilities
    crowded = np.flatnonzero(chosen.sum(axis=1) > at_most)
    if len(crowded):
        keys = np.where(chosen[crowded], rng.random((len(crowded), chosen.shape[1])), 2.0)
        kept = np.argsort(keys, axis=1)[:, :at_most]
        chosen[crowded] = False
        chosen[crowded[:, np.newaxis], kept] = True
    return chosen.astype(np.int32)


def _found(ends: Floats, points: Floats) -> Rows:
    places = np.searchsorted(ends / ends[-1], points, side="right")
    return np.asarray(np.minimum(places, len(ends) - 1))
