"""The noisy counts of an evaluation, drawn as the task has them."""

from typing import TYPE_CHECKING, assert_never

import numpy as np
from markupsafe import Markup

from sordino.result import EvaluationSection
from sordino_audit.drawing import GRID, MUTED, WARM, new_drawing
from sordino_protocols.scorecard import LARGEST_ERROR, LARGEST_SURPRISE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LABELS = 20


def evaluation_counts(evaluation: EvaluationSection) -> Markup:
    """The noisy table that was released."""
    with new_drawing("Noisy evaluation", height=2.6) as drawing:
        axes = drawing.figure.subplots()
        match evaluation["loss"]:
            case "binary":
                _scores(axes, evaluation)
            case "cross_entropy":
                _answers(axes, evaluation)
            case "squared":
                _errors(axes, evaluation)
            case "likelihood":
                _surprises(axes, evaluation)
            case _:
                assert_never(evaluation["loss"])
        axes.axhline(0, color=GRID, linewidth=0.8)
        axes.margins(y=0.2)
    return drawing.svg


def _scores(axes: "Axes", evaluation: EvaluationSection) -> None:
    negative, positive = evaluation["counts"]
    _pairs(axes, negative, positive, names=("outcome: no", "outcome: yes"), width=1 / len(negative))
    axes.set(xlabel="Score of the model", ylabel="Noisy count", xlim=(0, 1))


def _answers(axes: "Axes", evaluation: EvaluationSection) -> None:
    wrong, right = np.transpose(evaluation["counts"])
    _pairs(axes, wrong.tolist(), right.tolist(), names=("wrong", "right"), width=1.0)
    axes.set(xlabel="Class", ylabel="Noisy count")
    named = range(0, len(wrong), -(-len(wrong) // _MOST_LABELS))
    axes.set_xticks([each + 0.5 for each in named], [str(each) for each in named])


def _errors(axes: "Axes", evaluation: EvaluationSection) -> None:
    (counts,) = evaluation["counts"]
    width = LARGEST_ERROR * evaluation["label_scale"] / len(counts)
    axes.bar((np.arange(len(counts)) + 0.5) * width, counts, 0.84 * width, color=WARM)
    axes.set(xlabel="Error of the model, in the label's units", ylabel="Noisy count")


def _surprises(axes: "Axes", evaluation: EvaluationSection) -> None:
    (counts,) = evaluation["counts"]
    width = LARGEST_SURPRISE / len(counts)
    axes.bar((np.arange(len(counts)) + 0.5) * width, counts, 0.84 * width, color=WARM)
    axes.set(xlabel="Minus log-probability of a record, a column", ylabel="Noisy count")


def _pairs(
    axes: "Axes",
    first: list[float],
    second: list[float],
    *,
    names: tuple[str, str],
    width: float,
) -> None:
    """Two bars side by side for each of the places, `width` apart."""
    centres, half = (np.arange(len(first)) + 0.5) * width, 0.42 * width
    axes.bar(centres - half / 2, first, half, color=MUTED, label=names[0])
    axes.bar(centres + half / 2, second, half, color=WARM, label=names[1])
    axes.legend(loc="upper center", ncols=2)
