"""The noisy marginals of a site, and how many privacy units they say there are."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.synthesis.marginals import Marginal
from sordino_protocols.synthesis.shapes import DomainShape, SetShape

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SiteTable:
    """What a site released of its records, or several sites together.

    Attributes:
        site: its name; of a sum over sites, any name.
        shape: of the cells.
        marginals: what was counted.
        counts: float64, all noisy counts, one marginal after another.
        noise_stds: standard deviation of the noise on each count of a marginal, one a marginal.
    """

    site: str
    shape: DomainShape
    marginals: tuple[Marginal, ...]
    counts: Floats
    noise_stds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.noise_stds) != len(self.marginals) or not all(
            0 < each < math.inf for each in self.noise_stds
        ):
            raise InputError("a table has a positive noise_std for each of its marginals")
        if self.counts.shape != (sum(each.cells for each in self.marginals),):
            raise InputError(
                f"a table of these marginals has other counts than {self.counts.shape}"
            )
        if not np.isfinite(self.counts).all():
            raise InputError("a table's counts must be finite")

    def parts(self) -> Iterator[tuple[Marginal, float, Floats]]:
        """Each marginal with the noise on its counts, and the counts."""
        begin = 0
        for marginal, noise_std in zip(self.marginals, self.noise_stds, strict=True):
            yield marginal, noise_std, self.counts[begin : begin + marginal.cells]
            begin += marginal.cells


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that is not known exactly.

    Attributes:
        value: the estimate.
        sd: standard deviation of its error.
    """

    value: float
    sd: float


def estimate_units(table: SiteTable) -> Estimate:
    """How many privacy units a table is of: it is never sent, and costs nothing more.

    Every marginal of single columns has each unit in one cell, so its noisy counts add up to the
    number of units and the sum of their noise. The sums are averaged by their precision, which
    makes an unbiased estimate; `value` may be negative where there are few units.

    Raises:
        InputError: no marginal is of single columns alone.
    """
    sums, precisions = list[float](), list[float]()
    for marginal, noise_std, counts in table.parts():
        if not any(isinstance(table.shape.columns[each], SetShape) for each in marginal.columns):
            sums.append(float(counts.sum()))
            precisions.append(1 / (marginal.cells * noise_std**2))
    if not sums:
        raise InputError("the number of units cannot be told from sets alone")
    return Estimate(float(np.average(sums, weights=precisions)), 1 / math.sqrt(sum(precisions)))
