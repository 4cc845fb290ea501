"""A neural autoregressive model of a table: each position given those before it.

NADE (Uria et al. 2016, eq. 4 to 7) for cells in place of bits: p(x) is the product over positions j
of softmax(W_j tanh(sum of the vectors of the cells before j) + b_j). Sampling goes position by
position. Every layer has exact per-unit gradient norms without forming a gradient: a cell's vector
is looked up once, and each position's logits are a linear map that a record uses once.
"""

from typing import Literal

from pydantic import BaseModel

from sordino_protocols.architecture import Architecture, Assembly
from sordino_protocols.cells import (
    CausalSum,
    CellCounts,
    CellEmbedding,
    CellLayout,
    CellLikelihood,
    CellLinear,
)
from sordino_protocols.files import STRICT
from sordino_protocols.operations import Activation
from sordino_protocols.shapes import Width

LAYERS_WITH_PARAMETERS = 2


class NadeModelSpec(BaseModel):
    """The model kind "nade"; it reads a record's cells and not its encoded features.

    Attributes:
        hidden: width of a cell's vector.
        cells: of each position of a record, in the order of the data set's columns by name: all
            fine cells of a column, or its coarse ones; two for each item of a set.
    """

    model_config = STRICT

    kind: Literal["nade"]
    hidden: Width = 64
    cells: CellCounts

    @property
    def outputs(self) -> int:
        """A log-probability a position."""
        return len(self.cells)

    @property
    def layout(self) -> CellLayout:
        """Where each position's cells stand in the weights."""
        return CellLayout(self.cells)


def assemble_nade(spec: NadeModelSpec) -> Architecture:
    """The model written out: [positions] in, [positions] log-probabilities out.

    Raises:
        InputError: a bound on parameters, activations or operations is passed.
    """
    assembly = Assembly(spec.kind, len(spec.cells))
    embedding = CellEmbedding(kind="cell_embedding", cells=spec.cells, width=spec.hidden)
    vectors = assembly.add("embedding", embedding, assembly.features)
    before = assembly.add("before", CausalSum(kind="causal_sum"), vectors)
    tanh = Activation(kind="activation", function="tanh")
    hidden = assembly.add("hidden", tanh, before)
    linear = CellLinear(kind="cell_linear", cells=spec.cells)
    logits = assembly.add("logits", linear, hidden)
    likelihood = CellLikelihood(kind="cell_likelihood", cells=spec.cells)
    output = assembly.add("likelihood", likelihood, logits, assembly.features)
    return assembly.finish(output, outputs=spec.outputs)
