"""PrivBayes (Zhang et al. 2017): the public part, from what is paid to what is sampled.

A Bayesian network of coarse cells: each column's distribution given those of a few columns before
it. As in the paper's hierarchical encoding, columns are generalised where the network needs it: the
network knows coarse cells, and the fine one within comes from the noisy one-way marginal.

What looks at records is the site's: `sordino_client.synthesis.generators.privbayes`.
"""

import math
from collections.abc import Sequence
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
from sordino_protocols.synthesis.positions import (
    coarse_counts,
    drawn,
    fine_cells,
    probabilities,
    singles,
)
from sordino_protocols.synthesis.shapes import DomainShape

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]

# The paper's beta (section 6.1) is the share of the choices; of the rest, this much is for columns.
_CHOICE_SHARE = 0.3
_ONE_WAY_SHARE = 0.15
# The paper's theta (section 4.5): a table's average count over the noise on it is at least this.
_USEFULNESS = 4.0


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Three shares, as zCDP: fine one-way marginals, the choice of the network, its tables.

    The paper has Laplace noise; here it is Gaussian as everywhere, so that methods can be compared.

    Attributes:
        columns: how many there are.
        degree: most parents of a column.
        noise_multiplier: of all together.
        unit: whom the guarantee is about.
    """

    columns: int
    degree: int
    noise_multiplier: float
    unit: PrivacyUnit

    @property
    def tables(self) -> int:
        """Columns with parents: all but the root."""
        return self.columns - 1

    @property
    def one_way_std(self) -> float:
        """Sigma of the noise on each count of a one-way marginal."""
        share = (1 - _CHOICE_SHARE) * _ONE_WAY_SHARE if self.tables else 1.0
        return self.noise_multiplier * math.sqrt(self.columns / share)

    @property
    def table_std(self) -> float:
        """Sigma of the noise on each count of a column together with its parents."""
        share = (1 - _CHOICE_SHARE) * (1 - _ONE_WAY_SHARE)
        return self.noise_multiplier * math.sqrt(self.tables / share)

    @property
    def choice_epsilon(self) -> float:
        """Of the choice of one column: epsilon^2 / 8 in zCDP (Cesar & Rogers 2021)."""
        return math.sqrt(4 * _CHOICE_SHARE / self.tables) / self.noise_multiplier

    @property
    def event(self) -> Event:
        """What the whole costs."""
        one_ways = DiscreteGaussian(self.one_way_std, 1, self.unit)
        parts: list[Event] = [SelfComposed(one_ways, self.columns)]
        if self.tables:
            choice = Exponential(self.choice_epsilon, self.unit)
            tables = DiscreteGaussian(self.table_std, 1, self.unit)
            parts += [SelfComposed(choice, self.tables), SelfComposed(tables, self.tables)]
        return Composed(tuple(parts))

    def largest_table(self, units: float) -> float:
        """How many cells a table may have, for a number of units that may be known."""
        return units / (_USEFULNESS * self.table_std)


@dataclass(frozen=True, slots=True)
class Family:
    """A column and what it is drawn from.

    Attributes:
        child: the column.
        parents: columns before it; none for one that is drawn on its own.
    """

    child: int
    parents: tuple[int, ...]

    @property
    def columns(self) -> tuple[int, ...]:
        """The parents, then the child: the order of its table's axes."""
        return (*self.parents, self.child)


@dataclass(frozen=True, slots=True)
class BayesianNetwork:
    """Distributions of coarse cells, each column's given its parents'.

    Attributes:
        families: every column once, its parents before it.
        given: for each family, [combinations of the parents' cells, cells of the child].
        one_ways: noisy fine counts of each column, for the fine cells.
        flat: the shape, without sets.
    """

    families: tuple[Family, ...]
    given: tuple[Numbers, ...]
    one_ways: Sequence[Numbers]
    flat: DomainShape

    def sample(self, rows: int, *, rng: np.random.Generator) -> Cells:
        """Independent records of fine cells, [rows, columns]: parents before their children."""
        sizes = [column.coarse for column in singles(self.flat)]
        coarse = np.zeros((rows, len(sizes)), dtype=np.int32)
        for family, given in zip(self.families, self.given, strict=True):
            above = combined(coarse, family.parents, sizes)
            coarse[:, family.child] = drawn(given[above], rng=rng)
        return fine_cells(coarse, self.one_ways, self.flat, rng=rng)


def combined(coarse: Cells, columns: Sequence[int], sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    """One number for each record's combination of these columns' cells, the last fastest."""
    number = np.zeros(len(coarse), dtype=np.int64)
    for column in columns:
        number = number * sizes[column] + coarse[:, column]
    return number


def estimate(
    families: Sequence[Family],
    tables: Sequence[Numbers],
    one_ways: Sequence[Numbers],
    flat: DomainShape,
) -> BayesianNetwork:
    """The network with these noisy tables: negative counts are none, and rows add up to 1.

    A combination of parents that nobody seems to have gives the child its own distribution.

    Args:
        families: every column once, its parents before it.
        tables: for each family with parents, noisy counts [combinations of parents, child].
        one_ways: noisy fine counts of each column.
        flat: the shape, without sets.
    """
    own = [probabilities(counts) for counts in coarse_counts(one_ways, flat)]
    noisy = iter(tables)
    given = []
    for family in families:
        if not family.parents:
            given.append(own[family.child][None, :])
            continue
        counts = np.maximum(next(noisy), 0.0)
        is_seen = counts.sum(axis=1, keepdims=True) > 0
        given.append(np.where(is_seen, probabilities(counts), own[family.child]))
    return BayesianNetwork(tuple(families), tuple(given), one_ways, flat)
