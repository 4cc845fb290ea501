"""The secret sharer (Carlini et al. 2019): how far an inserted canary stands out among its like.

A canary is drawn at random from a space of candidates; after training, the candidates are ranked by
the model's score. If the model learnt nothing of it, the canary's rank is uniform. Exposure is how
many bits of a guess the model saves.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

_FEWEST_FOR_A_FIT = 20


def exposure(canary: float, candidates: Floats) -> float:
    """log2 of the candidates over the canary's rank (Carlini et al. 2019, definition 5).

    Args:
        canary: its score, higher = better remembered.
        candidates: scores of others of its space, drawn as it was and not inserted.

    Returns:
        From 0 (ranked last) to log2(candidates + 1) (ranked first). Ties are ranked against it.

    Raises:
        ValueError: there are no candidates, or a score is no number.
    """
    _check(canary, candidates, at_least=1)
    rank = 1 + int((candidates >= canary).sum())
    return float(np.log2((len(candidates) + 1) / rank))


def extrapolated_exposure(canary: float, candidates: Floats) -> float:
    """Exposure in a space far larger than the sample (Carlini et al. 2019, sec. 4.3).

    A skew-normal distribution is fitted to the candidates' scores; exposure is -log2 of its mass at
    the canary's score and above. An estimate: it trusts the fit in a tail where there is no data.
    Beyond about a thousand bits it is infinite.

    Raises:
        ValueError: fewer than 20 candidates or all alike, or a score is no number.
    """
    _check(canary, candidates, at_least=_FEWEST_FOR_A_FIT)
    centre, spread = float(candidates.mean()), float(candidates.std())
    if spread == 0:
        raise ValueError("all candidates have one score: no distribution can be fitted")
    # In units of the sample, so that the search starts close to where it ends.
    shape, location, scale = stats.skewnorm.fit((candidates - centre) / spread)
    at = (canary - centre) / spread
    return float(-stats.skewnorm.logsf(at, shape, location, scale) / np.log(2))


def _check(canary: float, candidates: Floats, *, at_least: int) -> None:
    if candidates.ndim != 1 or len(candidates) < at_least:
        raise ValueError(
            f"candidates have shape {candidates.shape}; expected {at_least} scores or more"
        )
    if np.isnan(canary) or not np.isfinite(candidates).all():
        raise ValueError("a score is no number")
