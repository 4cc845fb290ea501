from dataclasses import replace

import numpy as np
import pytest
from seeded_noise import SeededNoise

from sordino_audit.attacks.black_box import (
    BlackBox,
    answer,
    audit_black_box,
    fitted_start,
    most_surprising,
    rehearsed_threshold,
    train,
)
from sordino_audit.attacks.results import Assumption
from sordino_client.training.clipping import outputs
from sordino_protocols.models import MlpSpec, initial_weights
from sordino_protocols.plan import TrainingPlan

WIDTH, RECORDS, CLASSES = 6, 90, 3
MODEL = MlpSpec(kind="mlp", hidden=(5,), activation="tanh", embeddings=(), outputs=CLASSES)
START = initial_weights(MODEL, WIDTH, seed=bytes(32))


def _public() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, RECORDS)
    features = rng.normal(size=(RECORDS, WIDTH)) / 4 + np.eye(CLASSES, WIDTH)[labels]
    return features.astype(np.float32), labels.astype(np.float32)


def _target(*, noise_multiplier: float) -> BlackBox:
    features, labels = _public()
    start = fitted_start(MODEL, features, labels, steps=120, learning_rate=0.05, start=START)
    row, label = most_surprising(MODEL, start, features)
    return BlackBox(
        model=MODEL,
        plan=TrainingPlan(
            sampling_rate=1.0,
            noise_multiplier=noise_multiplier,
            clipping_norm=0.5,
            rounds=2,
            local_steps=2,
            local_learning_rate=1.0,
            lanes=0,
            update="delta",
            loss="cross_entropy",
        ),
        start=start,
        features=features,
        labels=labels,
        canary=features[row : row + 1],
        canary_label=label,
        expected_batch_size=float(RECORDS),
    )


def test_the_start_fits_public_records_and_rules_the_canary_out() -> None:
    features, labels = _public()
    target = _target(noise_multiplier=1.0)
    fitted = outputs(target.start, MODEL, features).numpy().argmax(axis=1) == labels
    assert fitted.mean() > 0.95
    every = [
        answer(replace(target, canary=features[row : row + 1], canary_label=label), target.start)
        for row in range(RECORDS)
        for label in range(CLASSES)
    ]
    assert answer(target, target.start) == min(every) < -3


def test_a_training_with_the_canary_answers_higher_by_its_whole_clipped_gradient() -> None:
    quiet = _target(noise_multiplier=1e-4)
    without, with_it = (
        answer(quiet, train(quiet, is_member=is_member, noise=SeededNoise(1)))
        for is_member in (False, True)
    )
    assert without < rehearsed_threshold(quiet, noise=SeededNoise(2)) < with_it
    # Four steps of length C / B down the canary's gradient move its margin by four times its slope.
    plan = quiet.plan
    steps = plan.rounds * plan.local_steps
    towards = train(quiet, is_member=True, noise=SeededNoise(1)) - train(
        quiet, is_member=False, noise=SeededNoise(1)
    )
    bound = steps * plan.local_learning_rate * plan.clipping_norm / quiet.expected_batch_size
    assert 0.9 * bound < np.linalg.norm(towards) < 1.02 * bound


def test_too_little_noise_is_seen_in_the_answers() -> None:
    result = audit_black_box(
        _target(noise_multiplier=0.2), models=60, delta=1e-5, confidence=0.95, noise=SeededNoise(3)
    )
    assert result.assumption == Assumption.GAUSSIAN_RUNS
    assert result.auc == 1.0
    assert result.epsilon_low > 5
    assert len(result.members) == len(result.others) == 30


def test_enough_noise_hides_the_canary() -> None:
    result = audit_black_box(
        _target(noise_multiplier=40.0), models=60, delta=1e-5, confidence=0.95, noise=SeededNoise(4)
    )
    assert result.epsilon_low == 0.0


def test_the_threshold_knows_nothing_of_the_models_that_are_judged() -> None:
    target = _target(noise_multiplier=3.0)
    thresholds = [rehearsed_threshold(target, noise=SeededNoise(seed)) for seed in (5, 6)]
    assert thresholds[0] == pytest.approx(thresholds[1], abs=1e-3)


def test_refuses_a_training_that_it_does_not_attack() -> None:
    target = _target(noise_multiplier=1.0)
    with pytest.raises(ValueError, match="deltas"):
        replace(target, plan=replace(target.plan, update="sum"))
    with pytest.raises(ValueError, match="one record"):
        replace(target, canary=target.features[:2])
