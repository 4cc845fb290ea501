"""Who is inserted where: a function of the plan's seed, so that a replay can go on after a crash.

Federations that attacks learn from hold each canary in exactly half of them, as shadow models do
(Carlini et al. 2022, section V). Those that attacks are judged on insert each canary by a fair coin
of its own: that is what bounds on epsilon from many canaries in one run rest on (Steinke et al.
2023), and no coin of a judged federation says anything about another.
"""

import numpy as np
from numpy.typing import NDArray

from sordino_audit.replay.plan import ReplayDesign

Coins = NDArray[np.bool_]


def draw_coins(design: ReplayDesign, *, world: int) -> Coins:
    """Which canaries each federation holds, [federations, canaries]; the judged ones come first.

    Args:
        design: of the replay.
        world: poisons of each canary: each world has coins of its own.
    """
    rng = np.random.default_rng([design.seed, 1, world])
    canaries = len(design.kinds)
    judged = rng.random((design.judged, canaries)) < 0.5  # noqa: PLR2004 (a fair coin)
    learnt_from = design.federations - design.judged
    # An odd number has the one more on a side that differs from canary to canary.
    halves = np.tile(np.arange(learnt_from) % 2 == 0, (canaries, 1))
    halves[::2] ^= True
    return np.concatenate([judged, rng.permuted(halves, axis=1).T])
