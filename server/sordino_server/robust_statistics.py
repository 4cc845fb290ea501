"""Locations of a few vectors that some of them cannot move far: pure functions on arrays.

What must stay true: the result is the same in whatever order the vectors come, and stays between
(trimmed mean, median) or among (Krum) vectors of honest sites as long as no more than the assumed
number are bad. None of the bounds says anything about bad sites that send what an honest one could
have sent: within the spread of honest updates, which is mostly noise, nobody can tell them apart
(Guerraoui et al. 2021, "Differential Privacy and Byzantine Resilience in SGD: Do They Add Up?").
"""

import numpy as np
import numpy.typing as npt

from sordino_protocols.models import FloatVector

FloatMatrix = npt.NDArray[np.float64]


def trimmed_mean(vectors: FloatMatrix, *, bad_sites: int) -> FloatVector:
    """Of each coordinate the mean without the largest and the smallest `bad_sites` values.

    Yin, Chen, Ramchandran & Bartlett 2018, definition 2.

    Args:
        vectors: [sites, coordinates].
        bad_sites: f; there must be more than 2 f sites.

    Raises:
        ValueError: nothing would be left.
    """
    count = len(vectors)
    if count <= 2 * bad_sites:
        raise ValueError(f"{count} vectors without {bad_sites} at each end leave none")
    kept: FloatMatrix = np.sort(vectors, axis=0)[bad_sites : count - bad_sites]
    return np.asarray(kept.mean(axis=0), dtype=np.float64)


def median(vectors: FloatMatrix) -> FloatVector:
    """Of each coordinate the median (Yin et al. 2018, definition 1).

    Args:
        vectors: [sites, coordinates]; at least one.
    """
    return np.asarray(np.median(vectors, axis=0), dtype=np.float64)


def krum(vectors: FloatMatrix, *, bad_sites: int, keep: int, dimension: int) -> FloatVector:
    """The mean of the `keep` vectors that are closest to their neighbours.

    A vector's score is the sum of its squared distances to the n - f - 2 others that are closest
    to it; the lowest score wins (Blanchard, El Mhamdi, Guerraoui & Stainer 2017, section 4; with
    more than one, their Multi-Krum).

    Args:
        vectors: [sites, coordinates].
        bad_sites: f.
        keep: how many are averaged.
        dimension: how many leading coordinates distances are taken over.

    Raises:
        ValueError: fewer vectors than 2 f + 3, or than `keep` + f + 2.
    """
    count = len(vectors)
    if count < max(2 * bad_sites + 3, keep + bad_sites + 2):
        raise ValueError(f"{count} vectors are too few for {bad_sites} bad ones and {keep} to keep")
    scores = _scores(vectors[:, :dimension], neighbours=count - bad_sites - 2)
    # Equal scores: by content, not by who came first.
    best = sorted(range(count), key=lambda k: (scores[k], vectors[k].tobytes()))[:keep]
    return np.asarray(np.sort(vectors[best], axis=0).mean(axis=0), dtype=np.float64)


def _scores(vectors: FloatMatrix, *, neighbours: int) -> list[float]:
    scores = []
    for each in vectors:
        distances = np.sort(np.square(vectors - each).sum(axis=1))
        # The first is its distance to itself.
        scores.append(float(distances[1 : neighbours + 1].sum()))
    return scores
