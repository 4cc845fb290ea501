"""An autoregressive network of a table (`sordino_protocols.nade`): what is paid and sampled.

The network knows coarse cells; which fine cell of it a record has is drawn from the noisy one-way
marginal, as for the other generators. Sampling goes position by position, each given those before.

What looks at records is the site's: `sordino_client.synthesis.generators.nade`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_protocols.errors import InputError
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.privacy import Composed, Event, PoissonGaussian, PrivacyUnit
from sordino_protocols.synthesis.marginals import Marginal, event_of, one_ways_of
from sordino_protocols.synthesis.positions import (
    coarse_counts,
    drawn,
    fine_cells,
    flattened,
    probabilities,
    singles,
)
from sordino_protocols.synthesis.shapes import DomainShape

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]

# Each makes what the network says of one column closer to its noisy marginal.
_CORRECTIONS = 10
# Rows that are worked on together.
_ROWS_TOGETHER = 50_000


@dataclass(frozen=True, slots=True)
class NadePlan:
    """What runs: fine one-way marginals, then DP-SGD.

    What training costs is taken to be mu^2 = `sampling_rate^2 * steps / noise_multiplier^2`, which
    it is for much noise (Dong, Roth & Su 2022, sec. 5), to find the noise of the marginals. What
    both cost together is up to the accountant.

    Attributes:
        shape: of the cells.
        fine_share: share of mu squared that the marginals get.
        sampling_rate: probability with which a unit enters a step's batch.
        steps: of DP-SGD.
        noise_multiplier: of DP-SGD.
        unit: whom the guarantee is about.
    """

    shape: DomainShape
    fine_share: float
    sampling_rate: float
    steps: int
    noise_multiplier: float
    unit: PrivacyUnit

    @property
    def one_ways(self) -> tuple[Marginal, ...]:
        """What is measured before training."""
        training = (self.sampling_rate / self.noise_multiplier) ** 2 * self.steps
        precision = training * self.fine_share / (1 - self.fine_share)
        return one_ways_of(self.shape, noise_multiplier=1 / math.sqrt(precision))

    @property
    def training_event(self) -> PoissonGaussian:
        """What DP-SGD costs."""
        return PoissonGaussian(self.sampling_rate, self.noise_multiplier, self.steps, self.unit)

    @property
    def event(self) -> Event:
        """What the whole costs."""
        return Composed((event_of(self.one_ways, self.unit), self.training_event))


@dataclass(frozen=True, slots=True)
class NadeWeights:
    """The flat vector of a `NadeModelSpec`, taken apart.

    Attributes:
        vectors: [cells, hidden], of each cell.
        maps: [cells, hidden], to each cell's logit.
        biases: [cells].
    """

    vectors: Numbers
    maps: Numbers
    biases: Numbers


@dataclass(frozen=True, slots=True)
class TrainedNade:
    """A network of coarse cells, with the noisy marginals that say what is fine.

    Attributes:
        spec: of the network: coarse cells.
        weights: flat.
        one_ways: noisy fine counts of each position of `flat`.
        flat: the shape, each item of a set a column.
    """

    spec: NadeModelSpec
    weights: Numbers
    one_ways: tuple[Numbers, ...]
    flat: DomainShape

    def sample(self, rows: int, *, rng: np.random.Generator) -> Cells:
        """Independent records of fine cells, [rows, positions].

        Each column is brought to its noisy marginal, which is closer to the records than what the
        network learnt of it; how a column goes with those before it stays what was learnt.
        """
        known = [probabilities(each) for each in coarse_counts(self.one_ways, self.flat)]
        coarse = _in_parts(self.weights, self.spec, rows, known, rng=rng)
        return fine_cells(coarse, self.one_ways, self.flat, rng=rng)


def sample_nade(
    weights: Numbers,
    spec: NadeModelSpec,
    shape: DomainShape,
    rows: int,
    *,
    rng: np.random.Generator,
) -> Cells:
    """Records of a network that a run trained.

    Args:
        weights: flat; what is behind the model's own is ignored.
        spec: of fine or coarse cells, column by column.
        shape: of the cells.
        rows: how many.
        rng: draws.

    Returns:
        [rows, positions] of fine cells; where the network knows coarse ones, each fine cell within
        is as likely. A set may hold more items than it should: see `positions.within_sets`.

    Raises:
        InputError: the network is not of this shape, or the weights are too few.
    """
    flat = flattened(shape)
    check_cells(spec, shape)
    cells = _in_parts(weights, spec, rows, None, rng=rng)
    even = [np.ones(column.fine) for column in singles(flat)]
    fine = fine_cells(_as_coarse(cells, spec, flat), even, flat, rng=rng)
    is_fine = [_is_fine(width, at, flat) for at, width in enumerate(spec.cells)]
    return np.where(is_fine, cells, fine).astype(np.int32)


def check_cells(spec: NadeModelSpec, shape: DomainShape) -> None:
    """Return if every position of a network has the fine cells or the coarse ones of a shape.

    Raises:
        InputError: it has not; says which, and how many cells there are.
    """
    columns = singles(flattened(shape))
    if len(spec.cells) != len(columns):
        raise InputError(
            f"model.nade: cells has {len(spec.cells)} positions; the data set has {len(columns)}"
        )
    for at, (width, column) in enumerate(zip(spec.cells, columns, strict=True)):
        if width not in (column.fine, column.coarse):
            raise InputError(
                f"model.nade: cells[{at}] is {width}; the data set has {column.fine} fine cells"
                f" there, and {column.coarse} coarse ones"
            )


def cells_for(spec: NadeModelSpec, cells: Cells, shape: DomainShape) -> Cells:
    """Fine cells as a network takes them: coarse where it knows coarse ones.

    Args:
        spec: of the network.
        cells: [records, positions], fine.
        shape: of the cells.

    Raises:
        InputError: the network is not of this shape.
    """
    check_cells(spec, shape)
    flat = flattened(shape)
    columns = [
        each if _is_fine(width, at, flat) else singles(flat)[at].coarse_of()[each]
        for at, (width, each) in enumerate(zip(spec.cells, cells.T, strict=True))
    ]
    return np.stack(columns, axis=1).astype(np.int32)


def unpacked(weights: Numbers, spec: NadeModelSpec) -> NadeWeights:
    """Views of a flat vector.

    Raises:
        InputError: it is too short.
    """
    total = spec.layout.total
    ends = np.cumsum([total * spec.hidden, total * spec.hidden, total])
    if len(weights) < ends[-1]:
        raise InputError(f"{len(weights)} weights; the model has {ends[-1]}")
    vectors, maps, biases, _ = np.split(weights, ends)
    shape = (total, spec.hidden)
    return NadeWeights(vectors.reshape(shape), maps.reshape(shape), biases)


def _in_parts(
    weights: Numbers,
    spec: NadeModelSpec,
    rows: int,
    known: Sequence[Numbers] | None,
    *,
    rng: np.random.Generator,
) -> Cells:
    """The network's own cells, [rows, positions]."""
    parts = unpacked(weights.astype(np.float64), spec)
    counts = [min(_ROWS_TOGETHER, rows - at) for at in range(0, rows, _ROWS_TOGETHER)]
    drawn_parts = [_drawn(parts, spec, count, known, rng=rng) for count in counts]
    return np.concatenate([np.zeros((0, len(spec.cells)), np.int32), *drawn_parts])


def _drawn(
    weights: NadeWeights,
    spec: NadeModelSpec,
    rows: int,
    known: Sequence[Numbers] | None,
    *,
    rng: np.random.Generator,
) -> Cells:
    before = np.zeros((rows, spec.hidden))
    cells = np.zeros((rows, len(spec.cells)), dtype=np.int32)
    for at, (start, width) in enumerate(zip(spec.layout.starts(), spec.cells, strict=True)):
        place = slice(start, start + width)
        logits = np.tanh(before) @ weights.maps[place].T + weights.biases[place]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        if known is not None:
            chances = _corrected(chances, known[at])
        cells[:, at] = drawn(chances, rng=rng)
        before += weights.vectors[start + cells[:, at]]
    return cells


def _corrected(chances: Numbers, known: Numbers) -> Numbers:
    """One factor a cell for all rows, so that the mean over the rows is the marginal.

    Iterative proportional fitting of one margin, with the sum of each row as the other.
    """
    factors = np.ones_like(known)
    for _ in range(_CORRECTIONS):
        rates = chances @ factors
        found = factors * (chances / rates[:, None]).mean(axis=0)
        factors = factors * np.divide(known, found, out=np.zeros_like(known), where=found > 0)
        if not np.all(chances @ factors > 0):
            return chances
    return chances * factors


def _as_coarse(cells: Cells, spec: NadeModelSpec, flat: DomainShape) -> Cells:
    columns = [
        column.coarse_of()[each] if _is_fine(width, at, flat) else each
        for at, (width, column, each) in enumerate(
            zip(spec.cells, singles(flat), cells.T, strict=True)
        )
    ]
    return np.stack(columns, axis=1).astype(np.int32)


def _is_fine(width: int, at: int, flat: DomainShape) -> bool:
    return width == singles(flat)[at].fine
