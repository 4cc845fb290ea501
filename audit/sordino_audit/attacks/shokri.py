"""The shadow attack (Shokri et al. 2017): learn from shadow models what members look like.

For each class one attack model, trained on what shadow models say of records that they did and did
not see. It asks what members look like in general, where LiRA asks about one record.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from sordino_audit.attacks.scores import logit_confidence, loss_score, modified_entropy_score

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

_FEWEST_PER_CLASS = 50
_PENALTY = 1e-3
_LARGEST_CONFIDENCE = 50.0


@dataclass(frozen=True, slots=True, eq=False)
class AttackModel:
    """Logistic regression on what a model says of a record, one a class.

    Attributes:
        centre: [features], subtracted from the features.
        scale: [features], that they are then divided by.
        weights: [classes, features + 1], the last one the intercept.
    """

    centre: Floats
    scale: Floats
    weights: Floats


def train_attack(logits: Floats, labels: Labels, membership: NDArray[np.bool_]) -> AttackModel:
    """Learn to tell members of the shadows from others (Shokri et al. 2017, sec. V-D).

    A class with fewer than 50 examples on either side has the attack model of all classes.

    Args:
        logits: [shadows, targets, classes], of the shadow models.
        labels: [targets].
        membership: bool [shadows, targets], whether a shadow was trained on a target.

    Raises:
        ValueError: the shadows have no members, or no others.
    """
    if membership.all() or not membership.any():
        raise ValueError("shadows need targets that they were trained on, and others")
    seen = _features(logits, labels)
    everything = seen.reshape(-1, seen.shape[-1])
    centre, scale = everything.mean(axis=0), np.maximum(everything.std(axis=0), 1e-9)
    standard = (seen - centre) / scale
    pooled = _fit(standard.reshape(everything.shape), membership.ravel())
    weights = [
        _fit_class(standard[:, labels == one], membership[:, labels == one], pooled)
        for one in range(logits.shape[-1])
    ]
    return AttackModel(centre, scale, np.stack(weights))


def shadow_score(logits: Floats, labels: Labels, attack: AttackModel) -> Floats:
    """The attack model's log-odds that each target is a member.

    Args:
        logits: [..., targets, classes], of the models under attack.
        labels: [targets].
        attack: trained on shadows of them.
    """
    standard = (_features(logits, labels) - attack.centre) / attack.scale
    weights = attack.weights[labels]
    return np.asarray((standard * weights[:, :-1]).sum(axis=-1) + weights[:, -1])


def _features(logits: Floats, labels: Labels) -> Floats:
    """What an attack model reads: [..., targets, features].

    The confidences in order, as log-probabilities and without the least, and what the true class
    says: on a logarithmic scale, because near 1 there is nothing to be seen in probabilities.
    """
    ordered = -np.sort(-special.log_softmax(logits, axis=-1), axis=-1)[..., :3]
    of_label = [
        logit_confidence(logits, labels),
        loss_score(logits, labels),
        modified_entropy_score(logits, labels),
    ]
    features = np.concatenate([ordered, np.stack(of_label, axis=-1)], axis=-1)
    return np.asarray(np.clip(features, -_LARGEST_CONFIDENCE, _LARGEST_CONFIDENCE))


def _fit_class(standard: Floats, membership: NDArray[np.bool_], pooled: Floats) -> Floats:
    members = int(membership.sum())
    if min(members, membership.size - members) < _FEWEST_PER_CLASS:
        return pooled
    return _fit(standard.reshape(-1, standard.shape[-1]), membership.ravel())


def _fit(features: Floats, membership: NDArray[np.bool_]) -> Floats:
    """Ridge-penalised logistic regression: convex, so that the same data give the same model."""
    rows = np.column_stack([features, np.ones(len(features))])
    signs = np.where(membership, 1.0, -1.0)

    def objective(weights: Floats) -> tuple[float, Floats]:
        margins = signs * (rows @ weights)
        slopes = -signs * special.expit(-margins)
        penalty = _PENALTY * weights * len(rows)
        value = -special.log_expit(margins).sum() + float(penalty @ weights) / 2
        return value / len(rows), (rows.T @ slopes + penalty) / len(rows)

    start = np.zeros(rows.shape[1])
    return np.asarray(optimize.minimize(objective, start, jac=True, method="L-BFGS-B").x)
