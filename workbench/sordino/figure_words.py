"""An evaluation's figures as a person reads them."""

from collections.abc import Mapping

from sordino.result import FigureEntry
from sordino_protocols.scorecard import Figure
from sordino_server.statement import Statement

_NAMES: Mapping[Figure, str] = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "mean_absolute_error": "mean absolute error",
    "negative_log_likelihood": "negative log-likelihood a column",
    "root_mean_squared_error": "root mean squared error",
}
_ERRORS: frozenset[Figure] = frozenset(
    {"mean_absolute_error", "negative_log_likelihood", "root_mean_squared_error"}
)
_THOUSAND = 1000


def name_of(figure: Figure) -> str:
    """What a figure is called: `balanced accuracy`, `AUC`."""
    return _NAMES[figure]


def title_of(figure: Figure) -> str:
    """`name_of` at the beginning of a sentence."""
    return _NAMES[figure][0].upper() + _NAMES[figure][1:]


def is_error(figure: Figure) -> bool:
    """Whether less is better: in the label's units or in nats; else the figure is a share."""
    return figure in _ERRORS


def value_of(figure: Figure, value: float) -> str:
    """A figure's value: shares with three decimals, errors with four digits at least."""
    if not is_error(figure):
        return f"{value:.3f}"
    return f"{value:,.0f}" if abs(value) >= _THOUSAND else f"{value:.4g}"


def headline_of(figure: Figure, value: float) -> str:
    """The same where one figure stands alone: an accuracy in percent."""
    is_percentage = figure in {"accuracy", "balanced_accuracy"}
    return f"{100 * value:.1f}%" if is_percentage else value_of(figure, value)


def in_words(figures: Mapping[Figure, FigureEntry]) -> str:
    """Each figure with its interval: `accuracy 0.801 (0.752 to 0.850), AUC ...`."""
    return ", ".join(
        f"{_NAMES[name]} {with_interval(name, each)}" for name, each in figures.items()
    )


def statement_in_words(statement: Statement) -> str:
    """The evaluation of a run's statement, as `in_words`; numbers are in the label's units.

    Raises:
        InputError: the run has no model.
    """
    evaluation = statement.require_evaluation()
    error = evaluation.calibration_error
    words = in_words(
        {
            name: FigureEntry(value=each.value, interval=[each.lower, each.upper])
            for name, each in evaluation.metrics.items()
        }
    )
    if error is None:
        return words
    return f"{words}, calibration error {error.value:.3f} ({error.lower:.3f} to {error.upper:.3f})"


def with_interval(figure: Figure, entry: FigureEntry) -> str:
    """A figure with the two ends of its interval: `0.801 (0.752 to 0.850)`."""
    value, low, high = (value_of(figure, each) for each in (entry["value"], *entry["interval"]))
    return f"{value} ({low} to {high})"
