"""MST (McKenna, Miklau & Sheldon 2021): the site's part, with the paper's steps as the code.

A baseline, which loses against the default: it knows a pair a column, the default all of them, so
tables are about twice as far off, and models learnt from them much worse, as docs/synthesis.md
says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from sordino_client.synthesis.generators.columns import noisy_columns
from sordino_client.synthesis.generators.fitted import Fitted
from sordino_client.synthesis.generators.selection import choose
from sordino_client.synthesis.measure import measure, places_of
from sordino_client.training.noise import Noise
from sordino_protocols.synthesis.mst import Measured, Pair, Tree, TreePlan, estimate, rooted
from sordino_protocols.synthesis.positions import estimated_units, probabilities
from sordino_protocols.synthesis.shapes import DomainShape, SingleShape

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]

# The paper keeps a cell whose noisy count is this many standard deviations of the noise.
_KEPT = 3.0
# Expected counts are rounded to this, so that scores are exact: a power of two.
_GRID = 2.0**-10
_CHOICE_SENSITIVITY = 1.0


def fit_tree(cells: Cells, plan: TreePlan, *, flat: DomainShape, noise: Noise) -> Fitted:
    """A tree of pairs of columns: costs `plan.event`.

    Args:
        cells: [units, columns], of fine cells; a secret.
        plan: what is paid for.
        flat: their shape, without sets.
        noise: source of the randomness that privacy rests on.
    """
    one_ways = noisy_columns(cells, flat, noise_std=plan.one_way_std, noise=noise)
    units = estimated_units(one_ways)
    domain = compressed(one_ways, plan.one_way_std)
    merged, known = domain.merged(cells), domain.merged_counts(one_ways)
    pairs = select(merged, known, plan, units=units, noise=noise)
    two_ways = measure_pairs(merged, pairs, plan, domain=domain, noise=noise)
    tree = estimate(Measured(known, two_ways, plan.one_way_std, plan.pair_std), units=units)
    return Fitted(CompressedTree(domain, tree), units)


def select(
    cells: Cells, one_ways: Sequence[Numbers], plan: TreePlan, *, units: float, noise: Noise
) -> list[Pair]:
    """The tree: again and again an edge between parts that are not connected yet.

    An edge is the better the further its true marginal is from the product of the noisy one-way
    marginals, which is public by now: one unit more changes a single count by 1, and so the
    distance by 1 at most.
    """
    weights = {
        pair: _distance(cells, pair, one_ways, units=units)
        for pair in combinations(range(plan.columns), 2)
    }
    part = list(range(plan.columns))
    tree: list[Pair] = []
    for _ in range(plan.pairs):
        candidates = [pair for pair in weights if part[pair[0]] != part[pair[1]]]
        scores = np.array([weights[pair] for pair in candidates])
        i, j = candidates[
            choose(
                scores,
                epsilon=plan.choice_epsilon,
                sensitivity=_CHOICE_SENSITIVITY,
                noise=noise,
            )
        ]
        part = [part[i] if each == part[j] else each for each in part]
        tree.append((i, j))
    return tree


def measure_pairs(
    cells: Cells,
    pairs: Sequence[Pair],
    plan: TreePlan,
    *,
    domain: "CompressedDomain",
    noise: Noise,
) -> dict[Pair, Numbers]:
    """The chosen pairs as (parent, child), with noisy counts [cells of parent, cells of child]."""
    tree = rooted(pairs, plan.columns)
    marginals = plan.two_ways(domain.shape, tree)
    released = measure(cells, marginals, shape=domain.shape, noise=noise).astype(np.float64)
    tables = {}
    for (parent, child), place in zip(tree, places_of(marginals), strict=True):
        low, high = sorted((parent, child))
        table = released[place].reshape(domain.sizes[low], domain.sizes[high])
        tables[parent, child] = table if parent == low else table.T
    return tables


@dataclass(frozen=True, slots=True)
class CompressedDomain:
    """Columns whose cells with hardly a count were merged into one, the last.

    Attributes:
        places: for each column, [fine cells], the cell that stands for each.
        sizes: cells of each column.
    """

    places: tuple[Cells, ...]
    sizes: tuple[int, ...]

    @property
    def shape(self) -> DomainShape:
        """Of merged cells, the same at both resolutions."""
        return DomainShape(columns=tuple(SingleShape(groups=(1,) * size) for size in self.sizes))

    def merged(self, cells: Cells) -> Cells:
        """Fine cells as merged ones, [units, columns]."""
        columns = zip(cells.T, self.places, strict=True)
        return np.stack([place[fine] for fine, place in columns], axis=1)

    def merged_counts(self, one_ways: Sequence[Numbers]) -> list[Numbers]:
        """Noisy counts of the merged cells; what several were merged into has their sum."""
        columns = zip(self.places, one_ways, self.sizes, strict=True)
        return [
            np.bincount(place, counts, size).astype(np.float64) for place, counts, size in columns
        ]

    def split(self, merged: Cells, *, rng: np.random.Generator) -> Cells:
        """Fine cells for merged ones: each that was merged as likely."""
        columns = [
            _split(cells, place, rng=rng)
            for cells, place in zip(merged.T, self.places, strict=True)
        ]
        return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class CompressedTree:
    """A tree over merged cells, and the fine cells that these were merged of."""

    domain: CompressedDomain
    tree: Tree

    def sample(self, rows: int, *, rng: np.random.Generator) -> Cells:
        """Independent records of fine cells, [rows, columns]."""
        return self.domain.split(self.tree.sample(rows, rng=rng), rng=rng)


def compressed(one_ways: Sequence[Numbers], noise_std: float) -> CompressedDomain:
    """Merge the cells whose noisy count is less than three standard deviations of the noise."""
    places, sizes = [], []
    for counts in one_ways:
        is_kept = counts >= _KEPT * noise_std
        kept = int(is_kept.sum())
        places.append(np.where(is_kept, np.cumsum(is_kept) - 1, kept).astype(np.int32))
        sizes.append(kept if kept == len(counts) else kept + 1)
    return CompressedDomain(tuple(places), tuple(sizes))


def _split(merged: Cells, place: Cells, *, rng: np.random.Generator) -> Cells:
    order = np.argsort(place, kind="stable")
    sizes = np.bincount(place)
    first = np.cumsum(sizes) - sizes
    places: npt.NDArray[np.int64] = first[merged] + rng.integers(sizes[merged])
    return order[places].astype(np.int32)


def _distance(cells: Cells, pair: Pair, one_ways: Sequence[Numbers], *, units: float) -> float:
    """How far the pair is from independent, in units: exact, since all terms are on one grid."""
    i, j = pair
    expected = units * np.outer(probabilities(one_ways[i]), probabilities(one_ways[j]))
    together = cells[:, i].astype(np.int64) * expected.shape[1] + cells[:, j]
    counts = np.bincount(together, minlength=expected.size)
    return float(np.abs(counts - np.rint(expected.ravel() / _GRID) * _GRID).sum())
