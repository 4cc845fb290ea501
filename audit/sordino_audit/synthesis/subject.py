"""What is audited of a release of marginals: the function that makes it, and on what it is tried.

`measured` is the product's own. Anything else of the same form can be probed and attacked alike,
which is how the probes are shown to find what they look for.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sordino_audit.bounds import gaussian
from sordino_client.synthesis.measure import measure
from sordino_client.training.noise import Noise
from sordino_protocols.privacy import DiscreteGaussian, leaves
from sordino_protocols.synthesis.marginals import Marginal, event_of
from sordino_protocols.synthesis.shapes import DomainShape, SetShape, SingleShape
from sordino_protocols.synthesis.specs import MixtureSpec

Cells = npt.NDArray[np.int32]
Released = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What a release of marginals is made of.

    Attributes:
        cells: [units, positions].
        marginals: what to count, and with which noise.
        shape: of the cells.
        noise: source of the randomness.
    """

    cells: Cells
    marginals: tuple[Marginal, ...]
    shape: DomainShape
    noise: Noise


Release = Callable[[Asked], Released]
"""Makes a release: flat noisy counts, marginal by marginal."""


def measured(asked: Asked) -> Released:
    """The release of the product."""
    return measure(asked.cells, asked.marginals, shape=asked.shape, noise=asked.noise)


@dataclass(frozen=True, slots=True)
class ReleaseCase:
    """A shape and a plan on which release code is tried.

    Attributes:
        name: for people.
        shape: of the cells.
        marginals: the plan.
    """

    name: str
    shape: DomainShape
    marginals: tuple[Marginal, ...]

    @property
    def mu(self) -> float:
        """Of the Gaussian guarantee that the ledger charges for: the root of all 1/sigma^2."""
        return mu_of(self.marginals)

    @property
    def length(self) -> int:
        """How many counts a release has."""
        return sum(each.cells for each in self.marginals)

    def noise_stds(self) -> Floats:
        """The planned sigma of every count, [length]."""
        stds = np.array([each.noise_std for each in self.marginals])
        return np.repeat(stds, [each.cells for each in self.marginals])

    def epsilon(self, delta: float) -> float:
        """What a release claims at `delta`, if its noise were continuous: as near as makes none."""
        return gaussian.epsilon_from_mu(self.mu, delta)

    def asked(self, cells: Cells, noise: Noise) -> Asked:
        """A release of these cells."""
        return Asked(cells, self.marginals, self.shape, noise)

    def nobody(self) -> Cells:
        """Cells of no unit at all."""
        return np.zeros((0, self.shape.position_count), dtype=np.int32)


def mu_of(marginals: tuple[Marginal, ...]) -> float:
    """The mu that is charged for these marginals, read off the event that a ledger pays.

    Raises:
        ValueError: the event has a part that is no discrete Gaussian.
    """
    squared = 0.0
    for leaf, count in leaves(event_of(marginals, "record")):
        if not isinstance(leaf, DiscreteGaussian):
            raise ValueError("expected marginals to be charged as discrete Gaussians")  # noqa: TRY004
        squared += count * (leaf.sensitivity / leaf.noise_std) ** 2
    return math.sqrt(squared)


def case_of(name: str, shape: DomainShape, *, noise_multiplier: float) -> ReleaseCase:
    """The default generator's plan for a shape."""
    return ReleaseCase(name, shape, MixtureSpec().marginals(shape, noise_multiplier))


def default_cases() -> tuple[ReleaseCase, ...]:
    """A table, and one with sets and a label, so that every kind of marginal occurs."""
    word = SingleShape(groups=(2,) * 35 + (1,))
    label = SingleShape(groups=(1, 1))
    # Wide enough that a few releases have enough noise to be weighed.
    table = DomainShape(columns=(word, word, word), label=None)
    sets = DomainShape(
        columns=(SetShape(items=6, at_most=3), label, SetShape(items=4, at_most=1)), label=1
    )
    return (
        case_of("a table", table, noise_multiplier=4.0),
        case_of("a table with sets", sets, noise_multiplier=4.0),
    )


def drawn_cells(shape: DomainShape, count: int, *, rng: np.random.Generator) -> Cells:
    """Cells that a schema of this shape allows, each as likely; sets of up to `at_most` items."""
    blocks = [_drawn(column, count, rng) for column in shape.columns]
    return np.concatenate(blocks, axis=1).astype(np.int32)


def extreme_cells(shape: DomainShape) -> Cells:
    """One unit in all first cells, one in all last ones; sets empty, and as full as may be."""
    first = [np.zeros(_width(column), dtype=np.int32) for column in shape.columns]
    last = [_last(column) for column in shape.columns]
    return np.stack([np.concatenate(first), np.concatenate(last)])


def _drawn(
    column: SingleShape | SetShape, count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    if isinstance(column, SingleShape):
        return rng.integers(0, column.fine, (count, 1))
    order = rng.random((count, column.items)).argsort(axis=1).argsort(axis=1)
    return (order < rng.integers(0, column.at_most + 1, (count, 1))).astype(np.int64)


def _last(column: SingleShape | SetShape) -> Cells:
    if isinstance(column, SingleShape):
        return np.array([column.fine - 1], dtype=np.int32)
    return (np.arange(column.items) >= column.items - column.at_most).astype(np.int32)


def _width(column: SingleShape | SetShape) -> int:
    return 1 if isinstance(column, SingleShape) else column.items
