import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_discrete_gaussian

from sordino_client.evaluation import (
    answer_table,
    error_histogram,
    exact_table,
    noisy_table,
    score_histogram,
    surprise_histogram,
)
from sordino_client.training.noise import SecureNoise
from sordino_protocols.plan import EvaluationPlan
from sordino_protocols.privacy import DiscreteGaussian

ANY_SCORE = st.floats(allow_nan=True, allow_infinity=True)
BINARY = EvaluationPlan("binary", bins=10, classes=1, noise_multiplier=3.0)
CLASSES = EvaluationPlan("cross_entropy", bins=10, classes=3, noise_multiplier=3.0)
NUMBER = EvaluationPlan("squared", bins=8, classes=1, noise_multiplier=3.0)
LIKELIHOOD = EvaluationPlan("likelihood", bins=8, classes=3, noise_multiplier=3.0)
PLANS = [BINARY, CLASSES, NUMBER, LIKELIHOOD]
Answers = tuple[NDArray[np.float64], NDArray[np.float32]]


@st.composite
def answers(draw: st.DrawFn, plan: EvaluationPlan, *, least: int = 0) -> Answers:
    """Outputs of any kind, and labels that make sense for the plan."""
    units = draw(st.integers(least, 12))
    rows = st.lists(ANY_SCORE, min_size=plan.classes, max_size=plan.classes)
    outputs = draw(st.lists(rows, min_size=units, max_size=units))
    label = {
        "binary": st.sampled_from([0.0, 1.0]),
        "cross_entropy": st.sampled_from([0.0, 1.0, 2.0]),
        "squared": st.floats(-1, 1),
        "likelihood": st.floats(width=32),
    }[plan.loss]
    labels = draw(st.lists(label, min_size=units, max_size=units))
    shaped = np.array(outputs, dtype=np.float64).reshape(units, plan.classes)
    return shaped, np.array(labels, dtype=np.float32)


def test_counts_by_class_and_score() -> None:
    scores = np.array([0.0, 0.24, 0.25, 0.5, 0.99, 1.0])
    labels = np.array([0, 1, 0, 1, 1, 1], dtype=np.float32)
    histogram = score_histogram(scores, labels, bins=4)
    assert histogram.tolist() == [[1, 1, 0, 0], [1, 0, 1, 2]]
    assert histogram.dtype == np.int64


def test_counts_by_class_and_answer() -> None:
    outputs = np.array([[3.0, 1, 2], [0, 0, 0], [1, 2, 3], [5, 9, 7]])
    labels = np.array([0, 1, 2, 2], dtype=np.float32)
    assert answer_table(outputs, labels, classes=3).tolist() == [[0, 1], [1, 0], [1, 1]]


def test_counts_by_error() -> None:
    outputs = np.array([0.0, 0.3, -1.0, 7.0, 0.5])
    labels = np.array([0.1, -0.3, 1.0, 0.0, 0.5], dtype=np.float32)
    # The fourth is a prediction of 1, for a number cannot be larger.
    assert error_histogram(outputs, labels, bins=4).tolist() == [[2, 1, 1, 1]]


def test_counts_by_mean_surprise() -> None:
    logs = -np.array([[0.0, 0.0], [1.0, 2.0], [0.5, 5.0], [3.0, 9.0], [np.inf, 0.0]])
    # Bins of 1 nat a column; whoever is above 4 is in the last one.
    assert surprise_histogram(logs, bins=4).tolist() == [[1, 1, 1, 2]]
    assert surprise_histogram(np.array([[np.nan, 0.0]]), bins=4).tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_no_number_is_wrong(bad: float) -> None:
    both = np.array([0, 1], dtype=np.float32)
    if np.isnan(bad):
        wrong = score_histogram(np.full(2, bad), both, bins=4)
        assert wrong.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    outputs = np.array([[bad, -1.0], [-1.0, bad]])
    assert answer_table(outputs, both, classes=2)[:, 1].sum() == 0
    assert error_histogram(np.full(2, bad), both, bins=4).tolist() == [[0, 0, 0, 2]]


@pytest.mark.parametrize("plan", PLANS)
@given(data=st.data())
def test_one_record_more_is_one_count_more_in_one_cell(
    plan: EvaluationPlan, data: st.DataObject
) -> None:
    outputs, labels = data.draw(answers(plan))
    whole = exact_table(outputs, labels, plan)
    assert whole.shape == plan.shape
    assert whole.dtype == np.int64
    assert whole.sum() == len(labels)
    if len(labels):
        less = exact_table(outputs[1:], labels[1:], plan)
        assert np.abs(whole - less).sum() == 1


def test_noise_is_discrete_and_has_the_scale_of_the_plan() -> None:
    for shape in (
        EvaluationPlan("binary", bins=50, classes=1, noise_multiplier=2.0),
        EvaluationPlan("cross_entropy", bins=50, classes=50, noise_multiplier=40.0),
        EvaluationPlan("squared", bins=100, classes=1, noise_multiplier=0.7),
    ):
        nothing = np.zeros(shape.shape, dtype=np.int64)
        releases = np.stack([noisy_table(nothing, shape, noise=SecureNoise()) for _ in range(100)])
        assert np.array_equal(releases, np.rint(releases))
        assert (releases < 0).any()
        assert_discrete_gaussian(releases, shape.noise_multiplier)
        # The event that the ledger charges is about exactly this noise.
        assert shape.event == DiscreteGaussian(shape.noise_multiplier, 1, shape.unit)
        with pytest.raises(AssertionError, match="discrete Gaussian"):
            assert_discrete_gaussian(releases, shape.noise_multiplier / np.sqrt(2))


def test_without_noise_it_is_the_exact_table() -> None:
    logits, labels = np.array([[-3.0], [2.0]]), np.array([0, 1], dtype=np.float32)
    exact = exact_table(logits, labels, BINARY)
    released = noisy_table(exact, BINARY, noise=NoNoise())
    assert np.array_equal(released, exact)
    scores = 1 / (1 + np.exp(-logits[:, 0]))
    assert np.array_equal(released, score_histogram(scores, labels, bins=10))


@pytest.mark.parametrize("plan", PLANS)
@given(data=st.data())
def test_neighbours_differ_by_one_under_the_same_noise(
    plan: EvaluationPlan, data: st.DataObject
) -> None:
    outputs, labels = data.draw(answers(plan, least=1))
    whole = noisy_table(exact_table(outputs, labels, plan), plan, noise=SeededNoise(0))
    others = exact_table(outputs[1:], labels[1:], plan)
    less = noisy_table(others, plan, noise=SeededNoise(0))
    assert np.linalg.norm(whole - less) == 1
