import math

import numpy as np
import pytest
from statistical import assert_rate

from sordino_audit.attacks.results import (
    Assumption,
    _counts_of_highest,
    attack_result,
    auc,
    counts_above,
    tpr_at_fpr,
)
from sordino_audit.bounds import clopper_pearson, gaussian, one_run

DELTA = 1e-5


def _normal(seed: int, count: int, *, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, size=count)


def test_auc_is_the_share_of_pairs_that_are_in_order() -> None:
    members, others = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    # 3 > 2, 3 > 0, 1 < 2, 1 > 0, 2 = 2, 2 > 0: four and a half of six.
    assert auc(members, others) == pytest.approx(4.5 / 6)


def test_auc_agrees_with_every_pair_on_random_scores_with_ties() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 9, 80).astype(float), rng.integers(0, 7, 60).astype(float)
    pairs = members[:, None] - others[None]
    assert auc(members, others) == pytest.approx(float(((np.sign(pairs) + 1) / 2).mean()))


def test_the_roc_is_a_step_function() -> None:
    members, others = np.array([5.0, 4.0, 3.0, 1.0]), np.arange(4.0)
    # No false positive: only what is above 3. One of four: above 2.
    assert tpr_at_fpr(members, others, 0.001) == 0.5
    assert tpr_at_fpr(members, others, 0.24) == 0.5
    assert tpr_at_fpr(members, others, 0.25) == 0.75
    assert tpr_at_fpr(members, others, 1.0) == 1.0


def test_scores_that_are_equal_are_never_told_apart() -> None:
    tied = np.full(50, 7.0)
    assert tpr_at_fpr(tied, tied, 0.1) == 0.0
    assert auc(tied, tied) == 0.5


def test_at_a_fixed_threshold_the_bound_is_that_of_all_scores() -> None:
    members, others = _normal(1, 300, shift=3), _normal(2, 200)
    counts = counts_above(members, others, 1.5)
    expected = clopper_pearson.epsilon_lower_bound(counts, delta=DELTA, confidence=0.95)
    result = attack_result(
        "loss",
        members,
        others,
        assumption=Assumption.INDEPENDENT_RUNS,
        delta=DELTA,
        confidence=0.95,
        threshold=1.5,
    )
    assert result.epsilon_low == expected > 1
    mu = gaussian.mu_lower_bound(counts, confidence=0.95)
    of_family = attack_result(
        "loss",
        members,
        others,
        assumption=Assumption.GAUSSIAN_RUNS,
        delta=DELTA,
        confidence=0.95,
        threshold=1.5,
    )
    assert of_family.epsilon_low == gaussian.epsilon_from_mu(mu, DELTA) > expected


def test_of_one_run_half_of_the_scores_fix_the_number_of_guesses() -> None:
    result = attack_result(
        "loss",
        _normal(10, 400, shift=100),
        _normal(11, 400),
        assumption=Assumption.ONE_RUN,
        delta=DELTA,
        confidence=0.95,
        rng=np.random.default_rng(12),
    )
    # About 200 members of either half show, and a little fewer are guessed, all of them right.
    low, high = (
        one_run.epsilon_lower_bound(
            canaries=400, guesses=guesses, correct=guesses, delta=DELTA, confidence=0.95
        )
        for guesses in (150, 200)
    )
    assert low < result.epsilon_low < high


def test_equal_scores_are_guessed_without_a_look_at_their_coins() -> None:
    tied = np.zeros(2000)
    counts = _counts_of_highest(tied, tied, 1000, rng=np.random.default_rng(9))
    assert counts.false_positives + counts.inserted - counts.false_negatives == 1000
    assert_rate(counts.false_positives, 1000, 0.5)
    ordered = _counts_of_highest(np.ones(300), np.zeros(300), 200, rng=np.random.default_rng(9))
    assert (ordered.false_positives, ordered.false_negatives) == (0, 100)


def test_of_one_run_a_threshold_would_leave_the_number_of_guesses_open() -> None:
    with pytest.raises(ValueError, match="for runs"):
        attack_result(
            "loss",
            [1.0, 2.0],
            [0.0, 1.0],
            assumption=Assumption.ONE_RUN,
            delta=DELTA,
            confidence=0.95,
            threshold=0.5,
        )


@pytest.mark.parametrize("assumption", [Assumption.INDEPENDENT_RUNS, Assumption.GAUSSIAN_RUNS])
def test_a_perfect_attack_reaches_what_it_says_that_it_could_have_found(
    assumption: Assumption,
) -> None:
    result = attack_result(
        "loss",
        _normal(3, 400, shift=100),
        _normal(4, 400),
        assumption=assumption,
        delta=DELTA,
        confidence=0.95,
        rng=np.random.default_rng(5),
    )
    assert result.auc == 1.0
    assert result.tpr(0.001) == 1.0
    assert result.epsilon_low > 3
    assert f"{result.epsilon_low:.2f}" in result.could_have_found


def test_half_of_the_scores_never_choose_the_threshold() -> None:
    trials, false_alarms, uncorrected = 300, 0, 0
    for trial in range(trials):
        members, others = _normal(2 * trial, 300), _normal(2 * trial + 1, 300)
        result = attack_result(
            "noise",
            members,
            others,
            assumption=Assumption.INDEPENDENT_RUNS,
            delta=0.0,
            confidence=0.8,
            rng=np.random.default_rng(trial),
        )
        false_alarms += result.epsilon_low > 0
        uncorrected += _any_threshold_alarms(members, others, error=0.2)
    assert_rate(false_alarms, trials, 0.2, at_most=True)
    # The best threshold on all scores, judged on all, breaks its promise on the same scores.
    with pytest.raises(AssertionError):
        assert_rate(uncorrected, trials, 0.2, at_most=True)


def _any_threshold_alarms(members: np.ndarray, others: np.ndarray, *, error: float) -> bool:
    thresholds = np.concatenate([members, others])
    wrong_inside = np.searchsorted(np.sort(members), thresholds, side="right")
    wrong_outside = len(others) - np.searchsorted(np.sort(others), thresholds, side="right")
    false_positives = clopper_pearson.upper_limit(wrong_outside, len(others), error / 2)
    false_negatives = clopper_pearson.upper_limit(wrong_inside, len(members), error / 2)
    return bool(np.any(false_positives + false_negatives < 1))


def test_infinite_scores_are_scores() -> None:
    result = attack_result(
        "certain",
        [math.inf] * 40,
        [-math.inf] * 40,
        assumption=Assumption.INDEPENDENT_RUNS,
        delta=DELTA,
        confidence=0.95,
        rng=np.random.default_rng(6),
    )
    assert result.auc == 1.0
    assert result.epsilon_low > 1


@pytest.mark.parametrize(
    ("members", "others", "problem"),
    [
        ([1.0], [1.0, 2.0], "members have shape"),
        ([1.0, 2.0], [], "others have shape"),
        ([1.0, math.nan], [1.0, 2.0], "no number"),
    ],
)
def test_refuses_scores_that_show_nothing(
    members: list[float], others: list[float], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        attack_result(
            "loss",
            members,
            others,
            assumption=Assumption.INDEPENDENT_RUNS,
            delta=DELTA,
            confidence=0.95,
            threshold=0.0,
        )


@pytest.mark.parametrize(("threshold", "rng"), [(None, None), (0.0, np.random.default_rng(7))])
def test_needs_a_threshold_or_halves_to_find_one(
    threshold: float | None, rng: np.random.Generator | None
) -> None:
    with pytest.raises(ValueError, match="threshold"):
        attack_result(
            "loss",
            [1.0, 2.0],
            [0.0, 1.0],
            assumption=Assumption.INDEPENDENT_RUNS,
            delta=DELTA,
            confidence=0.95,
            threshold=threshold,
            rng=rng,
        )
