import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_scale

from sordino_client.evaluation import noisy_histogram, score_histogram
from sordino_client.training.noise import SecureNoise
from sordino_protocols.plan import EvaluationPlan

ANY_SCORE = st.floats(allow_nan=True, allow_infinity=True)


def test_counts_by_class_and_score() -> None:
    scores = np.array([0.0, 0.24, 0.25, 0.5, 0.99, 1.0])
    labels = np.array([0, 1, 0, 1, 1, 1], dtype=np.float32)
    histogram = score_histogram(scores, labels, bins=4)
    assert histogram.tolist() == [[1, 1, 0, 0], [1, 0, 1, 2]]
    assert histogram.dtype == np.int64


@given(
    records=st.lists(st.tuples(ANY_SCORE, st.sampled_from([0.0, 1.0])), max_size=20),
    bins=st.integers(1, 12),
)
def test_one_record_more_is_one_count_more_in_one_cell(
    records: list[tuple[float, float]], bins: int
) -> None:
    scores = np.array([score for score, _ in records])
    labels = np.array([label for _, label in records], dtype=np.float32)
    whole = score_histogram(scores, labels, bins=bins)
    assert whole.shape == (2, bins)
    assert whole.sum() == len(records)
    if records:
        less = score_histogram(scores[1:], labels[1:], bins=bins)
        assert np.abs(whole - less).sum() == 1


def test_noise_has_the_scale_of_the_plan_and_leaves_whole_numbers() -> None:
    plan = EvaluationPlan(bins=50, noise_multiplier=40.0)
    nothing = np.zeros(0)
    releases = np.stack(
        [
            noisy_histogram(nothing, nothing.astype(np.float32), plan, noise=SecureNoise())
            for _ in range(100)
        ]
    )
    assert np.array_equal(releases, np.rint(releases))
    # Rounding to whole numbers adds the variance of a uniform error of width 1.
    assert_scale(releases, np.sqrt(plan.noise_multiplier**2 + 1 / 12))
    assert (releases < 0).any()
    with pytest.raises(AssertionError):
        assert_scale(releases, plan.noise_multiplier / np.sqrt(2))


def test_without_noise_it_is_the_exact_histogram() -> None:
    plan = EvaluationPlan(bins=4, noise_multiplier=1.0)
    scores, labels = np.array([0.1, 0.9]), np.array([0, 1], dtype=np.float32)
    released = noisy_histogram(scores, labels, plan, noise=NoNoise())
    assert np.array_equal(released, score_histogram(scores, labels, bins=4))


def test_neighbours_differ_by_one_under_the_same_noise() -> None:
    plan = EvaluationPlan(bins=10, noise_multiplier=3.0)
    scores, labels = np.array([0.1, 0.9, 0.4]), np.array([0, 1, 1], dtype=np.float32)
    whole = noisy_histogram(scores, labels, plan, noise=SeededNoise(0))
    less = noisy_histogram(scores[1:], labels[1:], plan, noise=SeededNoise(0))
    assert np.linalg.norm(whole - less) == 1
