"""Other figures for epsilon from the same lanes, for those who know them from the literature.

No verdict rests on them. One is a bound that assumes even less than those of `lane_bounds`; one is
what to believe rather than a bound; one is what many papers report, and no bound at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sordino_audit.bounds import convention, credible, gaussian, one_run
from sordino_audit.bounds.clopper_pearson import Counts
from sordino_protocols.privacy import Guarantee

Standing = Literal["bound", "credible", "convention"]

_COINS = "none on the noise, and lanes may influence each other; fair coins"
_PRIOR = "independent lanes; a prior on the error rates: credible, no bound"
_UNCORRECTED = "Gaussian noise; the threshold was chosen on the same scores: no bound"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A lower figure for epsilon, beside the bounds of an audit.

    Attributes:
        name: the method.
        assumption: what it assumes, and what it is worth.
        standing: whether it is a bound at all.
        epsilon_low: the figure.
    """

    name: str
    assumption: str
    standing: Standing
    epsilon_low: float


def comparisons(
    scores_inserted: Sequence[float],
    scores_held_out: Sequence[float],
    counts: Counts,
    *,
    guesses: int,
    claim: Guarantee,
    confidence: float,
) -> tuple[Comparison, ...]:
    """All of them, weakest assumption first.

    Args:
        scores_inserted: one an inserted lane, of all sites.
        scores_held_out: one a held-out lane.
        counts: errors at a threshold that was fixed beforehand.
        guesses: how many lanes, those of the highest scores, are guessed to be inserted: fixed
            beforehand.
        claim: whose delta counts.
        confidence: of the bound, credibility of the interval, and what the convention calls so.
    """
    inserted, held_out = np.array(scores_inserted), np.array(scores_held_out)
    # Of equal scores, the held-out ones are guessed first: a tie must not depend on the coin.
    order = np.argsort(-np.concatenate([held_out, inserted]), kind="stable")[:guesses]
    by_coins = one_run.epsilon_lower_bound(
        canaries=inserted.size + held_out.size,
        guesses=order.size,
        correct=int(np.sum(order >= held_out.size)),
        delta=claim.delta,
        confidence=confidence,
    )
    believed, _ = credible.epsilon_interval(counts, delta=claim.delta, credibility=confidence)
    mu = convention.best_threshold_mu(inserted, held_out, confidence=confidence)
    usual = gaussian.epsilon_from_mu(mu, claim.delta)
    return (
        Comparison("one run", _COINS, "bound", by_coins),
        Comparison("Bayesian interval", _PRIOR, "credible", believed),
        Comparison("best threshold, uncorrected", _UNCORRECTED, "convention", usual),
    )
