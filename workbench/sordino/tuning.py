"""Trials ranked, and the best one as a job file.

The same ranking serves both ways of trying: on public records, where metrics are exact and several
repeats show their spread, and in the federation, where each is one noisy estimate with an interval.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from sordino.job_text import job_toml
from sordino.tuning_settings import Trial, spell_settings
from sordino_protocols.plan import LossName

HEADLINES: Mapping[LossName, str] = MappingProxyType(
    {
        "binary": "auc",
        "cross_entropy": "accuracy",
        "squared": "mean_absolute_error",
        "likelihood": "negative_log_likelihood",
    }
)
"""What trials are ranked by."""

_SMALLER_IS_BETTER = (
    "mean_absolute_error",
    "negative_log_likelihood",
    "root_mean_squared_error",
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """How good a trial was, in one respect.

    Attributes:
        value: the mean over the repeats, or the noisy estimate.
        spread: standard deviation over the repeats; None with one repeat or a noisy estimate.
        interval: of a noisy estimate.
    """

    value: float
    spread: float | None = None
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        """The value with what is known of its error."""
        if self.interval is not None:
            low, high = self.interval
            return f"{self.value:.3f} ({low:.3f} to {high:.3f})"
        return f"{self.value:.4f}" + (f" +- {self.spread:.4f}" if self.spread is not None else "")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial that was run.

    Attributes:
        trial: what was run.
        epsilon: what it costs one privacy unit at one site, by PLD.
        noise_multiplier: of its training.
        metrics: by name.
        run_id: of the federation's run; None where no site was asked.
    """

    trial: Trial
    epsilon: float
    noise_multiplier: float
    metrics: Mapping[str, Measurement]
    run_id: str | None = None

    @property
    def headline(self) -> str:
        """What it is ranked by."""
        return HEADLINES[self.trial.file.loss]

    @property
    def row(self) -> dict[str, object]:
        """For a person."""
        row: dict[str, object] = {
            "trial": self.trial.number,
            "settings": spell_settings(self.trial.settings) or "as the file says",
            self.headline: str(self.metrics[self.headline]),
            **{name: str(each) for name, each in self.metrics.items() if name != self.headline},
            "epsilon": self.epsilon,
            "noise_multiplier": self.noise_multiplier,
        }
        return row if self.run_id is None else {**row, "run": self.run_id}

    @property
    def facts(self) -> dict[str, object]:
        """For a program."""
        return {
            "trial": self.trial.number,
            "settings": dict(self.trial.settings),
            "metrics": {
                name: {"value": each.value, "spread": each.spread, "interval": each.interval}
                for name, each in self.metrics.items()
            },
            "epsilon": self.epsilon,
            "training_noise_multiplier": self.noise_multiplier,
            "run_id": self.run_id,
        }


def over_repeats(values: Sequence[float]) -> Measurement:
    """Mean and sample standard deviation of a metric over repeats."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Measurement(statistics.fmean(values), spread)


def ranked(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The best first, by its headline; what is no number comes last."""

    def key(outcome: Outcome) -> float:
        value = outcome.metrics[outcome.headline].value
        if not math.isfinite(value):
            return math.inf
        return value if outcome.headline in _SMALLER_IS_BETTER else -value

    return tuple(sorted(outcomes, key=key))


def best_job(outcome: Outcome, *, tried: int, where: str) -> str:
    """The job file of a trial; its first lines say where it comes from.

    Args:
        outcome: the trial.
        tried: how many there were.
        where: on what they were run, such as "table.csv, no site asked".
    """
    measured = outcome.metrics[outcome.headline]
    comments = [
        f"The best of {tried} trials by {outcome.headline.replace('_', ' ')}, {measured};",
        f"made by `sordino job tune` on {where}.",
    ]
    if outcome.trial.settings:
        comments.append(f"Tuned: {spell_settings(outcome.trial.settings)}.")
    return job_toml(outcome.trial.file, comments=comments)
