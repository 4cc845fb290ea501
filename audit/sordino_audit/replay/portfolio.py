"""Every attack on a replay's federations: scores of canaries, higher = more likely inserted.

Attacks learn from the federations that are not judged, and from records that nobody held. Of a
judged federation they see the model, or the releases, never a coin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sordino_audit.attacks import lira, rmia, scores
from sordino_audit.replay.observation import Observation
from sordino_protocols.plan import LossName

Floats = NDArray[np.float64]
Labels = NDArray[np.float32]

LAST = -1
"""The look at the released model."""
_GAMMA = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """All federations of one world.

    Attributes:
        poisons: of each canary.
        judged: federations that attacks are judged on.
        others: those that attacks learn from.
        canary_labels: [canaries].
        stranger_labels: [strangers].
        loss: what the model was trained for.
    """

    poisons: int
    judged: tuple[Observation, ...]
    others: tuple[Observation, ...]
    canary_labels: Labels
    stranger_labels: Labels
    loss: LossName

    @property
    def coins(self) -> NDArray[np.bool_]:
        """Who was inserted in the judged federations: [judged, canaries]."""
        return np.stack([each.inserted for each in self.judged])


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One attack's scores in the judged federations.

    Attributes:
        name: the attack.
        scores: [judged, canaries].
        is_gradient: whether it saw the releases, and not the model alone.
    """

    name: str
    scores: Floats
    is_gradient: bool = False


def attack_world(world: World) -> tuple[Scored, ...]:
    """All attacks on one world, on the released model and on the releases, the strongest last."""
    where = "" if world.poisons == 0 else f", {world.poisons} poisons a canary at another site"
    return tuple(replace(each, name=each.name + where) for each in _attacks(world))


def _attacks(world: World) -> tuple[Scored, ...]:
    return (
        Scored("loss (Yeom 2018)", _fits(world, world.judged, LAST)),
        Scored("LiRA, offline (Carlini 2022)", lira_scores(world, LAST, is_online=False)),
        Scored("LiRA, online (Carlini 2022)", lira_scores(world, LAST, is_online=True)),
        Scored("RMIA (Zarifzadeh 2024)", _rmia_scores(world)),
        Scored(
            "gradients of the aggregated updates",
            np.stack([each.aggregate_scores for each in world.judged]),
            is_gradient=True,
        ),
        Scored(
            "gradients of the site's releases",
            np.stack([each.site_scores for each in world.judged]),
            is_gradient=True,
        ),
    )


def lira_scores(world: World, look: int, *, is_online: bool) -> Floats:
    """The likelihood ratio attack at one look: [judged, canaries]."""
    references = lira.References(
        _confidences(world, world.others, look),
        np.stack([each.inserted for each in world.others]),
    )
    observed = _confidences(world, world.judged, look)
    return lira.online(observed, references) if is_online else lira.offline(observed, references)


def stranger_fits(world: World, look: int) -> Floats:
    """How well each judged model fits records that nobody held: [judged, strangers]."""
    outputs = np.stack([each.stranger_outputs[look] for each in world.judged])
    return _fit(outputs, world.stranger_labels, world.loss)


def canary_fits(world: World, look: int) -> Floats:
    """How well each judged model fits each canary: [judged, canaries]."""
    return _fits(world, world.judged, look)


def _rmia_scores(world: World) -> Floats:
    population = rmia.Population(
        observed=stranger_fits(world, LAST),
        references=_fit(
            np.stack([each.stranger_outputs[LAST] for each in world.others]),
            world.stranger_labels,
            world.loss,
        ),
    )
    return rmia.online(
        _fits(world, world.judged, LAST),
        _fits(world, world.others, LAST),
        np.stack([each.inserted for each in world.others]),
        population,
        gamma=_GAMMA,
    )


def _fits(world: World, observations: Sequence[Observation], look: int) -> Floats:
    outputs = np.stack([each.canary_outputs[look] for each in observations])
    return _fit(outputs, world.canary_labels, world.loss)


def _confidences(world: World, observations: Sequence[Observation], look: int) -> Floats:
    """What is near Gaussian over models, for each canary: [federations, canaries]."""
    outputs = np.stack([each.canary_outputs[look] for each in observations])
    if world.loss == "squared":
        return np.asarray(outputs[..., 0])
    logits, labels = _as_classes(outputs, world.canary_labels, world.loss)
    return scores.logit_confidence(logits, labels)


def _fit(outputs: Floats, labels: Labels, loss: LossName) -> Floats:
    """Log-probability of the label: of a number, up to a constant, under Gaussian errors."""
    if loss == "squared":
        return np.asarray(-((outputs[..., 0] - labels) ** 2))
    return scores.loss_score(*_as_classes(outputs, labels, loss))


def _as_classes(
    outputs: Floats, labels: Labels, loss: LossName
) -> tuple[Floats, NDArray[np.int64]]:
    logits = scores.with_both_classes(outputs[..., 0]) if loss == "binary" else outputs
    return logits, labels.astype(np.int64)
