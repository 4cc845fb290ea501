"""ROC and calibration off noisy histograms: exact where counts are, covering where noise is.

Scores are Beta distributed by class, so population values are known by integration.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from statistical import assert_rate

from sordino_protocols.errors import InputError
from sordino_protocols.noisy_ratios import Estimate
from sordino_protocols.score_curves import Calibration, RocPoint, calibration, roc_curve

BINS = 10
CONFIDENCE = 0.95
EDGES = np.linspace(0, 1, BINS + 1)
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Scores by class as Beta distributions, and the share of positives."""

    negative: tuple[float, float]
    positive: tuple[float, float]
    share: float

    @property
    def cells(self) -> Table:
        """Probability of each cell, [2, bins]."""
        of_class = [
            np.diff(stats.beta.cdf(EDGES, *each)) for each in (self.negative, self.positive)
        ]
        return np.stack([(1 - self.share) * of_class[0], self.share * of_class[1]])

    def rate_above(self, edge: int) -> tuple[float, float]:
        """False and true positive rate at an inner edge."""
        return (
            float(stats.beta.sf(edge / BINS, *self.negative)),
            float(stats.beta.sf(edge / BINS, *self.positive)),
        )

    @property
    def expected_error(self) -> float:
        """The calibration error by bins, each with its own mean score."""
        parts = [((1 - self.share), self.negative), (self.share, self.positive)]
        means = sum(
            weight * a / (a + b) * np.diff(stats.beta.cdf(EDGES, a + 1, b))
            for weight, (a, b) in parts
        )
        return float(np.abs(self.cells[1] - means).sum())

    def draw(self, rng: np.random.Generator, units: int, noise_std: float) -> Table:
        exact = rng.multinomial(units, self.cells.ravel()).reshape(2, BINS)
        return np.rint(exact + noise_std * rng.standard_normal(exact.shape))


SEPARATED = Population((2, 5), (5, 2), 0.4)
# The density of positives is that of negatives times odds: such scores are probabilities.
CALIBRATED = Population((2, 3), (3, 2), 0.5)
RARE = Population((1, 12), (3, 3), 0.05)
OVERCONFIDENT = Population((0.3, 0.6), (0.6, 0.3), 0.5)
CASES = [
    (SEPARATED, 180, 0.0),
    (SEPARATED, 180, 2.0),
    (SEPARATED, 900, 7.0),
    (CALIBRATED, 400, 3.0),
    (CALIBRATED, 180, 24.0),
    (RARE, 300, 0.0),
    (RARE, 300, 2.0),
    (OVERCONFIDENT, 1000, 0.0),
    (OVERCONFIDENT, 1000, 5.0),
]


def holds(found: Estimate, truth: float) -> bool:
    return found.lower - 1e-12 <= truth <= found.upper + 1e-12


def roc_holds(points: tuple[RocPoint, ...], population: Population) -> bool:
    truths = [population.rate_above(edge) for edge in range(1, BINS)]
    return all(
        holds(point.false_positive_rate, false) and holds(point.true_positive_rate, true)
        for point, (false, true) in zip(points, truths, strict=True)
    )


def bins_hold(found: Calibration, population: Population) -> bool:
    negative, positive = population.cells
    pairs = zip(found.bins, positive / (positive + negative), strict=True)
    return all(holds(each.observed_rate, rate) for each, rate in pairs)


def covered(
    population: Population, units: int, noise_std: float, *, told: float, trials: int
) -> dict[str, int]:
    """How often each figure's intervals held when the reader was told of this much noise."""
    rng = np.random.default_rng(units + int(noise_std))
    hits = {"roc": 0, "bins": 0, "error": 0}
    for _ in range(trials):
        table = population.draw(rng, units, noise_std)
        points = roc_curve(table, noise_std=told, confidence=CONFIDENCE)
        found = calibration(table, noise_std=told, confidence=CONFIDENCE)
        hits["roc"] += roc_holds(points, population)
        hits["bins"] += bins_hold(found, population)
        hits["error"] += holds(found.expected_error, population.expected_error)
    return hits


@pytest.mark.parametrize(("population", "units", "noise_std"), CASES)
def test_intervals_hold_together_as_often_as_they_say(
    population: Population, units: int, noise_std: float
) -> None:
    trials = 120
    for hits in covered(population, units, noise_std, told=noise_std, trials=trials).values():
        assert_rate(hits, trials, CONFIDENCE, at_least=True, false_failure=1e-6)


@pytest.mark.parametrize("figure", ["roc", "bins", "error"])
def test_a_reader_who_forgets_the_noise_is_caught(figure: str) -> None:
    hits = covered(OVERCONFIDENT, 1000, 40.0, told=0.0, trials=60)
    with pytest.raises(AssertionError):
        assert_rate(hits[figure], 60, CONFIDENCE, at_least=True, false_failure=1e-6)


def test_scores_that_are_probabilities_have_no_calibration_error() -> None:
    assert CALIBRATED.expected_error == pytest.approx(0, abs=1e-9)
    table = np.rint(1e6 * CALIBRATED.cells)
    found = calibration(table, noise_std=1.0, confidence=CONFIDENCE)
    assert found.expected_error.lower == 0
    assert found.expected_error.value < 0.01
    for each in found.bins:
        assert each.lower <= each.observed_rate.value <= each.upper


def test_exact_counts_give_the_curve_itself() -> None:
    table = np.array([[3000.0, 1000, 0, 0], [0, 1000, 1000, 2000]])
    points = roc_curve(table, noise_std=0.0, confidence=CONFIDENCE)
    assert [point.threshold for point in points] == [0.25, 0.5, 0.75]
    assert [point.false_positive_rate.value for point in points] == [0.25, 0.0, 0.0]
    assert [point.true_positive_rate.value for point in points] == [1.0, 0.75, 0.5]
    found = calibration(table, noise_std=0.0, confidence=CONFIDENCE)
    assert [each.observed_rate.value for each in found.bins] == [0.0, 0.5, 1.0, 1.0]
    assert [(each.lower, each.upper) for each in found.bins][1] == (0.25, 0.5)
    # |0 - .125| * 3000 + |.5 - .375| * 2000 + |1 - .625| * 1000 + |1 - .875| * 2000, over 8000.
    assert found.expected_error.value == pytest.approx(1250 / 8000, abs=2e-3)


def test_noise_that_drowns_the_counts_says_nothing() -> None:
    table = np.random.default_rng(1).normal(0, 1000, size=(2, BINS))
    for point in roc_curve(table, noise_std=1000.0, confidence=CONFIDENCE):
        assert point.true_positive_rate.upper - point.true_positive_rate.lower > 0.9
    error = calibration(table, noise_std=1000.0, confidence=CONFIDENCE).expected_error
    assert (error.lower, error.upper) == (0.0, 1.0)


def test_more_units_narrow_every_interval() -> None:
    few, many = (
        calibration(SEPARATED.cells * units, noise_std=5.0, confidence=CONFIDENCE)
        for units in (500, 50_000)
    )
    widths = [
        [each.observed_rate.upper - each.observed_rate.lower for each in found.bins]
        for found in (few, many)
    ]
    assert all(late < early for early, late in zip(*widths, strict=True))
    assert many.expected_error.upper - many.expected_error.lower < (
        few.expected_error.upper - few.expected_error.lower
    )


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float64, (2, 6), elements=st.integers(-60, 400).map(float)),
    st.floats(0, 50),
)
def test_any_histogram_gives_curves_that_fall_and_intervals_in_order(
    table: Table, noise_std: float
) -> None:
    points = roc_curve(table, noise_std=noise_std, confidence=0.9)
    for rates in (
        [point.false_positive_rate for point in points],
        [point.true_positive_rate for point in points],
    ):
        for each in rates:
            assert 0 <= each.lower <= each.value <= each.upper <= 1
        values = [each.value for each in rates]
        assert values == sorted(values, reverse=True)
    found = calibration(table, noise_std=noise_std, confidence=0.9)
    for each in (*(one.observed_rate for one in found.bins), found.expected_error):
        assert 0 <= each.lower <= each.value <= each.upper <= 1


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 3), (2, 0)])
def test_refuses_what_has_no_scores(shape: tuple[int, int]) -> None:
    for read in (roc_curve, calibration):
        with pytest.raises(InputError):
            read(np.ones(shape), noise_std=1.0, confidence=CONFIDENCE)
