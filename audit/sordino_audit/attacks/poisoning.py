"""Truth Serum (Tramer et al. 2022): another participant makes the targets stand out.

A copy of a target with a wrong label, trained on by somebody else, makes the model doubt the target
unless it saw the target itself: the scores of members and of others move apart. The copy belongs to
the adversary, who needs no access to the site that may hold the target.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Poisons:
    """What the adversary trains on.

    Attributes:
        rows: [poisons], of which target each is a copy.
        labels: [poisons], wrong ones; all copies of one target have the same.
    """

    rows: NDArray[np.int64]
    labels: Labels


def mislabelled_replicas(
    labels: Labels, *, classes: int, replicas: int, rng: np.random.Generator
) -> Poisons:
    """Copies of each target under one wrong label, drawn uniformly (Tramer et al. 2022, sec. 4.1).

    Args:
        labels: [targets], the true ones.
        classes: how many there are, at least 2.
        replicas: copies of each target.
        rng: draws the wrong labels.

    Raises:
        ValueError: fewer than two classes, no replica, or a label that is none of the classes.
    """
    if classes < 2 or replicas < 1:  # noqa: PLR2004 - a wrong label needs another class
        raise ValueError(f"expected two classes and one replica, got {classes} and {replicas}")
    if np.any((labels < 0) | (labels >= classes)):
        raise ValueError(f"a label is outside the {classes} classes")
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    return Poisons(np.repeat(np.arange(len(labels)), replicas), np.repeat(wrong, replicas))
