"""Attribute and property inference: against the engine's own models, and by hand."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax
from seeded_noise import SeededNoise
from statistical import assert_rate

from sordino_audit.findings import UNKNOWN, Severity, Verdict
from sordino_audit.inference.attribute import (
    Answer,
    Evidence,
    People,
    SensitiveColumn,
    Shadow,
    audit_attribute,
    fit_belief,
    guess,
    label_likelihoods,
    true_values,
)
from sordino_audit.inference.property_of_data import Models, audit_property
from sordino_audit.inference.result import (
    Guesses,
    InferenceAudit,
    advantage,
    detectable_advantage,
    judge,
)
from sordino_audit.inference.softmax_regression import fit
from sordino_client.training.clipping import outputs
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.models import FloatVector, LogisticSpec, MlpSpec, initial_weights
from sordino_protocols.plan import TrainingPlan

Floats = NDArray[np.float64]

VALUES, LABELS = 4, 5
DIET = SensitiveColumn("diet", 3, np.eye(VALUES))
NETWORK = MlpSpec(kind="mlp", hidden=(64,), activation="relu", outputs=LABELS)
REGRESSION = LogisticSpec(kind="logistic", outputs=2)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained by the engine: full batches, one round."""

    noise_multiplier: float
    clipping_norm: float
    steps: int


REMEMBERING = Recipe(noise_multiplier=1e-4, clipping_norm=10.0, steps=500)
PRIVATE = Recipe(noise_multiplier=10.0, clipping_norm=0.5, steps=60)


def trained(
    model: MlpSpec | LogisticSpec, people: People, recipe: Recipe, *, seed: int
) -> FloatVector:
    plan = TrainingPlan(
        sampling_rate=1.0,
        noise_multiplier=recipe.noise_multiplier,
        clipping_norm=recipe.clipping_norm,
        rounds=1,
        local_steps=recipe.steps,
        local_learning_rate=1.0,
        lanes=0,
        update="delta",
        loss="cross_entropy",
    )
    units = Units(
        people.features.astype(np.float32),
        people.labels.astype(np.float32),
        np.empty(0, dtype=np.int64),
    )
    start = initial_weights(model, people.features.shape[1], seed=b"inference")
    made = train_round(
        units,
        start,
        model,
        plan,
        expected_batch_size=float(len(people.labels)),
        noise=SeededNoise(seed),
    )
    return start + made.vector


def answers(model: MlpSpec | LogisticSpec, weights: FloatVector) -> Answer:
    def answer(features: Floats) -> Floats:
        logits = outputs(weights, model, features.astype(np.float32)).numpy()
        logs: Floats = log_softmax(logits.astype(np.float64), axis=1)
        return logs

    return answer


def draw_people(count: int, rng: np.random.Generator) -> People:
    """The diet follows the first column, loosely; labels are anybody's guess."""
    known = rng.standard_normal((count, 3))
    diet = np.clip((known[:, 0] + rng.standard_normal(count)) * 0.8 + 1.5, 0, VALUES - 1)
    features = np.concatenate([known, np.eye(VALUES)[diet.astype(np.int64)]], axis=1)
    return People(features, rng.integers(0, LABELS, count))


def attribute_audit(recipe: Recipe) -> InferenceAudit:
    rng = np.random.default_rng(31)
    members, others, public, own = (draw_people(count, rng) for count in (100, 400, 400, 100))
    audited, shadow = (
        answers(NETWORK, trained(NETWORK, people, recipe, seed=seed))
        for seed, people in ((1, members), (2, own))
    )
    return audit_attribute(
        DIET,
        audited,
        members=members,
        others=others,
        public=public,
        shadow=Shadow(shadow, own),
        confidence=0.95,
    )


def test_a_model_that_remembers_gives_an_attribute_away_and_a_private_one_does_not() -> None:
    found, private = attribute_audit(REMEMBERING), attribute_audit(PRIVATE)
    assert found.verdict is Verdict.SUSPECT
    assert found.advantage.low > 0.1
    assert found.right - found.baseline == pytest.approx(found.advantage.estimate)
    assert found.on_others.high < 0.1
    assert "it remembers its training data" in found.findings[0].message
    assert private.verdict is Verdict.LOOSE
    assert private.findings == ()
    assert private.advantage.estimate < 0.1
    assert "guesses with probability 0.9" in private.could_have_found


def property_audit(recipe: Recipe) -> InferenceAudit:
    """Whether most of a site's records are of class 1, read off the weights of a regression."""
    rng = np.random.default_rng(32)

    def site(*, has_property: bool) -> People:
        labels = (rng.random(60) < (0.8 if has_property else 0.5)).astype(np.int64)
        return People(rng.standard_normal((60, 2)) + labels[:, np.newaxis], labels)

    def together(first: People, second: People) -> People:
        return People(
            np.concatenate([first.features, second.features]),
            np.concatenate([first.labels, second.labels]),
        )

    def looks(people: People) -> FloatVector:
        return trained(REGRESSION, people, recipe, seed=int(rng.integers(2**31)))

    coins = rng.random(100) < 0.5
    rest = [site(has_property=False) for _ in coins]
    with_site = np.stack(
        [
            looks(together(other, site(has_property=bool(coin))))
            for other, coin in zip(rest, coins, strict=True)
        ]
    )
    without = np.stack([looks(other) for other in rest[40:]])
    return audit_property(
        "most records are of class 1",
        shadows=Models(with_site[:40], coins[:40]),
        released=Models(with_site[40:], coins[40:]),
        unaware=without,
        confidence=0.95,
    )


def test_a_property_is_read_off_models_that_saw_it_but_not_through_enough_noise() -> None:
    clear = property_audit(Recipe(noise_multiplier=1e-4, clipping_norm=10.0, steps=5))
    assert clear.verdict is Verdict.SUSPECT
    assert clear.advantage.estimate > 0.25
    assert clear.on_others == UNKNOWN
    assert "does not promise against what a population has in common" in clear.findings[0].message
    noisy = property_audit(Recipe(noise_multiplier=400.0, clipping_norm=0.5, steps=5))
    assert noisy.findings == ()
    assert abs(noisy.advantage.estimate) < 0.3


def test_the_interval_of_an_advantage_covers_it_as_often_as_stated() -> None:
    rng, trials, gained, lost = np.random.default_rng(33), 2_000, 0.15, 0.05
    missed = 0
    for _ in range(trials):
        draw = rng.random(150)
        attack = draw < 0.5 + gained
        baseline = (draw < 0.5) | (draw > 1 - lost)
        interval = advantage(Guesses(attack, baseline), confidence=0.9)
        missed += not interval.low <= gained - lost <= interval.high
    assert_rate(missed, trials, 0.1, at_most=True)


def test_no_advantage_is_rarely_suspect() -> None:
    rng, trials = np.random.default_rng(34), 1_000
    suspects = sum(
        judge(
            "attribute",
            "diet",
            Guesses(rng.random(100) < 0.6, rng.random(100) < 0.6),
            others=None,
            confidence=0.95,
            tolerance=0.0,
            blind_spots=(),
        ).verdict
        is Verdict.SUSPECT
        for _ in range(trials)
    )
    assert_rate(suspects, trials, 0.025, at_most=True)


def test_a_perfect_attack_on_a_hopeless_baseline_is_never_a_violation() -> None:
    audit = judge(
        "property",
        "it holds",
        Guesses(np.ones(500, dtype=np.bool_), np.zeros(500, dtype=np.bool_)),
        others=None,
        confidence=0.999,
        tolerance=0.05,
        blind_spots=(),
    )
    assert audit.verdict is Verdict.SUSPECT
    assert audit.findings[0].severity is Severity.SUSPECT
    assert audit.advantage.estimate == 1.0
    assert audit.exit_code == Verdict.SUSPECT.exit_code


@pytest.mark.parametrize("count", [0, 8])
def test_too_few_guesses_are_inconclusive(count: int) -> None:
    flags = np.zeros(count, dtype=np.bool_)
    audit = judge(
        "attribute",
        "diet",
        Guesses(flags, flags),
        others=Guesses(flags, flags),
        confidence=0.95,
        tolerance=0.05,
        blind_spots=(),
    )
    assert audit.verdict is Verdict.INCONCLUSIVE
    assert (audit.advantage == UNKNOWN) == (count == 0)
    assert math.isnan(audit.right) == (count == 0)


def test_the_detectable_advantage_is_found_about_nine_times_of_ten() -> None:
    rng, trials, count = np.random.default_rng(35), 1_000, 200
    quiet = Guesses(np.zeros(count, dtype=np.bool_), np.arange(count) < 10)
    size = detectable_advantage(quiet, confidence=0.95, tolerance=0.05)
    found = 0
    for _ in range(trials):
        draw = rng.random(count)
        attack, baseline = draw < size + 0.05, draw > 0.95
        found += advantage(Guesses(attack, baseline), confidence=0.95).low > 0.05
    assert 0.75 < found / trials < 0.99


def test_guesses_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="one guess a target"):
        Guesses(np.zeros(2, dtype=np.bool_), np.zeros(3, dtype=np.bool_))
    pair = Guesses(np.zeros(2, dtype=np.bool_), np.zeros(2, dtype=np.bool_))
    with pytest.raises(ValueError, match="tolerance"):
        judge("attribute", "x", pair, others=None, confidence=0.9, tolerance=1.0, blind_spots=())
    with pytest.raises(ValueError, match="confidence"):
        advantage(pair, confidence=0.0)


def test_a_suggestion_is_believed_as_far_as_it_is_worth() -> None:
    rng, count = np.random.default_rng(36), 500
    truth = rng.integers(0, 3, count)
    prior = np.full((count, 3), math.log(1 / 3))
    useless = np.log(rng.dirichlet(np.ones(3), count))
    telling = useless + 2.0 * np.eye(3)[truth]
    assert fit_belief(Evidence(prior, useless, truth)).in_model < 0.2
    belief = fit_belief(Evidence(prior, telling, truth))
    assert belief.in_model > 0.5
    guesses = guess(Evidence(prior, telling, truth), belief)
    assert np.mean(guesses.attack) > 0.6 > np.mean(guesses.baseline)


def test_a_model_is_asked_with_each_value_and_its_certainty_is_bounded() -> None:
    people = People(np.array([[1.0, 2.0, 3.0, 0.0, 1.0]]), np.array([1]))
    column = SensitiveColumn("flag", 3, np.array([[1.0, 0.0], [0.0, 1.0]]))

    def model(features: Floats) -> Floats:
        assert features[0, :3].tolist() == [1.0, 2.0, 3.0]
        first = 0.75 if features[0, 3] == 1.0 else 1 - 1e-9
        return np.log([[first, 1 - first]])

    likelihoods = label_likelihoods(model, people, column)
    assert likelihoods == pytest.approx(np.log([[0.25, 0.01]]))
    assert true_values(people.features, column).tolist() == [1]


def test_a_value_that_the_column_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="diet is none of the values"):
        true_values(np.zeros((1, 7)), DIET)
    with pytest.raises(ValueError, match="two values or more"):
        SensitiveColumn("constant", 0, np.ones((1, 1)))
    with pytest.raises(ValueError, match="a label each"):
        People(np.zeros((2, 3)), np.zeros(3, dtype=np.int64))


def test_property_audits_refuse_what_does_not_fit() -> None:
    looks, coins = np.zeros((4, 2)), np.array([True, False, True, False])
    shadows, released = Models(looks, coins), Models(looks, coins)
    with pytest.raises(ValueError, match="both with and without"):
        audit_property(
            "x",
            shadows=Models(looks, np.ones(4, dtype=np.bool_)),
            released=released,
            unaware=looks,
            confidence=0.9,
        )
    with pytest.raises(ValueError, match="unaware model for each"):
        audit_property("x", shadows=shadows, released=released, unaware=looks[:3], confidence=0.9)
    with pytest.raises(ValueError, match="in the same way"):
        audit_property(
            "x",
            shadows=Models(np.zeros((4, 3)), coins),
            released=released,
            unaware=looks,
            confidence=0.9,
        )
    with pytest.raises(ValueError, match="finite"):
        Models(np.full((4, 2), math.nan), coins)


def test_softmax_regression_finds_the_probabilities_that_made_the_classes() -> None:
    rng, rows = np.random.default_rng(37), 20_000
    features = rng.standard_normal((rows, 2)) * [1.0, 30.0] + [0.0, 5.0]
    scores = np.stack([features[:, 0], np.zeros(rows), 0.05 * features[:, 1] - 0.5], axis=1)
    truth = log_softmax(scores, axis=1)
    classes = (rng.random(rows)[:, np.newaxis] > np.cumsum(np.exp(truth), axis=1)).sum(axis=1)
    model = fit(features, classes, class_count=3, penalty=1e-6)
    assert np.mean(np.abs(np.exp(model.log_probabilities(features)) - np.exp(truth))) < 0.02


@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_softmax_regression_under_a_huge_penalty_predicts_the_shares(
    classes: int, rows: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    model = fit(rng.standard_normal((rows, 2)), labels, class_count=classes, penalty=1e6)
    shares = (np.bincount(labels, minlength=classes) * rows + rows / classes) / (rows + 1) / rows
    predicted = np.exp(model.log_probabilities(rng.standard_normal((1, 2)))[0])
    assert predicted == pytest.approx(shares, abs=0.02)
    assert np.all(predicted > 0)


def test_softmax_regression_refuses_what_it_cannot_fit() -> None:
    features, labels = np.zeros((3, 1)), np.array([0, 1, 2])
    with pytest.raises(ValueError, match="from 0 to 1"):
        fit(features, labels, class_count=2, penalty=1.0)
    with pytest.raises(ValueError, match="penalty"):
        fit(features, labels, class_count=3, penalty=0.0)
    with pytest.raises(ValueError, match="a class for each"):
        fit(np.zeros((0, 1)), np.zeros(0, dtype=np.int64), class_count=2, penalty=1.0)
