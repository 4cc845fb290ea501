"""Small tables of cells with known dependences, for whatever measures and samples them."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from seeded_noise import SeededNoise

from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape

Cells = npt.NDArray[np.int32]

SHAPE = DomainShape(
    columns=(
        SingleShape(groups=(2, 2, 1)),
        SingleShape(groups=(1, 1, 1)),
        SingleShape(groups=(3, 3)),
        SetShape(items=3, at_most=2),
        SingleShape(groups=(1, 1)),
    ),
    label=4,
)
"""Five columns: the second follows the first, the last one follows the third."""


def small_table(units: int, *, seed: int = 0) -> Cells:
    """Records of `SHAPE`: [units, 7]."""
    rng = np.random.default_rng(seed)
    first = rng.choice(5, size=units, p=[0.4, 0.1, 0.2, 0.1, 0.2])
    coarse = np.repeat([0, 1, 2], [2, 2, 1])[first]
    second = np.where(rng.random(units) < 0.9, coarse, rng.integers(3, size=units))
    third = rng.integers(6, size=units)
    last = np.where(rng.random(units) < 0.85, third // 3, rng.integers(2, size=units))
    items = np.zeros((units, 3), dtype=np.int64)
    items[:, 0] = rng.random(units) < 0.6
    items[:, 1] = (rng.random(units) < 0.3) & (items[:, 0] == 1)
    return np.column_stack([first, second, third, items, last]).astype(np.int32)


def pair_distance(
    cells: Cells, others: Cells, pair: tuple[int, int], sizes: tuple[int, int]
) -> float:
    """Total variation between two tables' fine marginals of a pair of positions."""
    shares = [
        np.bincount(table[:, pair[0]] * sizes[1] + table[:, pair[1]], minlength=sizes[0] * sizes[1])
        / len(table)
        for table in (cells, others)
    ]
    return float(np.abs(shares[0] - shares[1]).sum()) / 2


@dataclass
class CountedNoise(SeededNoise):
    """Repeatable noise that notes how much of it was drawn, by sigma."""

    drawn: Counter[float] = field(default_factory=Counter)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> npt.NDArray[np.int64]:
        self.drawn[noise_std] += count
        return SeededNoise.discrete_gaussian(self, count, noise_std=noise_std)
