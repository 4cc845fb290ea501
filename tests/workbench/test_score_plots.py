"""ROC and reliability diagrams: what they draw is what the evaluation says."""

import numpy as np
import pytest
from plausible_run import plausible_run
from scipy import stats

from sordino.page import render
from sordino.score_plots import reliability_diagram, roc_band, roc_diagram
from sordino_protocols.errors import InputError
from sordino_protocols.plan import EvaluationPlan
from sordino_server.evaluating import evaluation_facts
from sordino_server.statement import EvaluationFacts

BINS = 10
DRAWINGS = 9
NEGATIVE, POSITIVE = (2.0, 4.0), (4.0, 2.0)
PLACES = np.linspace(0, 1, 101)


def an_evaluation(*, units: int = 400, noise_std: float = 2.0, seed: int = 1) -> EvaluationFacts:
    rng = np.random.default_rng(seed)
    edges = np.linspace(0, 1, BINS + 1)
    cells = np.stack([np.diff(stats.beta.cdf(edges, *each)) / 2 for each in (NEGATIVE, POSITIVE)])
    exact = rng.multinomial(units, cells.ravel())
    noisy = np.rint(exact + noise_std * rng.standard_normal(exact.shape))
    plan = EvaluationPlan("binary", BINS, 1, noise_std)
    return evaluation_facts(plan, {"a": noisy}, label_scale=1.0, confidence=0.95)


def true_curve() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """True positive rates at `PLACES`."""
    thresholds = stats.beta.isf(PLACES, *NEGATIVE)
    return np.asarray(stats.beta.sf(thresholds, *POSITIVE))


def test_the_band_holds_the_whole_curve_and_not_only_its_points() -> None:
    for seed in range(20):
        evaluation = an_evaluation(seed=seed)
        lower, upper = roc_band(evaluation, PLACES)
        points = evaluation.roc
        known = [stats.beta.sf(point.threshold, *NEGATIVE) for point in points]
        holds = all(
            point.false_positive_rate.lower <= rate <= point.false_positive_rate.upper
            for point, rate in zip(points, known, strict=True)
        ) and all(
            point.true_positive_rate.lower
            <= stats.beta.sf(point.threshold, *POSITIVE)
            <= point.true_positive_rate.upper
            for point in points
        )
        inside = bool(np.all((lower <= true_curve() + 1e-9) & (true_curve() <= upper + 1e-9)))
        assert inside or not holds


def test_the_band_is_a_band() -> None:
    lower, upper = roc_band(an_evaluation(units=5000), PLACES)
    assert np.all(np.diff(lower) >= 0)
    assert np.all(np.diff(upper) >= 0)
    assert np.all(lower <= upper)
    assert 0 < float(np.mean(upper - lower)) < 0.2


def test_a_flipped_curve_leaves_the_band() -> None:
    # So that the band is not simply everything.
    lower, _ = roc_band(an_evaluation(units=5000), PLACES)
    guessing = PLACES
    assert np.any(guessing < lower)


def test_the_diagrams_say_what_they_show() -> None:
    evaluation = an_evaluation()
    assert "holds the curve, 95%" in roc_diagram(evaluation)
    diagram = reliability_diagram(evaluation)
    assert evaluation.calibration_error is not None
    assert f"{evaluation.calibration_error.value:.3f} (" in diagram
    for drawn in (roc_diagram(evaluation), diagram):
        assert drawn.startswith("<svg")
        assert "var(--ink)" in drawn or "var(--muted)" in drawn


def test_an_evaluation_without_scores_has_no_diagrams() -> None:
    plan = EvaluationPlan("squared", BINS, 1, 2.0)
    errors = evaluation_facts(plan, {"a": np.ones(BINS)}, label_scale=10.0, confidence=0.95)
    assert (errors.roc, errors.calibration, errors.calibration_error) == ((), (), None)
    for draw in (roc_diagram, reliability_diagram):
        with pytest.raises(InputError, match="no scores"):
            draw(errors)


def test_the_runs_page_shows_both_where_there_are_scores() -> None:
    result = plausible_run()
    assert render(result, scores=an_evaluation()).count("<svg") == DRAWINGS
    without = an_evaluation().model_copy(update={"roc": ()})
    assert render(result, scores=without) == render(result)
