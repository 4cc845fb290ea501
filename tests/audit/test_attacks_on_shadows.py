"""Every attack: on networks that know made-up records by heart, and on coins that nothing knows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shadow_training import PLAN, RECORDS, made_up

from sordino_audit.attacks import lira, rmia, shokri
from sordino_audit.attacks.poisoning import mislabelled_replicas
from sordino_audit.attacks.results import auc
from sordino_audit.attacks.scores import (
    logit_confidence,
    loss_score,
    modified_entropy_score,
)
from sordino_audit.attacks.shadows import (
    ShadowRecords,
    balanced_membership,
    shadow_logits,
    train_shadows,
)

Floats = NDArray[np.float64]
Coins = NDArray[np.bool_]

ATTACKED = 8
STRANGERS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """What the networks say; the first ones are attacked.

    Attributes:
        logits: [networks, targets, classes].
        of_strangers: the same of records that none was trained on.
        membership: [networks, targets].
        labels: [targets].
        strange_labels: [strangers].
    """

    logits: Floats
    of_strangers: Floats
    membership: Coins
    labels: NDArray[np.int64]
    strange_labels: NDArray[np.int64]

    @property
    def references(self) -> lira.References:
        confidences = logit_confidence(self.logits, self.labels)
        return lira.References(confidences[ATTACKED:], self.membership[ATTACKED:])

    @property
    def population(self) -> rmia.Population:
        said = loss_score(self.of_strangers, self.strange_labels)
        return rmia.Population(said[:ATTACKED], said[ATTACKED:])


Attack = Callable[[Trained], Floats]


def _loss(trained: Trained) -> Floats:
    return loss_score(trained.logits[:ATTACKED], trained.labels)


def _entropy(trained: Trained) -> Floats:
    return modified_entropy_score(trained.logits[:ATTACKED], trained.labels)


def _shokri(trained: Trained) -> Floats:
    learnt = shokri.train_attack(
        trained.logits[ATTACKED:], trained.labels, trained.membership[ATTACKED:]
    )
    return shokri.shadow_score(trained.logits[:ATTACKED], trained.labels, learnt)


def _lira_online(trained: Trained) -> Floats:
    said = logit_confidence(trained.logits[:ATTACKED], trained.labels)
    return lira.online(said, trained.references)


def _lira_offline(trained: Trained) -> Floats:
    said = logit_confidence(trained.logits[:ATTACKED], trained.labels)
    return lira.offline(said, trained.references)


def _rmia_online(trained: Trained) -> Floats:
    said = loss_score(trained.logits, trained.labels)
    return rmia.online(
        said[:ATTACKED],
        said[ATTACKED:],
        trained.membership[ATTACKED:],
        trained.population,
        gamma=1.0,
    )


def _rmia_with_two(trained: Trained) -> Floats:
    said, two = loss_score(trained.logits, trained.labels), slice(ATTACKED, ATTACKED + 2)
    population = rmia.Population(trained.population.observed, trained.population.references[:2])
    return rmia.offline(
        said[:ATTACKED], said[two], trained.membership[two], population, gamma=1.0, slope=0.3
    )


ATTACKS: tuple[Attack, ...] = (
    _loss,
    _entropy,
    _shokri,
    _lira_online,
    _lira_offline,
    _rmia_online,
    _rmia_with_two,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    records = made_up()
    weights = train_shadows(PLAN, records, directory=tmp_path_factory.mktemp("shadows"))
    rng = np.random.default_rng(1)
    strangers = rng.normal(size=(STRANGERS, records.features.shape[1])).astype(np.float32)
    return Trained(
        logits=shadow_logits(PLAN, weights, records.features),
        of_strangers=shadow_logits(PLAN, weights, strangers),
        membership=records.membership,
        labels=records.labels,
        strange_labels=rng.integers(0, PLAN.classes, STRANGERS),
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_tells_members_from_others(trained: Trained, attack: Attack) -> None:
    found, of = attack(trained), trained.membership[:ATTACKED]
    assert _p_value(found, of) < 1e-6
    assert auc(found[of], found[~of]) > 0.75


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_finds_what_is_not_there(trained: Trained, attack: Attack) -> None:
    # Coins that had nothing to do with the training: members and others are exchangeable.
    coins = np.random.default_rng(2).random((ATTACKED, RECORDS)) < 0.5
    assert _p_value(attack(trained), coins) > 1e-9


def test_a_model_of_each_record_beats_one_threshold_for_all(trained: Trained) -> None:
    of = trained.membership[:ATTACKED]
    one, each = (auc(found[of], found[~of]) for found in (_loss(trained), _lira_online(trained)))
    assert each > one


def test_one_mislabelled_copy_elsewhere_makes_a_target_stand_out(
    trained: Trained, tmp_path: Path
) -> None:
    records = made_up()
    rng = np.random.default_rng(3)
    membership = balanced_membership(PLAN.shadows, RECORDS, rng=rng)
    poisons = mislabelled_replicas(records.labels, classes=PLAN.classes, replicas=1, rng=rng)
    always = np.ones((PLAN.shadows, len(poisons.labels)), dtype=np.bool_)
    together = ShadowRecords(
        np.concatenate([records.features, records.features[poisons.rows]]),
        np.concatenate([records.labels, poisons.labels]),
        np.concatenate([membership, always], axis=1),
    )
    plan = replace(PLAN, steps=2 * PLAN.steps)
    weights = train_shadows(plan, together, directory=tmp_path)
    poisoned = replace(
        trained,
        logits=shadow_logits(plan, weights, records.features),
        membership=membership,
    )
    before, after = (
        auc(found[of], found[~of])
        for found, of in (
            (_lira_online(trained), trained.membership[:ATTACKED]),
            (_lira_online(poisoned), membership[:ATTACKED]),
        )
    )
    assert after > before
    assert after > 0.97


def _p_value(found: Floats, coins: Coins) -> float:
    """Of fair coins that are independent of the scores (Hoeffding 1963): exact, not asymptotic.

    The sum of centred ranks, each with the sign of its coin, is one of independent bounded terms.
    """
    ranks = found.ravel().argsort().argsort() / found.size - 0.5
    excess = float((ranks * np.where(coins.ravel(), 1, -1)).sum())
    return float(2 * np.exp(-(excess**2) / (2 * float((ranks**2).sum()))))
