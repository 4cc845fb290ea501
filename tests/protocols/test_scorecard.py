import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from statistical import assert_rate

from sordino_protocols.errors import InputError
from sordino_protocols.scorecard import scorecard

POPULATION = 400_000
BINS = 10


def draw(rng: np.random.Generator, records: int) -> NDArray[np.float64]:
    """An exact histogram of records of a population with AUC .87 and accuracy .79."""
    positive = rng.random(records) < 0.55
    logits = np.where(positive, 1.3, -1.3) + 1.6 * rng.standard_normal(records)
    scores = 1 / (1 + np.exp(-logits))
    rows = [np.histogram(scores[positive == c], bins=BINS, range=(0, 1))[0] for c in (False, True)]
    return np.stack(rows).astype(np.float64)


def test_exact_histogram_gives_exact_metrics() -> None:
    card = scorecard(np.array([[3.0, 1, 0, 0], [0.0, 1, 1, 2]]), noise_std=0.0, confidence=0.95)
    assert card.accuracy.value == pytest.approx(7 / 8)
    # 16 pairs; the only ones not won are the tie in the second bin.
    assert card.auc.value == pytest.approx(15.5 / 16)
    assert card.confidence == 0.95


@pytest.mark.parametrize(
    ("records", "noise_std"), [(180, 0.0), (180, 7.0), (180, 24.0), (900, 7.0)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(records: int, noise_std: float) -> None:
    rng = np.random.default_rng(11)
    truth = scorecard(draw(rng, POPULATION), noise_std=0.0, confidence=0.95)
    trials, hits = 150, {"accuracy": 0, "auc": 0}
    for _ in range(trials):
        exact = draw(rng, records)
        noisy = np.rint(exact + noise_std * rng.standard_normal(exact.shape))
        card = scorecard(noisy, noise_std=noise_std, confidence=0.95)
        hits["accuracy"] += card.accuracy.lower <= truth.accuracy.value <= card.accuracy.upper
        hits["auc"] += card.auc.lower <= truth.auc.value <= card.auc.upper
    for covered in hits.values():
        assert_rate(covered, trials, 0.94, at_least=True, false_failure=1e-6)


def test_an_interval_that_forgets_the_noise_is_caught() -> None:
    rng = np.random.default_rng(12)
    truth = scorecard(draw(rng, POPULATION), noise_std=0.0, confidence=0.95)
    covered = 0
    for _ in range(150):
        exact = draw(rng, 180)
        noisy = np.rint(exact + 7.0 * rng.standard_normal(exact.shape))
        card = scorecard(noisy, noise_std=0.0, confidence=0.95)
        covered += card.accuracy.lower <= truth.accuracy.value <= card.accuracy.upper
    with pytest.raises(AssertionError):
        assert_rate(covered, 150, 0.94, at_least=True, false_failure=1e-6)


def test_noise_that_drowns_the_counts_gives_an_interval_that_says_nothing() -> None:
    rng = np.random.default_rng(13)
    noisy = np.rint(draw(rng, 20) + 1000 * rng.standard_normal((2, BINS)))
    card = scorecard(noisy, noise_std=1000.0, confidence=0.99)
    assert (card.auc.lower, card.auc.upper) == (0, 1)
    assert (card.accuracy.lower, card.accuracy.upper) == (0, 1)


def test_more_records_narrow_the_interval() -> None:
    rng = np.random.default_rng(14)
    widths = []
    for records in (200, 20_000):
        card = scorecard(draw(rng, records), noise_std=5.0, confidence=0.95)
        widths.append(card.auc.upper - card.auc.lower)
    assert widths[1] < widths[0] / 4


@given(
    histogram=arrays(np.float64, (2, 4), elements=st.integers(-50, 50).map(float)),
    noise_std=st.floats(0, 100),
)
def test_any_noisy_histogram_gives_ordered_numbers_in_the_unit_interval(
    histogram: NDArray[np.float64], noise_std: float
) -> None:
    card = scorecard(histogram, noise_std=noise_std, confidence=0.95)
    for estimate in (card.accuracy, card.auc):
        assert 0 <= estimate.lower <= estimate.value <= estimate.upper <= 1


@pytest.mark.parametrize(
    ("histogram", "noise_std", "confidence", "says"),
    [
        (np.zeros((3, 4)), 1.0, 0.95, "shape"),
        (np.zeros(4), 1.0, 0.95, "shape"),
        (np.zeros((2, 3)), 1.0, 0.95, "even"),
        (np.full((2, 4), np.nan), 1.0, 0.95, "finite"),
        (np.zeros((2, 4)), -1.0, 0.95, "noise_std"),
        (np.zeros((2, 4)), 1.0, 1.0, "confidence"),
    ],
)
def test_refuses_what_it_cannot_read(
    histogram: NDArray[np.float64], noise_std: float, confidence: float, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        scorecard(histogram, noise_std=noise_std, confidence=confidence)
