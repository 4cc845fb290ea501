"""MST (McKenna, Miklau & Sheldon 2021): the public part, from what is paid to what is sampled.

A tree of pairs of columns, chosen and measured with noise, becomes the distribution of greatest
entropy among those closest to all measured marginals, by the proximal descent of private-pgm
(McKenna, Sheldon & Miklau 2019, alg. 1). On a tree, belief propagation gives the marginals exactly.

What looks at records is the site's: `sordino_client.synthesis.generators.mst`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.privacy import (
    Composed,
    DiscreteGaussian,
    Event,
    Exponential,
    PrivacyUnit,
    SelfComposed,
)
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.positions import drawn, singles
from sordino_protocols.synthesis.shapes import DomainShape

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]
Pair = tuple[int, int]
"""Two columns; in a rooted tree the first is the parent."""

_STEPS = 1_500
_GROWTH = 1.5
# The descent ends where so many steps gain less than this share of what is left.
_STEPS_TOGETHER, _SMALLEST_GAIN = 50, 1e-3


@dataclass(frozen=True, slots=True)
class TreePlan:
    """Three equal shares, as zCDP: one-way marginals, the choice of the tree, its pairs.

    Attributes:
        columns: how many there are.
        noise_multiplier: of all together: each share is a third of 1 / (2 noise_multiplier^2).
        unit: whom the guarantee is about.
    """

    columns: int
    noise_multiplier: float
    unit: PrivacyUnit

    @property
    def pairs(self) -> int:
        """Edges of the tree."""
        return self.columns - 1

    @property
    def one_way_std(self) -> float:
        """Sigma of the noise on each count of a one-way marginal."""
        shares = 3 if self.pairs else 1
        return self.noise_multiplier * math.sqrt(shares * self.columns)

    @property
    def pair_std(self) -> float:
        """Sigma of the noise on each count of a pair."""
        return self.noise_multiplier * math.sqrt(3 * self.pairs)

    @property
    def choice_epsilon(self) -> float:
        """Of the choice of one edge: epsilon^2 / 8 in zCDP (Cesar & Rogers 2021)."""
        return math.sqrt(8 / (6 * self.pairs)) / self.noise_multiplier

    @property
    def event(self) -> Event:
        """What the whole costs."""
        one_ways = DiscreteGaussian(self.one_way_std, 1, self.unit)
        parts: list[Event] = [SelfComposed(one_ways, self.columns)]
        if self.pairs:
            choice = Exponential(self.choice_epsilon, self.unit)
            two_ways = DiscreteGaussian(self.pair_std, 1, self.unit)
            parts += [SelfComposed(choice, self.pairs), SelfComposed(two_ways, self.pairs)]
        return Composed(tuple(parts))

    def two_ways(self, flat: DomainShape, tree: Sequence[Pair]) -> tuple[Marginal, ...]:
        """What is measured of the chosen pairs, each with its columns ascending."""
        sizes = [column.coarse for column in singles(flat)]
        return tuple(
            Marginal((i, j), "coarse", sizes[i] * sizes[j], 1, self.pair_std)
            for i, j in (sorted(pair) for pair in tree)
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """Noisy counts of a tree's columns and edges, with their noise.

    Attributes:
        one_ways: [cells] of each column.
        two_ways: [cells of the first, cells of the second] of each edge.
        one_way_std: sigma on the first.
        pair_std: sigma on the second.
    """

    one_ways: Sequence[Numbers]
    two_ways: Mapping[Pair, Numbers]
    one_way_std: float
    pair_std: float


@dataclass(frozen=True, slots=True)
class Tree:
    """A distribution that is a product along a rooted tree.

    Attributes:
        root: column that is drawn first.
        first: [cells of the root], its probabilities.
        edges: parent and child, every parent before its children.
        given: for each edge, [cells of the parent, cells of the child]: probabilities of the
            child's cells for each of the parent's.
    """

    root: int
    first: Numbers
    edges: tuple[Pair, ...]
    given: tuple[Numbers, ...]

    def one_ways(self) -> dict[int, Numbers]:
        """Each column's probabilities."""
        marginals = {self.root: self.first}
        for (parent, child), given in zip(self.edges, self.given, strict=True):
            marginals[child] = marginals[parent] @ given
        return marginals

    def two_ways(self) -> dict[Pair, Numbers]:
        """Each edge's probabilities, [cells of the parent, cells of the child]."""
        marginals = self.one_ways()
        edges = zip(self.edges, self.given, strict=True)
        return {edge: marginals[edge[0]][:, None] * given for edge, given in edges}

    def sample(self, rows: int, *, rng: np.random.Generator) -> Cells:
        """Independent records, [rows, columns]."""
        cells = np.zeros((rows, len(self.edges) + 1), dtype=np.int32)
        cells[:, self.root] = drawn(np.broadcast_to(self.first, (rows, len(self.first))), rng=rng)
        for (parent, child), given in zip(self.edges, self.given, strict=True):
            cells[:, child] = drawn(given[cells[:, parent]], rng=rng)
        return cells


def rooted(pairs: Sequence[Pair], columns: int) -> tuple[Pair, ...]:
    """The edges of a tree as (parent, child), from column 0 outwards.

    Raises:
        ValueError: the pairs are no tree over so many columns.
    """
    edges: list[Pair] = []
    reached, waiting = {0}, list(pairs)
    while waiting:
        found = next((pair for pair in waiting if len(reached.intersection(pair)) == 1), None)
        if found is None:
            raise ValueError("expected the edges of a tree")
        waiting.remove(found)
        edges.append(found if found[0] in reached else found[::-1])
        reached.update(found)
    if len(reached) != columns:
        raise ValueError("expected the edges of a tree over all columns")
    return tuple(edges)


def estimate(measured: Measured, *, units: float, steps: int = _STEPS) -> Tree:
    """The tree closest to all measured marginals: least squares, weighted by the noise.

    Args:
        measured: noisy counts; edges as (parent, child), every parent before its children.
        units: how many records the counts are of, as far as one knows.
        steps: of the descent at most, those that were taken back included.
    """
    edges = tuple(measured.two_ways)
    nodes = [np.zeros_like(counts) for counts in measured.one_ways]
    links = {edge: np.zeros_like(counts) for edge, counts in measured.two_ways.items()}
    tree = _propagated(nodes, links, edges)
    loss, slopes = _loss(tree, measured, units)
    length = min(measured.one_way_std, measured.pair_std or measured.one_way_std) ** 2 / units
    before = math.inf
    for step in range(steps):
        if step % _STEPS_TOGETHER == 0:
            if loss > (1 - _SMALLEST_GAIN) * before:
                break
            before = loss
        tried_nodes = [a - length * b for a, b in zip(nodes, slopes.one_ways, strict=True)]
        tried_links = {edge: links[edge] - length * slopes.two_ways[edge] for edge in edges}
        tried = _propagated(tried_nodes, tried_links, edges)
        tried_loss, tried_slopes = _loss(tried, measured, units)
        if tried_loss <= loss:
            tree, loss, slopes = tried, tried_loss, tried_slopes
            nodes, links = tried_nodes, tried_links
            length *= _GROWTH
        else:
            length /= _GROWTH**2
    return tree


@dataclass(frozen=True, slots=True)
class _Slopes:
    """How the loss grows with each marginal."""

    one_ways: Sequence[Numbers]
    two_ways: Mapping[Pair, Numbers]


def _loss(tree: Tree, measured: Measured, units: float) -> tuple[float, _Slopes]:
    """Half the squared distance in standard deviations of the noise, and its slopes."""
    found, pairs = tree.one_ways(), tree.two_ways()
    ones = [
        (units * found[column] - counts) / measured.one_way_std
        for column, counts in enumerate(measured.one_ways)
    ]
    twos = {
        edge: (units * pairs[edge] - counts) / measured.pair_std
        for edge, counts in measured.two_ways.items()
    }
    distances = [float(np.sum(each**2)) for each in (*ones, *twos.values())]
    slopes = _Slopes(
        [each / measured.one_way_std for each in ones],
        {edge: each / measured.pair_std for edge, each in twos.items()},
    )
    return sum(distances) / 2, slopes


def _propagated(
    nodes: Sequence[Numbers], links: Mapping[Pair, Numbers], edges: Sequence[Pair]
) -> Tree:
    """Belief propagation: the tree whose log-probabilities are these, up to a constant."""
    beliefs = [*nodes]
    given: dict[Pair, Numbers] = {}
    for parent, child in reversed(edges):
        together = links[parent, child] + beliefs[child]
        peaks = together.max(axis=1, keepdims=True)
        weights = np.exp(together - peaks)
        totals = weights.sum(axis=1, keepdims=True)
        given[parent, child] = weights / totals
        beliefs[parent] = beliefs[parent] + (peaks + np.log(totals))[:, 0]
    root = edges[0][0] if edges else 0
    first = np.exp(beliefs[root] - beliefs[root].max())
    return Tree(root, first / first.sum(), tuple(edges), tuple(given[edge] for edge in edges))
