"""How a synthesis spends its privacy: which table took which share, and what a row costs.

Independent Gaussian noise composes in squares: `contribution / noise_std^2` of all tables add up to
`1 / noise_multiplier^2` (Dong, Roth & Su 2022), so each table's part of that sum is its share of
the privacy, exactly. Rows are sampled from what was released and cost nothing, however many.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.plan import SynthesisPlan
from sordino_protocols.privacy import PoissonGaussian
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.specs import NadeSpec, VaeSpec

Matrix = npt.NDArray[np.float64]

_MOST_POINTS = 12


@dataclass(frozen=True, slots=True)
class TableShare:
    """One noisy table of a release.

    Attributes:
        columns: names of its one or two columns; the same twice for the pairs of a set's items.
        is_fine: at full resolution, else coarse.
        cells: how many counts it has.
        noise_std: of the noise on each.
        share: of the release's privacy, as squared mu.
    """

    columns: tuple[str, ...]
    is_fine: bool
    cells: int
    noise_std: float
    share: float

    @property
    def title(self) -> str:
        """What a person calls it."""
        return " \N{MULTIPLICATION SIGN} ".join(self.columns)


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a generator that is trained had spent after some steps."""

    steps: int
    epsilon: float


def table_shares(plan: SynthesisPlan, names: Sequence[str]) -> tuple[TableShare, ...]:
    """The tables of a release in its order; none for a generator that releases no marginals.

    Args:
        plan: of the release.
        names: of the columns of its shape, in order.
    """
    marginals = plan.marginals
    whole = math.fsum(_weight(each) for each in marginals)
    return tuple(
        TableShare(
            columns=tuple(names[column] for column in each.columns),
            is_fine=each.resolution == "fine",
            cells=each.cells,
            noise_std=each.noise_std,
            share=_weight(each) / whole,
        )
        for each in marginals
    )


def share_matrix(shares: Sequence[TableShare], names: Sequence[str]) -> Matrix:
    """Shares by column and column, symmetric; one-way tables on the diagonal. [names, names].

    The upper triangle with the diagonal adds up to 1.
    """
    place = {name: index for index, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    for each in shares:
        first, last = place[each.columns[0]], place[each.columns[-1]]
        matrix[first, last] += each.share
        if first != last:
            matrix[last, first] += each.share
    return matrix


def column_shares(shares: Sequence[TableShare], names: Sequence[str]) -> dict[str, float]:
    """What each column took: its own tables, and half of every table with another column.

    The shares of all columns add up to 1.
    """
    matrix = share_matrix(shares, names)
    own = np.diag(matrix)
    return dict(zip(names, ((matrix.sum(axis=1) + own) / 2).tolist(), strict=True))


def step_costs(plan: SynthesisPlan, delta: float) -> tuple[StepCost, ...]:
    """Epsilon by PLD over the steps of a generator that is trained; none for the others."""
    return tuple(_step_costs(plan, delta))


def _step_costs(plan: SynthesisPlan, delta: float) -> Iterator[StepCost]:
    generator = plan.generator
    if not isinstance(generator, NadeSpec | VaeSpec):
        return
    points = np.unique(np.linspace(1, generator.steps, _MOST_POINTS).round().astype(int))
    for steps in points.tolist():
        event = PoissonGaussian(generator.sampling_rate, plan.noise_multiplier, steps, plan.unit)
        yield StepCost(steps, epsilon_by_pld(event, delta))


def _weight(marginal: Marginal) -> float:
    return marginal.contribution / marginal.noise_std**2
