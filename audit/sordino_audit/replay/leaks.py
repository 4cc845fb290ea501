"""How a replay's leak grows with the rounds, and which canaries leak most: pictures, no tests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sordino_audit.attacks.exposure import exposure
from sordino_audit.attacks.results import FALSE_POSITIVE_RATES, auc, tpr_at_fpr
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.portfolio import (
    Scored,
    World,
    canary_fits,
    lira_scores,
    stranger_fits,
)
from sordino_audit.replay.result import CheckpointLeak, KindLeak

Floats = NDArray[np.float64]


def checkpoint_leaks(plan: ReplayPlan, world: World) -> tuple[CheckpointLeak, ...]:
    """The likelihood ratio attack and the secret sharer at every look at the aggregated model."""
    done = [number - 1 for number in plan.looked_at]
    rounds = [*done, plan.job.plan.require_training().rounds]
    return tuple(_leak(plan, world, look, number) for look, number in enumerate(rounds))


def kind_leaks(plan: ReplayPlan, world: World, attacks: Sequence[Scored]) -> tuple[KindLeak, ...]:
    """The attacks on each kind of canary alone; the last two are of the model and of releases.

    Args:
        plan: of the replay.
        world: that was attacked.
        attacks: on it: of the models the online likelihood ratio, of the releases the site's own.
    """
    model = lira_scores(world, -1, is_online=True)
    gradients = next(each.scores for each in reversed(attacks) if each.is_gradient)
    kinds = np.array(plan.design.kinds)
    return tuple(
        KindLeak(
            kind,
            world.poisons,
            world.coins[:, kinds == kind].size,
            _auc(model[:, kinds == kind], world.coins[:, kinds == kind]),
            _auc(gradients[:, kinds == kind], world.coins[:, kinds == kind]),
        )
        for kind in plan.design.canaries
    )


def _leak(plan: ReplayPlan, world: World, look: int, number: int) -> CheckpointLeak:
    scores, coins = lira_scores(world, look, is_online=True), world.coins
    exposed = _exposures(plan, world, look)
    inside, outside = scores[coins], scores[~coins]
    return CheckpointLeak(
        poisons=world.poisons,
        round=number,
        auc=_auc(scores, coins),
        tpr_at=tuple((rate, tpr_at_fpr(inside, outside, rate)) for rate in FALSE_POSITIVE_RATES),
        exposure=float(exposed[coins].mean()),
        exposure_out=float(exposed[~coins].mean()),
    )


def _exposures(plan: ReplayPlan, world: World, look: int) -> Floats:
    """Of each canary among the strangers of its kind: [judged, canaries]."""
    fits, strangers = canary_fits(world, look), stranger_fits(world, look)
    kinds = np.array(plan.design.kinds)
    return np.array(
        [
            [
                exposure(float(fit), of_strangers[kinds == kind])
                for fit, kind in zip(of_canaries, kinds, strict=True)
            ]
            for of_canaries, of_strangers in zip(fits, strangers, strict=True)
        ]
    )


def _auc(scores: Floats, coins: NDArray[np.bool_]) -> float:
    return auc(scores[coins], scores[~coins])
