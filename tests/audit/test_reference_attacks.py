import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.attacks import lira, rmia, shokri
from sordino_audit.attacks.lira import References
from sordino_audit.attacks.results import auc
from sordino_audit.attacks.rmia import Population

Floats = NDArray[np.float64]


def _references(shadows: int, targets: int, *, gain: float = 0.0) -> References:
    rng = np.random.default_rng(shadows)
    membership = np.stack([rng.permutation(shadows) < shadows // 2 for _ in range(targets)], axis=1)
    hardness, spread = rng.normal(size=targets), rng.uniform(0.5, 2, targets)
    confidences = hardness + spread * rng.normal(size=(shadows, targets)) + gain * membership
    return References(confidences, membership)


# ------------------------------------------------------------------------------------------ LiRA


def test_online_lira_is_the_ratio_of_two_gaussians_of_each_target() -> None:
    references = _references(64, 6)
    observed = np.random.default_rng(1).normal(size=(2, 6))
    found = lira.online(observed, references)
    for target in range(6):
        of, said = references.membership[:, target], references.confidences[:, target]
        inside = stats.norm(said[of].mean(), said[of].std(ddof=1))
        outside = stats.norm(said[~of].mean(), said[~of].std(ddof=1))
        for model in range(2):
            at = observed[model, target]
            expected = inside.logpdf(at) - outside.logpdf(at)
            assert found[model, target] == pytest.approx(expected)


def test_under_64_shadows_all_targets_share_their_variances() -> None:
    references = _references(20, 5)
    observed = np.random.default_rng(2).normal(size=5)
    means, squares = {}, {True: 0.0, False: 0.0}
    for target in range(5):
        for side in (True, False):
            said = references.confidences[references.membership[:, target] == side, target]
            means[target, side] = said.mean()
            squares[side] += float(((said - said.mean()) ** 2).sum())
    # Ten shadows a side and target, less the mean that was fitted to them.
    stds = {side: np.sqrt(total / (5 * 9)) for side, total in squares.items()}
    found = lira.online(observed, references)
    for target, at in enumerate(observed):
        inside = stats.norm(means[target, True], stds[True]).logpdf(at)
        outside = stats.norm(means[target, False], stds[False]).logpdf(at)
        assert found[target] == pytest.approx(inside - outside)


def test_offline_lira_looks_at_shadows_without_the_target_only() -> None:
    references = _references(64, 6)
    observed = np.random.default_rng(3).normal(size=6)
    found = lira.offline(observed, references)
    for target, at in enumerate(observed):
        said = references.confidences[~references.membership[:, target], target]
        expected = stats.norm(said.mean(), said.std(ddof=1)).logcdf(at)
        assert found[target] == pytest.approx(expected)
    changed = np.where(references.membership, 1e6, references.confidences)
    again = lira.offline(observed, References(changed, references.membership))
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("attack", [lira.online, lira.offline])
def test_two_references_are_too_few_and_the_error_names_what_to_use(attack: object) -> None:
    assert attack in {lira.online, lira.offline}
    chosen = lira.online if attack is lira.online else lira.offline
    with pytest.raises(ValueError, match="RMIA"):
        chosen(np.zeros(4), _references(2, 4))


def test_references_have_one_shape() -> None:
    with pytest.raises(ValueError, match="one shape"):
        References(np.zeros((4, 3)), np.zeros((4, 2), dtype=np.bool_))


# ------------------------------------------------------------------------------------------ RMIA


def test_rmia_is_the_share_of_the_population_that_is_fitted_worse() -> None:
    # One reference with each target, one without; probabilities by hand.
    references = np.log(np.array([[0.8, 0.2], [0.4, 0.6]]))
    membership = np.array([[True, False], [False, True]])
    observed = np.log(np.array([0.9, 0.3]))
    # Usual: (.8 + .4) / 2 = .6 and (.6 + .2) / 2 = .4; ratios 1.5 and .75.
    population = Population(
        observed=np.log(np.array([0.5, 0.5, 0.5, 0.5])),
        references=np.log(np.array([[0.2, 0.5, 0.25, 0.9], [0.3, 0.5, 0.5, 0.7]])),
    )
    # Of the population: .5 / (.25, .5, .375, .8) = 2, 1, 1.333, .625.
    found = rmia.online(observed, references, membership, population, gamma=1.0)
    np.testing.assert_array_equal(found, [3 / 4, 1 / 4])
    # At gamma 2 a target must be twice as well fitted: 1.5 / 2 = .75 and .375.
    twice = rmia.online(observed, references, membership, population, gamma=2.0)
    np.testing.assert_array_equal(twice, [1 / 4, 0.0])


def test_offline_rmia_extrapolates_what_models_with_the_target_would_say() -> None:
    references = np.log(np.array([[0.2, 0.9], [0.4, 0.6]]))
    membership = np.array([[False, True], [False, False]])
    observed = np.log(np.array([0.9, 0.72]))
    # Without: .3 and .6; at slope .5: (1.5 * .3 + .5) / 2 = .475 and .7; ratios 1.895 and 1.029.
    population = Population(
        observed=np.log(np.array([0.6, 0.5])), references=np.log(np.full((2, 2), 0.4))
    )
    # Of the population: 1.5 and 1.25.
    found = rmia.offline(observed, references, membership, population, gamma=1.0, slope=0.5)
    np.testing.assert_array_equal(found, [1.0, 0.0])
    as_they_are = rmia.offline(observed, references, membership, population, gamma=1.0, slope=1.0)
    # .9 / .3 = 3 and .72 / .6 = 1.2.
    np.testing.assert_array_equal(as_they_are, [1.0, 0.0])


def test_each_model_under_attack_has_its_own_population() -> None:
    rng = np.random.default_rng(4)
    references, membership = -rng.exponential(size=(4, 6)), rng.random((4, 6)) < 2
    membership[:2] = False
    observed = -rng.exponential(size=(3, 6))
    of_others = -rng.exponential(size=(3, 50))
    by_references = -rng.exponential(size=(4, 50))
    together = rmia.online(
        observed, references, membership, Population(of_others, by_references), gamma=1.0
    )
    for model in range(3):
        alone = rmia.online(
            observed[model],
            references,
            membership,
            Population(of_others[model], by_references),
            gamma=1.0,
        )
        np.testing.assert_array_equal(together[model], alone)


def test_rmia_refuses_what_it_cannot_compare() -> None:
    logs, population = np.full((2, 3), -1.0), Population(np.full(5, -1.0), np.full((2, 5), -1.0))
    nobody = np.zeros((2, 3), dtype=np.bool_)
    with pytest.raises(ValueError, match="no reference"):
        rmia.online(logs[0], logs, nobody, population, gamma=1.0)
    with pytest.raises(ValueError, match="no reference"):
        rmia.offline(logs[0], logs, ~nobody, population, gamma=1.0, slope=0.3)
    with pytest.raises(ValueError, match="gamma"):
        rmia.offline(logs[0], logs, nobody, population, gamma=0.5, slope=0.3)
    with pytest.raises(ValueError, match="slope"):
        rmia.offline(logs[0], logs, nobody, population, gamma=1.0, slope=1.5)


# ---------------------------------------------------------------------------------- shadow attack


def _shadow_logits(seed: int, *, gain: float) -> tuple[Floats, NDArray[np.int64], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 200)
    membership = rng.random((8, 200)) < 0.5
    logits = rng.normal(size=(8, 200, 3))
    logits[..., np.arange(200), labels] += 1 + gain * membership
    return logits, labels, membership


def test_the_shadow_attack_learns_what_members_look_like() -> None:
    logits, labels, membership = _shadow_logits(5, gain=2.0)
    attack = shokri.train_attack(logits[:6], labels, membership[:6])
    found = shokri.shadow_score(logits[6:], labels, attack)
    assert auc(found[membership[6:]], found[~membership[6:]]) > 0.8


def test_a_class_with_few_examples_has_the_attack_model_of_all() -> None:
    logits, labels, membership = _shadow_logits(6, gain=2.0)
    rare = np.where(labels == 2, 0, labels)
    rare[0] = 2
    attack = shokri.train_attack(logits, rare, membership)
    common = shokri.train_attack(logits, np.zeros_like(rare), membership)
    assert not np.array_equal(attack.weights[2], attack.weights[0])
    assert attack.weights[1].shape == common.weights[1].shape
    np.testing.assert_array_equal(common.weights[1], common.weights[2])


def test_the_shadow_attack_needs_both_sides() -> None:
    logits, labels, membership = _shadow_logits(7, gain=0.0)
    with pytest.raises(ValueError, match="others"):
        shokri.train_attack(logits, labels, np.ones_like(membership))
