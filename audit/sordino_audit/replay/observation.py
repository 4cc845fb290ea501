"""What is kept of one federation: what attacks read, and nothing that would have to be kept secret.

One file a federation, put in place whole: a replay that was killed goes on with those that are
there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from sordino_protocols.errors import IntegrityError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One federation.

    Attributes:
        inserted: bool [canaries], its coins.
        canary_outputs: [looks, canaries, outputs], of the aggregated model at each look; the last
            look is at the released model.
        stranger_outputs: [looks, strangers, outputs], of records that nobody held.
        site_scores: [canaries], of the white box at the target's releases; empty where it was not
            attacked.
        aggregate_scores: [canaries], the same at the sum of all sites' releases.
        squares: [layers], see `white_box.WhiteBoxView`.
        counts: [layers].
    """

    inserted: NDArray[np.bool_]
    canary_outputs: Floats
    stranger_outputs: Floats
    site_scores: Floats
    aggregate_scores: Floats
    squares: Floats
    counts: NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """The file's content."""
        return save(
            {
                "inserted": self.inserted.astype(np.uint8),
                "canary_outputs": self.canary_outputs,
                "stranger_outputs": self.stranger_outputs,
                "site_scores": self.site_scores,
                "aggregate_scores": self.aggregate_scores,
                "squares": self.squares,
                "counts": self.counts,
            }
        )


def read_observation(content: bytes, *, name: str) -> Observation:
    """The inverse of `Observation.to_bytes`.

    Raises:
        IntegrityError: the file is none of ours.
    """
    try:
        arrays = load(content)
        return Observation(
            inserted=arrays["inserted"].astype(np.bool_),
            canary_outputs=arrays["canary_outputs"],
            stranger_outputs=arrays["stranger_outputs"],
            site_scores=arrays["site_scores"],
            aggregate_scores=arrays["aggregate_scores"],
            squares=arrays["squares"],
            counts=arrays["counts"],
        )
    except (SafetensorError, KeyError):
        raise IntegrityError(f"{name}: this file of a replay cannot be read") from None
