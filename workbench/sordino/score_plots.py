"""What only scores show, drawn with all that noise leaves open: ROC and reliability diagrams."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from sordino_audit.drawing import ACCENT, GRID, MUTED, WARM, new_drawing
from sordino_protocols.errors import InputError
from sordino_server.statement import EvaluationFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Vector = npt.NDArray[np.float64]

_STEPS = 401


def roc_diagram(evaluation: EvaluationFacts) -> Markup:
    """The ROC with a band that holds the whole curve with the evaluation's confidence.

    Raises:
        InputError: the evaluation has no scores; see `score_curves`.
    """
    _require_scores(evaluation)
    with new_drawing("ROC with its confidence band", height=3.6) as drawing:
        axes = drawing.figure.subplots()
        places = np.linspace(0, 1, _STEPS)
        lower, upper = roc_band(evaluation, places)
        axes.fill_between(
            places,
            lower,
            upper,
            color=ACCENT,
            alpha=0.14,
            linewidth=0,
            label=f"holds the curve, {100 * evaluation.confidence:.0f}%",
        )
        _diagonal(axes, "guessing")
        false_positive = [point.false_positive_rate.value for point in evaluation.roc]
        true_positive = [point.true_positive_rate.value for point in evaluation.roc]
        axes.plot([1, *false_positive, 0], [1, *true_positive, 0], color=ACCENT, linewidth=1.6)
        axes.plot(false_positive, true_positive, "o", color=ACCENT, markersize=4)
        _unit_square(axes)
        axes.set(xlabel="False positive rate", ylabel="True positive rate")
        drawing.figure.legend(loc="outside lower center", ncols=2)
    return drawing.svg


def reliability_diagram(evaluation: EvaluationFacts) -> Markup:
    """Observed rates by score, each with its interval, beside the bin that it should lie in.

    Raises:
        InputError: as `roc_diagram`.
    """
    error = _require_scores(evaluation)
    with new_drawing("Observed rate by score", height=3.6) as drawing:
        axes = drawing.figure.subplots()
        _diagonal(axes, "scores that are probabilities")
        for number, each in enumerate(evaluation.calibration):
            rate, centre = each.observed_rate, (each.lower + each.upper) / 2
            # What a mean score anywhere in the bin allows.
            axes.fill_between(
                [each.lower, each.upper], each.lower, each.upper, color=GRID, alpha=0.5, linewidth=0
            )
            axes.vlines(
                centre,
                rate.lower,
                rate.upper,
                color=WARM,
                linewidth=2,
                alpha=0.55,
                label=f"interval; all hold, {100 * evaluation.confidence:.0f}%" * (number == 0),
            )
            axes.plot(centre, rate.value, "o", color=WARM, markersize=5)
        _unit_square(axes)
        axes.set(xlabel="Score of the model", ylabel="Observed rate")
        axes.set_title(f"Expected calibration error {error}")
        drawing.figure.legend(loc="outside lower center", ncols=2)
    return drawing.svg


def roc_band(evaluation: EvaluationFacts, places: Vector) -> tuple[Vector, Vector]:
    """Bounds on the true positive rate at false positive rates, where all intervals hold.

    The ROC rises, so each point's rectangle bounds the curve left and right of it.

    Args:
        evaluation: with a ROC.
        places: false positive rates.

    Returns:
        Lower and upper bounds, one a place.
    """
    lower, upper = np.zeros_like(places), np.ones_like(places)
    for point in evaluation.roc:
        false_positive, true_positive = point.false_positive_rate, point.true_positive_rate
        right, left = places >= false_positive.upper, places < false_positive.lower
        lower[right] = np.maximum(lower[right], true_positive.lower)
        upper[left] = np.minimum(upper[left], true_positive.upper)
    return lower, upper


def _diagonal(axes: "Axes", label: str) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)), label=label)


def _unit_square(axes: "Axes") -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid()


def _require_scores(evaluation: EvaluationFacts) -> str:
    """The calibration error in words."""
    error = evaluation.calibration_error
    if error is None or not evaluation.roc:
        raise InputError(f"an evaluation for {evaluation.loss!r} has no scores")
    return f"{error.value:.3f} ({error.lower:.3f} to {error.upper:.3f})"
