"""Operations on a record's cells: what an autoregressive model of a table is made of.

A record is one whole number a position: which cell of its column it is in. Every position has cells
of its own, so a table that holds a vector for each cell is never looked up twice at one row by one
record. Positions that have equally many cells stand together in everything that has an entry a
cell (`CellLayout`), so that a few products serve them all.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from sordino_protocols.errors import InputError
from sordino_protocols.files import STRICT
from sordino_protocols.shapes import Constant, Parameter, Rows, Shape, Width, require_rank

LARGEST_POSITION_COUNT = 4_096
LARGEST_CELLS = 4_096

CellCount = Annotated[int, Field(ge=1, le=LARGEST_CELLS)]
# A TOML array arrives as a list; its items stay strict.
CellCounts = Annotated[
    tuple[CellCount, ...], Field(strict=False, min_length=1, max_length=LARGEST_POSITION_COUNT)
]


@dataclass(frozen=True, slots=True)
class CellBlock:
    """The positions that have `width` cells each.

    Attributes:
        width: cells of each position.
        positions: ascending.
        start: of the block's first cell among the cells of all blocks.
    """

    width: int
    positions: tuple[int, ...]
    start: int

    @property
    def shape(self) -> tuple[int, int]:
        """Positions, and cells of each."""
        return len(self.positions), self.width

    @property
    def stop(self) -> int:
        """One behind the block's last cell."""
        return self.start + self.width * len(self.positions)


@dataclass(frozen=True, slots=True)
class CellLayout:
    """Where the cells of each position stand: blocks by width, in each position by position.

    Attributes:
        cells: of each position.
    """

    cells: tuple[int, ...]

    @property
    def total(self) -> int:
        """Cells of all positions."""
        return sum(self.cells)

    def blocks(self) -> tuple[CellBlock, ...]:
        """The blocks, narrow ones first."""
        blocks: list[CellBlock] = []
        for width in sorted(set(self.cells)):
            positions = tuple(at for at, cells in enumerate(self.cells) if cells == width)
            blocks.append(CellBlock(width, positions, blocks[-1].stop if blocks else 0))
        return tuple(blocks)

    def order(self) -> tuple[int, ...]:
        """All positions, block by block."""
        return tuple(position for block in self.blocks() for position in block.positions)

    def starts(self) -> tuple[int, ...]:
        """Where the first cell of each position stands."""
        found = {
            position: block.start + rank * block.width
            for block in self.blocks()
            for rank, position in enumerate(block.positions)
        }
        return tuple(found[position] for position in range(len(self.cells)))


class CellEmbedding(BaseModel):
    """A vector for each cell of each position.

    What is no cell of its position, or NaN, counts as the nearest one: a record must not be able to
    stop a run.
    """

    model_config = STRICT

    kind: Literal["cell_embedding"]
    cells: CellCounts
    width: Width

    def output_shape(self, arrived: Shape) -> Shape:
        """[positions, width]."""
        _require_positions(arrived, self.cells)
        return (len(self.cells), self.width)

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [cells, width]."""
        del arrived
        return (Parameter("weight", (sum(self.cells), self.width), Rows(self.width)),)


class CausalSum(BaseModel):
    """Each position's sum of all positions before it; zero at the first."""

    model_config = STRICT

    kind: Literal["causal_sum"]

    def output_shape(self, arrived: Shape) -> Shape:
        """The same."""
        require_rank(arrived, names="[positions, features]", ranks=(2,))
        return arrived


class CellLinear(BaseModel):
    """An affine map at each position, of its own, to its cells."""

    model_config = STRICT

    kind: Literal["cell_linear"]
    cells: CellCounts

    def output_shape(self, arrived: Shape) -> Shape:
        """[cells], as `CellLayout` has them."""
        require_rank(arrived, names="[positions, features]", ranks=(2,))
        _require_positions(arrived[:1], self.cells)
        return (sum(self.cells),)

    def parameters(self, arrived: Shape) -> tuple[Parameter, ...]:
        """Weight [cells, features]; bias [cells]. All zero: every cell is as likely at first."""
        total = sum(self.cells)
        weight = Parameter("weight", (total, arrived[-1]), Constant(0.0))
        return (weight, Parameter("bias", (total,), Constant(0.0)))


class CellLikelihood(BaseModel):
    """The log-probability, in nats, of the cell that a record has at each position.

    Combines logits [cells] with the record itself; within a position they are normalised.
    """

    model_config = STRICT

    kind: Literal["cell_likelihood"]
    cells: CellCounts

    def output_shape(self, arrived: tuple[Shape, ...]) -> Shape:
        """[positions]."""
        logits, record = arrived
        if logits != (sum(self.cells),):
            raise InputError(f"expects [{sum(self.cells)}] logits; {list(logits)} arrived")
        _require_positions(record, self.cells)
        return record


WeightedCells = CellEmbedding | CellLinear
CellOperation = WeightedCells | CausalSum | CellLikelihood


def multiply_adds_of_cells(operation: WeightedCells, arrived: Shape) -> int:
    """Multiplications of a forward pass of one record."""
    if isinstance(operation, CellEmbedding):
        return 0
    return math.prod(operation.parameters(arrived)[0].shape)


def _require_positions(arrived: Shape, cells: tuple[int, ...]) -> None:
    if arrived[0] != len(cells) or len(arrived) != 1:
        raise InputError(f"expects [{len(cells)}] cells a record; {list(arrived)} arrived")
