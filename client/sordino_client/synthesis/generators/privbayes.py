"""PrivBayes (Zhang et al. 2017): the site's part, with the paper's steps as the code.

A baseline, which loses against the default: tables are more than twice as far off, and models
learnt from them a little worse, as docs/synthesis.md says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import prod

import numpy as np
import numpy.typing as npt

from sordino_client.synthesis.generators.columns import noisy_columns
from sordino_client.synthesis.generators.fitted import Fitted
from sordino_client.synthesis.generators.selection import choose
from sordino_client.training.noise import Noise
from sordino_client.training.sampling import uniform_integers
from sordino_protocols.synthesis.positions import coarse_cells, estimated_units, singles
from sordino_protocols.synthesis.privbayes import Family, NetworkPlan, combined, estimate
from sordino_protocols.synthesis.shapes import DomainShape

Cells = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

CHOICE_SENSITIVITY = 2.0
"""What one unit more can change `dependence` by.

With a = c(x)/n and b = c(p)/n of the new unit's cells, the count moves by 1 there, and the product
c(x)c(p)/n by n(1-a)(1-b)/(n+1) less than that; it moves by as much in all over the other cells of
the row, of the column, and of the rest. The sum of the absolute changes is 4n(1-a)(1-b)/(n+1) < 4,
half of which counts.
"""


def fit_network(cells: Cells, plan: NetworkPlan, *, flat: DomainShape, noise: Noise) -> Fitted:
    """A Bayesian network: costs `plan.event`.

    Args:
        cells: [units, columns], of fine cells; a secret.
        plan: what is paid for.
        flat: their shape, without sets.
        noise: source of the randomness that privacy rests on.
    """
    one_ways = noisy_columns(cells, flat, noise_std=plan.one_way_std, noise=noise)
    units = estimated_units(one_ways)
    coarse = CoarseTable(coarse_cells(cells, flat), [column.coarse for column in singles(flat)])
    families = select(coarse, plan, units=units, noise=noise)
    tables = [
        _noisy(coarse.counts(family), noise=noise, noise_std=plan.table_std)
        for family in families
        if family.parents
    ]
    return Fitted(estimate(families, tables, one_ways, flat), units)


def select(coarse: "CoarseTable", plan: NetworkPlan, *, units: float, noise: Noise) -> list[Family]:
    """Greedy Bayes (alg. 2): a root at random, then column after column with its best parents.

    What may be chosen is public: it follows from what was chosen before, and from the noisy number
    of units, which says how many cells a table may have and still be of use (section 4.5).
    """
    root = int(uniform_integers(1, below=plan.columns, noise=noise)[0])
    families = [Family(root, ())]
    largest = plan.largest_table(units)
    for _ in range(plan.tables):
        placed = sorted(family.child for family in families)
        candidates = [*_candidates(placed, coarse.sizes, degree=plan.degree, largest=largest)]
        scores = np.array([coarse.dependence(family) for family in candidates])
        chosen = choose(
            scores, epsilon=plan.choice_epsilon, sensitivity=CHOICE_SENSITIVITY, noise=noise
        )
        families.append(candidates[chosen])
    return families


def _candidates(
    placed: Sequence[int], sizes: Sequence[int], *, degree: int, largest: float
) -> Iterator[Family]:
    """Every column that is left, with each set of parents whose table is of use, or with none."""
    for child in set(range(len(sizes))).difference(placed):
        yield Family(child, ())
        for count in range(1, min(degree, len(placed)) + 1):
            for parents in combinations(placed, count):
                if prod(sizes[column] for column in (*parents, child)) <= largest:
                    yield Family(child, parents)


def dependence(table: Counts) -> float:
    """The paper's score R (section 5.3) times the number of units.

    It is 0 if the child is independent of its parents.

    Args:
        table: [combinations of parents, cells of the child]; a secret, as is the result.
    """
    total = int(table.sum())
    if total == 0:
        return 0.0
    independent = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    return float(np.abs(table - independent).sum()) / 2


@dataclass(frozen=True, slots=True)
class CoarseTable:
    """Coarse cells, and how dependent the families are that were asked about."""

    cells: Cells
    sizes: Sequence[int]
    _known: dict[Family, float] = field(default_factory=dict, repr=False)

    def counts(self, family: Family) -> Counts:
        """Exact counts, [combinations of parents, cells of the child]: a secret."""
        width = self.sizes[family.child]
        length = prod(self.sizes[column] for column in family.columns)
        places = combined(self.cells, family.columns, self.sizes)
        return np.bincount(places, minlength=length).astype(np.int64).reshape(-1, width)

    def dependence(self, family: Family) -> float:
        """See the function of that name."""
        if not family.parents:
            return 0.0
        if family not in self._known:
            self._known[family] = dependence(self.counts(family))
        return self._known[family]


def _noisy(table: Counts, *, noise: Noise, noise_std: float) -> Numbers:
    drawn = noise.discrete_gaussian(table.size, noise_std=noise_std)
    return (table + drawn.reshape(table.shape)).astype(np.float64)
