"""Fit a mixture of products to noisy marginals, of one site or of several at once.

The noise on every count is known, so the fit looks for the greatest Gaussian likelihood of all
counts together, which is a weighted sum of squares. With the cells of all columns in one vector,
all pairs that a site measured are one matrix, P diag(w) P', where P [cells, components] is shared
and w [components] is the site's: a step is two products of matrices a site, whatever the number of
columns. Nothing here is private: it works on what was released.

Many mixtures explain the counts as well as their noise allows, and the likeliest one explains the
noise, too. Of those that leave about as much unexplained as there is noise (Morozov 1966, the
discrepancy principle), the fit takes one of high entropy: one that says no more of three columns
together than was measured of two. And of the weights that a site's own counts allow, it takes those
nearest to the weights of all sites together, so a small site borrows what it cannot tell itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.fine_shares import fine_shares
from sordino_protocols.synthesis.mixture import Mixture
from sordino_protocols.synthesis.stacking import Stack, StackedTable, stack_of, stacked
from sordino_protocols.synthesis.tables import SiteTable, estimate_units

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Generator = np.random.Generator

DEFAULT_STEPS = 800
_LEARNING_RATE = 0.1
_MEMORY, _SQUARE_MEMORY = 0.9, 0.99
_TINY = 1e-12
_START_SPREAD = 1.0
_SMALLEST_START, _LARGEST_START = 1e-4, 0.99
_FEWEST_UNITS = 1.0

# How hard the fit is pulled towards entropy, a number measured: as hard as leaves this unexplained.
_UNEXPLAINED = 0.95
_FIRST_PULL, _LEAST_PULL, _MOST_PULL = 0.1, 1e-6, 1e3
# It is looked at after so large a share of the steps, every so many of them, and answered so hard.
_HELD, _LOOK = 0.25, 10
_ANSWER, _LARGEST_CHANGE = 2.0, 0.3
_SMALLEST_PROBABILITY = 1e-20


def fit_mixture(
    tables: Sequence[SiteTable], *, components: int, rng: Generator, steps: int = DEFAULT_STEPS
) -> Mixture:
    """The mixture of highest entropy that explains the sites' counts, as far as the steps find it.

    Deterministic: the same tables and the same generator give the same mixture.

    Args:
        tables: one a site, of one shape.
        components: of the mixture.
        rng: draws where the search begins.
        steps: of the search.

    Raises:
        InputError: there is no table, or they are of several shapes.
    """
    if not tables or any(table.shape != tables[0].shape for table in tables):
        raise InputError("a mixture is fitted to the tables of at least one site, all of one shape")
    problem = _problem_of(tables)
    logits = _start(problem, components=components, rng=rng)
    cell_search, weight_search = _Adam(logits.cells, steps), _Adam(logits.weights, steps)
    pull = _FIRST_PULL
    # Matrices are so small that threads cost more than they save, and much more on a busy machine;
    # and sums in one order are the same everywhere.
    with threadpool_limits(1, user_api="blas"):
        for step in range(steps):
            if step % _LOOK == 0 and step > _HELD * steps:
                pull = _adjusted(pull, _unexplained(logits, problem))
            slopes = _slopes(logits, problem, pull)
            cell_search.move(slopes.cells)
            weight_search.move(slopes.weights)
    return _fitted(logits, tables, problem)


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """What a site measured, as shares of its units, and how much each share weighs.

    Attributes:
        ones: of single cells, [stack].
        one_weights: as long.
        pairs: of pairs of cells, [stack, stack].
        pair_weights: as large; 0 where nothing was measured.
    """

    ones: Matrix
    one_weights: Matrix
    pairs: Matrix
    pair_weights: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """What is to be explained.

    Attributes:
        stack: where each cell stands.
        units: of each site, [sites].
        parts: the same as shares of all, [sites].
        targets: of each site.
        numbers: how many were measured.
        scale: squared errors in units of the noise, over weighted squared errors.
    """

    stack: Stack
    units: Floats
    parts: Matrix
    targets: Sequence[_Target]
    numbers: int
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class _Logits:
    """What is searched, or its slopes: log-odds of cells and of components, up to constants.

    Attributes:
        cells: [stack, components].
        weights: [sites, components].
    """

    cells: Matrix
    weights: Matrix


def _problem_of(tables: Sequence[SiteTable]) -> _Problem:
    stack = stack_of(tables[0].shape)
    units = np.array([max(estimate_units(each).value, _FEWEST_UNITS) for each in tables])
    measured = [stacked(table, stack) for table in tables]
    # The precision of a share is that of the count, times the square of the units.
    scale = max(
        float(max(each.pair_precisions.max(), each.one_precisions.max())) * count**2
        for each, count in zip(measured, units, strict=True)
    )
    targets = [
        _target(each, count, scale=scale) for each, count in zip(measured, units, strict=True)
    ]
    numbers = sum(
        int(np.count_nonzero(each.one_precisions) + np.count_nonzero(each.pair_precisions) // 2)
        for each in measured
    )
    parts = (units / units.sum()).astype(np.float32)
    return _Problem(stack, units, parts, targets, numbers, scale)


def _target(table: StackedTable, units: float, *, scale: float) -> _Target:
    return _Target(
        (table.ones / units).astype(np.float32),
        (table.one_precisions * units**2 / scale).astype(np.float32),
        (table.pairs / units).astype(np.float32),
        (table.pair_precisions * units**2 / scale).astype(np.float32),
    )


def _start(problem: _Problem, *, components: int, rng: Generator) -> _Logits:
    """Components that differ from the measured shares of single cells by chance."""
    stack = problem.stack
    shares = np.mean([target.ones for target in problem.targets], axis=0)
    shares = np.clip(shares, _SMALLEST_START, _LARGEST_START)
    odds = np.where(stack.is_item(), np.log(shares / (1 - shares)), np.log(shares))
    spread = rng.normal(scale=_START_SPREAD, size=(stack.length, components))
    return _Logits(
        (odds[:, np.newaxis] + spread).astype(np.float32),
        np.zeros((len(problem.targets), components), dtype=np.float32),
    )


def _unexplained(logits: _Logits, problem: _Problem) -> float:
    """The mean squared error of the numbers in units of their noise: 1 for the truth."""
    cells, total = _cells_of(logits, problem.stack), 0.0
    for target, share in zip(problem.targets, _weights_of(logits), strict=True):
        errors = (cells * share) @ cells.T - target.pairs
        total += float(np.vdot(errors * target.pair_weights, errors)) / 2
        ones = cells @ share - target.ones
        total += float(np.vdot(ones * target.one_weights, ones))
    return problem.scale * total / problem.numbers


def _adjusted(pull: float, unexplained: float) -> float:
    """Pull harder towards entropy as long as there is less unexplained than there is noise."""
    change = _ANSWER * (_UNEXPLAINED - unexplained)
    change = np.clip(change, -_LARGEST_CHANGE, _LARGEST_CHANGE)
    return float(np.clip(pull * np.exp(change), _LEAST_PULL, _MOST_PULL))


def _slopes(logits: _Logits, problem: _Problem, pull: float) -> _Logits:
    """Of half the squared errors, less the pull's part.

    An error counts once for each number that was measured. The pull, times the numbers of a site,
    is towards entropy and away from divergence. The entropy is that of a record whose component is
    known, averaged over components and sites: a lower bound on the mixture's. The divergence is
    that of a site's weights from the weights of all (Kullback & Leibler), which are taken as given.
    """
    cells, weights = _cells_of(logits, problem.stack), _weights_of(logits)
    surprises = -np.log(np.maximum(cells, _SMALLEST_PROBABILITY))
    entropies = np.einsum("ck,ck->k", cells, surprises)
    force = np.float32(pull * problem.numbers / len(weights) / problem.scale)
    together = problem.parts @ weights
    by_cell, by_weight = np.zeros_like(cells), np.zeros_like(weights)
    for site, (target, share) in enumerate(zip(problem.targets, weights, strict=True)):
        errors = (cells * share) @ cells.T
        errors -= target.pairs
        errors *= target.pair_weights
        slope = errors @ cells
        ones = target.one_weights * (cells @ share - target.ones)
        by_weight[site] = np.einsum("ck,ck->k", slope, cells) / 2 + ones @ cells
        slope += ones[:, np.newaxis]
        slope -= force * problem.parts[site] * surprises
        slope *= share
        by_cell += slope
    by_weight -= force * problem.parts[:, np.newaxis] * entropies
    by_weight += force * _log_ratios(weights, together)
    return _Logits(_cell_slopes(cells, by_cell, problem.stack), _weight_slopes(weights, by_weight))


def _log_ratios(weights: Matrix, together: Matrix) -> Matrix:
    """Of each site's weights to those of all."""
    ratios: Matrix = np.log(
        np.maximum(weights, _SMALLEST_PROBABILITY) / np.maximum(together, _SMALLEST_PROBABILITY)
    )
    return ratios


def _cells_of(logits: _Logits, stack: Stack) -> Matrix:
    """Probabilities: a softmax over each single column, a logistic function of each item."""
    tops = np.maximum.reduceat(logits.cells, stack.starts)
    powers = np.exp(logits.cells - np.repeat(tops, stack.widths, axis=0))
    cells: Matrix = powers / np.repeat(np.add.reduceat(powers, stack.starts), stack.widths, axis=0)
    is_item = stack.is_item()
    if is_item.any():
        cells[is_item] = 0.5 + 0.5 * np.tanh(0.5 * logits.cells[is_item])
    return cells


def _weights_of(logits: _Logits) -> Matrix:
    powers = np.exp(logits.weights - logits.weights.max(axis=1, keepdims=True))
    weights: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return weights


def _cell_slopes(cells: Matrix, by_cell: Matrix, stack: Stack) -> Matrix:
    products = cells * by_cell
    sums = np.repeat(np.add.reduceat(products, stack.starts), stack.widths, axis=0)
    is_item = stack.is_item()
    if is_item.any():
        sums[is_item] = products[is_item]
    slopes: Matrix = products - cells * sums
    return slopes


def _weight_slopes(weights: Matrix, by_weight: Matrix) -> Matrix:
    products = weights * by_weight
    slopes: Matrix = products - weights * products.sum(axis=1, keepdims=True)
    return slopes


def _fitted(logits: _Logits, tables: Sequence[SiteTable], problem: _Problem) -> Mixture:
    cells = _cells_of(logits, problem.stack).T.astype(np.float64)
    weights = _weights_of(logits).astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    return Mixture(
        shape=problem.stack.shape,
        sites=tuple(table.site for table in tables),
        units=problem.units,
        weights=weights,
        cells=cells,
        fine=fine_shares(tables, problem.units @ weights @ cells, problem.stack),
    )


class _Adam:
    """Moves an array in place, with steps that shrink to nothing by half a cosine (Kingma & Ba)."""

    def __init__(self, place: Matrix, steps: int) -> None:
        self._place = place
        self._steps = steps
        self._taken = 0
        self._mean, self._square = np.zeros_like(place), np.zeros_like(place)

    def move(self, slopes: Matrix) -> None:
        """One step."""
        rate = _LEARNING_RATE * (1 + np.cos(np.pi * self._taken / self._steps)) / 2
        self._taken += 1
        self._mean *= _MEMORY
        self._mean += (1 - _MEMORY) * slopes
        self._square *= _SQUARE_MEMORY
        self._square += (1 - _SQUARE_MEMORY) * slopes**2
        lengths = np.sqrt(self._square / (1 - _SQUARE_MEMORY**self._taken)) + _TINY
        self._place -= np.float32(rate / (1 - _MEMORY**self._taken)) * self._mean / lengths
