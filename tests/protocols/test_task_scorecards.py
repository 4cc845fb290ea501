"""Figures of several classes and of numbers: exact where there is no noise, covering where is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from statistical import assert_rate

from sordino_protocols.errors import InputError
from sordino_protocols.plan import LossName
from sordino_protocols.scorecard import (
    LARGEST_ERROR,
    LARGEST_SURPRISE,
    class_scorecard,
    error_scorecard,
    figures,
    scorecard,
    task_scorecard,
)

RECALLS = np.array([0.9, 0.75, 0.4])
SHARES = np.array([0.5, 0.3, 0.2])
TRIALS = 200


def answers(rng: np.random.Generator, units: int) -> NDArray[np.float64]:
    """An exact table [classes, (wrong, right)] of units of a population."""
    sizes = rng.multinomial(units, SHARES)
    right = rng.binomial(sizes, RECALLS)
    return np.stack([sizes - right, right], axis=1).astype(np.float64)


def errors(rng: np.random.Generator, units: int) -> NDArray[np.float64]:
    return np.minimum(np.abs(rng.gamma(2.0, 0.15, units)), LARGEST_ERROR)


def counted(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    return np.histogram(values, bins=bins, range=(0, LARGEST_ERROR))[0].astype(np.float64)[None]


def noisy(
    rng: np.random.Generator, exact: NDArray[np.float64], noise_std: float
) -> NDArray[np.float64]:
    return np.rint(exact + noise_std * rng.standard_normal(exact.shape))


def test_exact_answers_give_exact_figures() -> None:
    table = np.array([[1.0, 9], [2, 2], [3, 1]])
    card = class_scorecard(table, noise_std=0.0, confidence=0.95)
    assert card.accuracy.value == pytest.approx(12 / 18)
    assert [each.value for each in card.recalls] == pytest.approx([0.9, 0.5, 0.25])
    assert card.balanced_accuracy.value == pytest.approx((0.9 + 0.5 + 0.25) / 3)


def test_two_classes_have_the_accuracy_of_the_binary_card() -> None:
    histogram = np.array([[8.0, 3.0], [2.0, 7.0]])
    table = np.array([[3.0, 8.0], [2.0, 7.0]])
    binary = scorecard(histogram, noise_std=2.0, confidence=0.9)
    assert class_scorecard(table, noise_std=2.0, confidence=0.9).accuracy == binary.accuracy


def test_exact_errors_give_figures_within_half_a_bin() -> None:
    values = errors(np.random.default_rng(3), 5000)
    card = error_scorecard(counted(values, 40), noise_std=0.0, confidence=0.95)
    assert card.mean_absolute_error.value == pytest.approx(values.mean(), abs=0.025)
    assert card.root_mean_squared_error.value == pytest.approx(
        np.sqrt(np.mean(values**2)), abs=0.025
    )


@pytest.mark.parametrize(("units", "noise_std"), [(300, 0.0), (300, 6.0), (2000, 20.0)])
def test_class_intervals_hold_the_truth_as_often_as_they_say(units: int, noise_std: float) -> None:
    rng = np.random.default_rng(21)
    truths = {"accuracy": float(SHARES @ RECALLS), "balanced_accuracy": float(RECALLS.mean())}
    hits = dict.fromkeys((*truths, "recall"), 0)
    for _ in range(TRIALS):
        table = noisy(rng, answers(rng, units), noise_std)
        card = class_scorecard(table, noise_std=noise_std, confidence=0.95)
        for name, found in figures(card).items():
            hits[name] += found.lower <= truths[name] <= found.upper
        hits["recall"] += card.recalls[2].lower <= RECALLS[2] <= card.recalls[2].upper
    for covered in hits.values():
        assert_rate(covered, TRIALS, 0.94, at_least=True, false_failure=1e-6)


@pytest.mark.parametrize(
    ("units", "noise_std", "bins"), [(300, 0.0, 20), (300, 5.0, 20), (3000, 10.0, 100)]
)
def test_error_intervals_hold_the_truth_as_often_as_they_say(
    units: int, noise_std: float, bins: int
) -> None:
    rng = np.random.default_rng(22)
    population = errors(rng, 400_000)
    truths = {
        "mean_absolute_error": float(population.mean()),
        "root_mean_squared_error": float(np.sqrt(np.mean(population**2))),
    }
    hits = dict.fromkeys(truths, 0)
    for _ in range(TRIALS):
        table = noisy(rng, counted(errors(rng, units), bins), noise_std)
        card = error_scorecard(table, noise_std=noise_std, confidence=0.95)
        for name, found in figures(card).items():
            hits[name] += found.lower <= truths[name] <= found.upper
    for covered in hits.values():
        assert_rate(covered, TRIALS, 0.94, at_least=True, false_failure=1e-6)


@pytest.mark.parametrize(("units", "noise_std", "bins"), [(300, 0.0, 20), (2000, 10.0, 100)])
def test_likelihood_intervals_hold_the_truth_as_often_as_they_say(
    units: int, noise_std: float, bins: int
) -> None:
    rng = np.random.default_rng(24)

    def surprises(count: int) -> NDArray[np.float64]:
        return np.clip(rng.gamma(9.0, 0.12, count), 0, LARGEST_SURPRISE)

    truth = float(surprises(400_000).mean())
    hits = 0
    for _ in range(TRIALS):
        exact, _ = np.histogram(surprises(units), bins=bins, range=(0, LARGEST_SURPRISE))
        table = noisy(rng, exact[np.newaxis].astype(np.float64), noise_std)
        card = task_scorecard("likelihood", table, noise_std=noise_std, confidence=0.95)
        (found,) = figures(card).values()
        hits += found.lower <= truth <= found.upper
        assert abs(found.value - truth) < 0.5
    assert_rate(hits, TRIALS, 0.94, at_least=True, false_failure=1e-6)


def test_intervals_that_forget_the_noise_are_caught() -> None:
    rng = np.random.default_rng(23)
    balanced = mean = 0
    for _ in range(TRIALS):
        card = class_scorecard(
            noisy(rng, answers(rng, 300), 12.0), noise_std=0.0, confidence=0.95
        ).balanced_accuracy
        balanced += card.lower <= RECALLS.mean() <= card.upper
        table = noisy(rng, counted(errors(rng, 300), 100), 12.0)
        found = error_scorecard(table, noise_std=0.0, confidence=0.95).mean_absolute_error
        mean += found.lower <= 0.3 <= found.upper
    for covered in (balanced, mean):
        with pytest.raises(AssertionError):
            assert_rate(covered, TRIALS, 0.94, at_least=True, false_failure=1e-6)


def test_noise_that_drowns_the_counts_says_nothing() -> None:
    rng = np.random.default_rng(24)
    card = class_scorecard(noisy(rng, answers(rng, 20), 1000.0), noise_std=1000.0, confidence=0.99)
    assert (card.accuracy.lower, card.accuracy.upper) == (0, 1)
    assert all((each.lower, each.upper) == (0, 1) for each in card.recalls)
    table = noisy(rng, counted(errors(rng, 20), 20), 1000.0)
    found = error_scorecard(table, noise_std=1000.0, confidence=0.99).mean_absolute_error
    assert (found.lower, found.upper) == (0, LARGEST_ERROR)


def test_a_class_without_units_widens_the_balanced_accuracy_alone() -> None:
    table = np.array([[10.0, 90.0], [20.0, 180.0], [0.0, 0.0]])
    card = class_scorecard(table, noise_std=1.0, confidence=0.95)
    assert (card.recalls[2].lower, card.recalls[2].upper) == (0, 1)
    assert card.accuracy.upper - card.accuracy.lower < 0.1
    assert card.balanced_accuracy.upper - card.balanced_accuracy.lower > 0.3


@given(
    table=arrays(np.float64, (3, 2), elements=st.integers(-50, 50).map(float)),
    noise_std=st.floats(0, 100),
)
def test_any_table_of_answers_gives_ordered_shares(
    table: NDArray[np.float64], noise_std: float
) -> None:
    card = class_scorecard(table, noise_std=noise_std, confidence=0.95)
    for found in (card.accuracy, card.balanced_accuracy, *card.recalls):
        assert 0 <= found.lower <= found.value <= found.upper <= 1


@given(
    table=arrays(np.float64, (1, 6), elements=st.integers(-50, 50).map(float)),
    noise_std=st.floats(0, 100),
)
def test_any_table_of_errors_gives_ordered_figures(
    table: NDArray[np.float64], noise_std: float
) -> None:
    card = error_scorecard(table, noise_std=noise_std, confidence=0.95)
    for found in figures(card).values():
        assert 0 <= found.lower <= found.value <= found.upper <= LARGEST_ERROR


@pytest.mark.parametrize(
    ("loss", "shape"),
    [
        ("binary", (3, 2)),
        ("binary", (1, 4)),
        ("cross_entropy", (1, 2)),
        ("cross_entropy", (3, 4)),
        ("squared", (2, 4)),
        ("squared", (1, 1)),
        ("squared", (4,)),
        ("likelihood", (2, 4)),
        ("likelihood", (1, 1)),
    ],
)
def test_refuses_the_table_of_another_task(loss: LossName, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"shape|bins"):
        task_scorecard(loss, np.zeros(shape), noise_std=1.0, confidence=0.95)


@pytest.mark.parametrize("loss", ["binary", "cross_entropy", "squared", "likelihood"])
def test_refuses_numbers_that_are_none(loss: LossName) -> None:
    shape = {"binary": (2, 4), "cross_entropy": (3, 2)}.get(loss, (1, 4))
    for table, noise_std, confidence, says in (
        (np.full(shape, np.nan), 1.0, 0.95, "finite"),
        (np.zeros(shape), np.inf, 0.95, "noise_std"),
        (np.zeros(shape), 1.0, 0.0, "confidence"),
    ):
        with pytest.raises(InputError, match=says):
            task_scorecard(loss, table, noise_std=noise_std, confidence=confidence)
