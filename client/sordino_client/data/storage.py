"""Encoded rows that come block by block: gathered in memory or, above a size, in a file.

The file never has a name, or loses it before the first row is written, and only its owner may read
it: whatever ends the process, no records stay behind.
"""

import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from sordino_protocols.errors import InputError

FeatureArray = NDArray[np.float32] | NDArray[np.int64]

SPILL_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Spill:
    """When features leave memory for the disk, and where to.

    Attributes:
        directory: exists; a file without a name is made in it.
        above_bytes: features of at most this size stay in memory.
    """

    directory: Path
    above_bytes: int = SPILL_BYTES


class RowStore:
    """Gathers blocks of rows into one array; used once.

    With a `spill`, at most its `above_bytes` and one block are in memory, however many rows come.
    """

    def __init__(self, spill: Spill | None) -> None:
        self._spill = spill
        self._blocks: deque[FeatureArray] = deque()
        self._file: IO[bytes] | None = None
        self._rows = 0

    def append(self, block: FeatureArray) -> None:
        """Take rows [n, d]; every block has the same d and type.

        Raises:
            InputError: the disk is full, or the directory may not be written to.
        """
        self._blocks.append(block)
        self._rows += len(block)
        if self._spill is not None and self._rows * _row_bytes(block) > self._spill.above_bytes:
            self._write_out(self._spill.directory)

    def finish(self) -> FeatureArray:
        """All rows, C-contiguous: an array, or a view of the file that takes changes as one does.

        Raises:
            ValueError: there was no block, so nobody knows how wide a row is.
        """
        if not self._blocks:
            raise ValueError("expected at least one block, if only an empty one")
        block = self._blocks[0]
        shape = (self._rows, *block.shape[1:])
        if self._file is None:
            return _joined(self._blocks, np.empty(shape, dtype=block.dtype))
        with self._file as file:
            file.flush()
            # Shared, so that the pages are the disk's and the kernel may drop them.
            mapped = np.memmap(file, dtype=block.dtype, mode="r+", shape=shape)
        return mapped.view(np.ndarray)

    def _write_out(self, directory: Path) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (finish closes)
            for block in self._blocks:
                self._file.write(np.ascontiguousarray(block).data)
        except OSError as error:
            raise InputError(
                f"{directory}: encoded features cannot be written here: {error.strerror}"
            ) from None
        # How wide a row is has to be known to the end.
        self._blocks = deque([self._blocks[-1][:0].copy()])


def _joined(blocks: deque[FeatureArray], whole: FeatureArray) -> FeatureArray:
    """`whole`, filled from the blocks; each is let go of as soon as it is copied."""
    row = 0
    while blocks:
        block = blocks.popleft()
        whole[row : row + len(block)] = block
        row += len(block)
    return whole


def _row_bytes(block: FeatureArray) -> int:
    return block.itemsize * int(np.prod(block.shape[1:]))
