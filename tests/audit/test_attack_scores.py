import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from sordino_audit.attacks.exposure import exposure, extrapolated_exposure
from sordino_audit.attacks.poisoning import mislabelled_replicas
from sordino_audit.attacks.scores import (
    logit_confidence,
    loss_score,
    modified_entropy_score,
    with_both_classes,
)
from sordino_audit.attacks.white_box import (
    accumulated_projection,
    gradient_norm_score,
    projection_score,
    target_gradients,
)

Floats = NDArray[np.float64]


def _logits(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).normal(scale=2.0, size=shape)


# ------------------------------------------------------------------------------ one model's scores


def test_scores_are_what_their_formulas_say_of_probabilities() -> None:
    logits, labels = _logits(0, 7, 4), np.array([0, 1, 2, 3, 0, 1, 2])
    exponents = np.exp(logits)
    p = exponents / exponents.sum(axis=1, keepdims=True)
    true = p[np.arange(7), labels]
    np.testing.assert_allclose(loss_score(logits, labels), np.log(true))
    np.testing.assert_allclose(logit_confidence(logits, labels), np.log(true / (1 - true)))
    wrong = p * np.log(1 - p)
    wrong[np.arange(7), labels] = 0
    entropy = -(1 - true) * np.log(true) - wrong.sum(axis=1)
    np.testing.assert_allclose(modified_entropy_score(logits, labels), -entropy)


def test_a_certain_model_still_has_scores() -> None:
    # Where probabilities round to 1, a formula in probabilities says infinity, or nothing.
    sure, surer = np.array([[100.0, 0.0, 0.0]]), np.array([[200.0, 0.0, 0.0]])
    right, wrong = np.array([0]), np.array([1])
    assert logit_confidence(sure, right)[0] == pytest.approx(100 - math.log(2))
    assert logit_confidence(surer, right)[0] > logit_confidence(sure, right)[0]
    assert loss_score(sure, wrong)[0] == pytest.approx(-100)
    assert modified_entropy_score(sure, right)[0] == pytest.approx(0, abs=1e-40)
    # Twice: once for the true class that it rules out, once for the wrong one that it swears to.
    assert modified_entropy_score(sure, wrong)[0] == pytest.approx(-200 + math.log(2))


def test_many_models_are_scored_at_once() -> None:
    logits, labels = _logits(1, 3, 5, 4), np.array([3, 0, 1, 1, 2])
    for score in (loss_score, logit_confidence, modified_entropy_score):
        alone = np.stack([score(each, labels) for each in logits])
        np.testing.assert_allclose(score(logits, labels), alone)


def test_a_binary_logit_is_the_log_odds() -> None:
    logits = with_both_classes(np.array([1.5, -0.5]))
    np.testing.assert_allclose(logit_confidence(logits, np.array([1, 1])), [1.5, -0.5])
    np.testing.assert_allclose(logit_confidence(logits, np.array([0, 0])), [-1.5, 0.5])


def test_refuses_labels_that_no_logit_is_of() -> None:
    for score in (loss_score, logit_confidence, modified_entropy_score):
        with pytest.raises(ValueError, match="outside the 3 classes"):
            score(_logits(2, 2, 3), np.array([0, 3]))
    with pytest.raises(ValueError, match="one class"):
        logit_confidence(_logits(3, 2, 1), np.array([0, 0]))


# -------------------------------------------------------------------------------------- exposure


def test_exposure_is_the_bits_that_a_rank_saves() -> None:
    candidates = np.arange(1023.0)
    assert exposure(2000.0, candidates) == 10.0
    assert exposure(-1.0, candidates) == 0.0
    # Ranked 512th of 1,024.
    assert exposure(511.5, candidates) == pytest.approx(1.0, abs=0.01)


def test_a_tie_is_no_exposure() -> None:
    assert exposure(1.0, np.ones(63)) == 0.0


def test_extrapolated_exposure_is_that_of_the_fitted_tail() -> None:
    candidates = stats.skewnorm.rvs(3.0, size=4000, random_state=0)
    beyond = -stats.skewnorm.logsf(5.0, 3.0) / math.log(2)
    assert beyond > math.log2(4001)
    assert extrapolated_exposure(5.0, candidates) == pytest.approx(beyond, rel=0.1)
    # Within the sample both agree.
    inside = exposure(2.0, candidates)
    assert extrapolated_exposure(2.0, candidates) == pytest.approx(inside, abs=0.3)


def test_exposure_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(ValueError, match="1 scores or more"):
        exposure(1.0, np.empty(0))
    with pytest.raises(ValueError, match="no number"):
        exposure(math.nan, np.ones(5))
    with pytest.raises(ValueError, match="one score"):
        extrapolated_exposure(1.0, np.ones(30))
    with pytest.raises(ValueError, match="20 scores or more"):
        extrapolated_exposure(1.0, np.arange(19.0))


# ------------------------------------------------------------------------------------- white box


def test_gradients_are_those_of_one_target_at_a_time() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    module = module.double()
    features = torch.randn(5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 0, 1])
    found = target_gradients(module, features, labels, torch.nn.CrossEntropyLoss())
    for row, (one, label) in enumerate(zip(features, labels, strict=True)):
        loss = torch.nn.functional.cross_entropy(module(one[None]), label[None])
        expected = torch.autograd.grad(loss, list(module.parameters()))
        flat = torch.cat([each.ravel() for each in expected])
        np.testing.assert_allclose(found[row], flat.numpy(), atol=1e-12)


def test_a_projection_is_how_far_an_update_went_down_a_gradient() -> None:
    gradients = np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    update = -np.array([3.0, 4.0])
    np.testing.assert_allclose(projection_score(gradients, update), [5.0, 4.0, 0.0])
    np.testing.assert_allclose(gradient_norm_score(gradients), [-5.0, -2.0, 0.0])


def test_the_matched_filter_of_a_run_is_the_sum_over_rounds() -> None:
    gradients, updates = _logits(4, 6, 3, 10), _logits(5, 6, 10)
    expected = np.zeros(3)
    for each, update in zip(gradients, updates, strict=True):
        expected += projection_score(each, update)
    np.testing.assert_allclose(accumulated_projection(gradients, updates), expected)


# ------------------------------------------------------------------------------------- poisoning


def test_replicas_of_a_target_agree_on_one_wrong_label() -> None:
    labels = np.random.default_rng(6).integers(0, 5, 400)
    poisons = mislabelled_replicas(labels, classes=5, replicas=3, rng=np.random.default_rng(7))
    assert poisons.rows.tolist() == [row for row in range(400) for _ in range(3)]
    assert np.all(poisons.labels != labels[poisons.rows])
    assert np.all(poisons.labels.reshape(400, 3) == poisons.labels[::3, None])
    # Every other class is as likely as any.
    shift = (poisons.labels[::3] - labels) % 5
    assert stats.chisquare(np.bincount(shift, minlength=5)[1:]).pvalue > 1e-9


def test_a_wrong_label_needs_another_class() -> None:
    rng = np.random.default_rng(8)
    with pytest.raises(ValueError, match="two classes"):
        mislabelled_replicas(np.zeros(3, dtype=np.int64), classes=1, replicas=1, rng=rng)
    with pytest.raises(ValueError, match="one replica"):
        mislabelled_replicas(np.zeros(3, dtype=np.int64), classes=2, replicas=0, rng=rng)
    with pytest.raises(ValueError, match="outside"):
        mislabelled_replicas(np.array([2]), classes=2, replicas=1, rng=rng)
