"""In which precision a model is trained, and why the clipping norm holds in each.

A release is safe if the sums of two neighbouring sets of units differ by at most the bound. In
exact arithmetic they do: the sum is one of contributions whose norms are at most the bound. Four
things could break that in floating point. Here the bound is 1; u is the unit roundoff.

1. *A unit's contribution could depend on the others in its pass.* A product of another shape may
   add in another order, and then one unit more would change every contribution. So passes have few
   shapes (`padded_rows`), and for each that is used `Network` demands that equal rows give equal
   bits, at every place and as in a whole chunk, of all that is kept, formed and normed. No choice
   between two ways to compute depends on the number of units.
2. *A unit's norm is rounded.* Every rule in `contributions` gives an upper bound of the norm of the
   gradient that its arrays stand for, rounding and underflow included.
3. *Sums are rounded, and the error could grow with the batch.* Let a batch have n units; they come
   in a uniformly random order.

   *Coupling.* The neighbour has one unit x more. From a uniformly random order of its n + 1 units
   make one of the other n: take x out and put the last unit in its place (if x is last, only take
   it out). Each order of the n arises from exactly n + 1 orders, so it is uniformly random too.
   The hockey-stick divergence is jointly convex: the two releases, as mixtures over the order, are
   no further apart than the worst pair of coupled orders. For such a pair every place but x's and
   the last holds the same unit in both.

   *Blocks.* The batch is cut into chunks of R places (the last: up to R + spare), a chunk into
   blocks of K, and R is a multiple of K. Each block's product is one call of the library's, whose
   shape is the block's own, so it is the same in both sums but for the blocks of x's place and of
   the last place. (That the library gives the same bits for the same call is the one thing taken
   for granted. Its arrays are aligned alike in every pass: `units.gather` copies rows to memory of
   torch's own, which begins at a multiple of 64 bytes, and blocks of K rows do so within it.) A
   block's rounding error is at most K u times the sum of its units' norms, for any order of the
   additions (Higham 2002, section 3.1): K K u. Two blocks in each of two sums: 4 K K u.

   *Chunks.* A chunk adds up its blocks' products: up to 8 together, then those sums. Each product
   is rounded at most d times on the way, so the error is at most d u times the chunk's number of
   units. In each sum the chunks that hold a changed place or are cut otherwise have at most 2 R'
   units in all, R' = R + spare: 4 d R' u. Chunks are added up in float64, point 4.

   *Places.* Where a unit brings many places whose terms may cancel, its terms have in sum at most
   16 sqrt(P) times its norm (`contributions`), and the chunk's product is taken in float64:
   4 R' R' P (16 sqrt(P)) 2^-53.

   *Scaling.* A contribution is its gradient times a factor, both rounded: 4 u.

   | | K | R' | d | blocks and chunks | places | share |
   |---|---|---|---|---|---|---|
   | dense | 128 | 2560 | 9 | 2^-6.73 | 2^-19 for R' P <= 2560 | 5 * 2^-9 = 2^-6.68 |
   | recurrent | 128 | 320 | 2 | 2^-7.94 | 2^-12.3 for P <= 4096 | 2^-7 |
   | cells | 128 | 256 | 1 | 2^-7.97 | 2^-13.0 for P <= 4096 | 2^-7 |
   | other | 96 | 96 | 0 | 2^-8.83 | 2^-15.8 for P <= 4096 | 2^-7 |
4. *In double precision* nothing needs a random order: each of n units is rounded at most
   R + n / R times, so both sums together are off by n (R + n / R) 2^-52: 2^-21 for a million. The
   grid's margin in `steps` covers it, and `share` is zero. With places the same holds times
   16 P sqrt(P); `DOUBLE_PLACES` is for that, in random order as above: below 2^-12.

`share` is taken off the bound for point 3. Products whose inputs are rounded to bfloat16
(`reduced_products`) add up in float32, so all of the above holds for the rounded inputs; rounding
makes each of the two at most 1 + 2^-8 times as long, which takes another 2^-7 + 2^-15. So precision
is a matter of speed: no choice of it touches privacy.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch

from sordino_protocols.errors import InputError

Form = Literal["stack", "dense", "recurrent", "cells", "other"]
PrecisionName = Literal["automatic", "single", "double"]
DeviceName = Literal["cpu", "cuda"]

# Below this many parameters a stack of dense layers costs nothing to train in double precision.
_SMALL_MODEL = 2**15


@dataclass(frozen=True, slots=True)
class Performance:
    """How fast to compute. Nothing here can change what is clipped, summed or accounted.

    Attributes:
        precision: of the forward and backward passes; `automatic` is double for small stacks of
            dense layers, else single.
        reduced_products: let matrix products round their inputs to bfloat16 where the processor is
            faster at that. Gradients get coarser, and up to 1.6 % more is taken off the clipping
            norm; it holds all the same.
        compile: let torch compile the passes: seconds once for each model, where there is a C++
            compiler; where there is none, nothing changes.
        device: where the network and its passes are. Noise and the released sum stay on the CPU.

    Raises:
        InputError: the device is not there.
    """

    precision: PrecisionName = "automatic"
    reduced_products: bool = False
    compile: bool = False
    device: DeviceName = "cpu"

    def __post_init__(self) -> None:
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError('device is "cuda", and no such device is at hand; use "cpu"')


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One precision and the shapes that its rounding bounds rest on.

    Attributes:
        dtype: of the passes, the kept arrays and the block products.
        unit_roundoff: largest relative error of one rounding.
        chunk_rows: units that go through a pass together.
        spare_rows: how many more the last pass over a batch may take.
        block_rows: units in one product.
        row_multiple: passes have a multiple of this many rows; the rest is padding.
        share: what is taken off the bound for the rounding of the sum.
        reduced_products: whether products may round their inputs to bfloat16.
        device: of the passes.
    """

    dtype: torch.dtype
    unit_roundoff: float
    chunk_rows: int
    spare_rows: int
    block_rows: int
    row_multiple: int
    share: float
    reduced_products: bool = False
    device: DeviceName = "cpu"

    @property
    def needs_random_order(self) -> bool:
        """Whether the bound on a sum's rounding rests on the batch's order being random."""
        return self.share > 0

    def padded_rows(self, rows: int) -> int:
        """The shape in which `rows` units go through a pass."""
        return -(-rows // self.row_multiple) * self.row_multiple

    @property
    def in_full(self) -> "Arithmetic":
        """The same with matrix products that round nothing, and without their share."""
        if not self.reduced_products:
            return self
        return replace(self, reduced_products=False, share=self.share - _REDUCED_SHARE)

    def products(self) -> AbstractContextManager[None]:
        """Single-precision matrix products inside round their inputs if they may."""
        return _reduced_products() if self.reduced_products else nullcontext()


@contextmanager
def _reduced_products() -> Iterator[None]:
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


# Dense layers keep little of a record, and long chunks touch the sums less often. Recurrent layers
# make many small calls. All others keep much of a record: short chunks stay in the cache.
SINGLE_DENSE = Arithmetic(torch.float32, 2.0**-24, 2048, 512, 128, 32, 5 * 2.0**-9)
SINGLE_RECURRENT = Arithmetic(torch.float32, 2.0**-24, 256, 64, 128, 32, 2.0**-7)
# Small products of each position: their bits hang on the number of rows, so there is one shape.
SINGLE_CELLS = Arithmetic(torch.float32, 2.0**-24, 256, 0, 128, 256, 2.0**-7)
SINGLE = Arithmetic(torch.float32, 2.0**-24, 64, 32, 128, 32, 2.0**-7)
DOUBLE = Arithmetic(torch.float64, 2.0**-53, 1024, 0, 1024, 256, 0.0)
DOUBLE_PLACES = replace(DOUBLE, chunk_rows=256, share=2.0**-10)
_REDUCED_SHARE = 2.0**-7 + 2.0**-14


def choose_arithmetic(performance: Performance, *, parameter_count: int, form: Form) -> Arithmetic:
    """The precision for a model, from public facts alone."""
    precision = performance.precision
    is_small = form in {"stack", "dense"} and parameter_count <= _SMALL_MODEL
    if precision == "double" or (precision == "automatic" and is_small):
        chosen = DOUBLE if form == "stack" else DOUBLE_PLACES
    else:
        chosen = _single(form)
        if performance.reduced_products:
            chosen = replace(chosen, reduced_products=True, share=chosen.share + _REDUCED_SHARE)
    return replace(chosen, device=performance.device)


def _single(form: Form) -> Arithmetic:
    match form:
        case "stack" | "dense":
            return SINGLE_DENSE
        case "recurrent":
            return SINGLE_RECURRENT
        case "cells":
            return SINGLE_CELLS
        case "other":
            return SINGLE
