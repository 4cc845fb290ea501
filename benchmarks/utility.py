"""Accuracy at epsilon, centrally and over sites, beside published figures.

`python -m benchmarks.utility [--json] [--quick] [--only WORD] [--data DIR]`. Every figure is a mean
over repeats of a whole run by the real engine, measured on test records that no choice was made on;
the context has the range. Epsilon is each site's own for its records, at a delta of 1e-5, by PLD,
and is all spent on training: published figures have no private evaluation. A federation has the
records of the central run in equal random parts, and every site adds its own noise, so its bar is a
stated share of the central accuracy that was measured beside it. The noise is secure, so no run
repeats another bit by bit.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.reporting import Figure, report
from benchmarks.utility_comparisons import DELTA, Comparison, Target, comparisons
from benchmarks.utility_data import Split
from benchmarks.utility_training import (
    Score,
    divide,
    fit_with_privacy,
    fit_without_privacy,
    plan_of,
    score,
)
from sordino_client.training.noise import SecureNoise

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_NOT_HERE = {
    "CIFAR-10": "no copy of the data set is at hand: 81.4 % at epsilon 8 (De et al. 2022) untested",
    "federations of the tanh network": "left out for their time; the linear model stands for MNIST",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """All repeats of one figure."""

    name: str
    scores: Sequence[Score]
    bar: float | None

    @property
    def accuracy(self) -> float:
        """Mean over the repeats."""
        return float(np.mean([each.accuracy for each in self.scores]))

    def figures(self) -> list[Figure]:
        """Accuracy, and AUC where there are two classes."""
        made = [Figure(f"{self.name}: test accuracy", self.accuracy, self.bar)]
        curves = [each.auc for each in self.scores if each.auc is not None]
        return [*made, Figure(f"{self.name}: test AUC", float(np.mean(curves)))] if curves else made

    def spread(self) -> dict[str, float]:
        """How far the repeats' accuracies lie apart."""
        accuracies = [each.accuracy for each in self.scores]
        return {"repeats": len(accuracies), "lowest": min(accuracies), "highest": max(accuracies)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.utility")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--quick", action="store_true", help="one repeat and epsilon each, no network"
    )
    parser.add_argument("--only", default="", help="comparisons whose name contains this")
    parser.add_argument("--data", type=Path, default=_DATA, help="folder with mnist.npz and others")
    chosen = parser.parse_args(arguments)
    measured: list[Measured] = []
    context: dict[str, object] = {"delta": DELTA, "evaluation share of epsilon": 0.0}
    left_out = dict(_NOT_HERE)
    wanted = [each.abridged() if chosen.quick else each for each in comparisons()]
    for comparison in wanted:
        if comparison is None or chosen.only not in comparison.name:
            continue
        try:
            splits = _splits(comparison, chosen.data)
        except FileNotFoundError as error:
            parser.error(f"--data lacks a file: {error}")
        if not splits:
            left_out[comparison.name] = "scikit-learn, which has the data set, is not installed"
            continue
        found = _run(comparison, splits)
        measured += found
        context[comparison.name] = _context(comparison, splits, found)
    if not measured:
        parser.error(f"no comparison to run: --only {chosen.only!r}")
    context["left out"] = left_out
    figures = [figure for each in measured for figure in each.figures()]
    return report(figures, context, as_json=chosen.json)


def _splits(comparison: Comparison, folder: Path) -> list[Split]:
    """The records of each repeat."""
    read = (comparison.read(folder, repeat) for repeat in range(comparison.repeats))
    return [split for split in read if split is not None]


def _run(comparison: Comparison, splits: Sequence[Split]) -> list[Measured]:
    """Every epsilon centrally, then over sites."""
    measured = []
    for target in comparison.targets:
        name = f"{comparison.name}, epsilon {target.epsilon:g}"
        central = _scores(comparison, target, splits, sites=1)
        measured.append(Measured(f"{name}, central", central, target.bar))
        reached = measured[-1].accuracy
        for sites in comparison.federated.get(target.epsilon, ()):
            share = comparison.federated_share.get(sites)
            bar = None if share is None else share * reached
            scores = _scores(comparison, target, splits, sites=sites)
            measured.append(Measured(f"{name}, {sites} sites", scores, bar))
    return measured


def _scores(
    comparison: Comparison, target: Target, splits: Sequence[Split], *, sites: int
) -> list[Score]:
    """One run a repeat."""
    job, scores = comparison.job(target, sites=sites), []
    for repeat, split in enumerate(splits):
        parts = divide(split.train, sites, seed=repeat)
        weights = fit_with_privacy(parts, job, noise=SecureNoise(), seed=bytes([repeat]))
        scores.append(score(weights, job, split.test))
        print(f"{comparison.name} {target} {sites}: {scores[-1]}", file=sys.stderr, flush=True)
    return scores


def _context(
    comparison: Comparison, splits: Sequence[Split], measured: Sequence[Measured]
) -> dict[str, object]:
    """What the figures were measured in."""
    jobs = {target.epsilon: comparison.job(target, sites=1) for target in comparison.targets}
    job, split = next(iter(jobs.values())), splits[0]
    weights = fit_without_privacy(split.train, job, epochs=comparison.epochs, seed=0)
    plain = score(weights, job, split.test)
    return {
        "bars": comparison.published,
        "federated bars, shares of the central accuracy": dict(comparison.federated_share),
        "records": {"train": len(split.train), "test": len(split.test)},
        "without privacy": {"accuracy": plain.accuracy, "auc": plain.auc},
        "spread over repeats": {each.name: each.spread() for each in measured},
        "noise multiplier": {str(e): plan_of(each).noise_multiplier for e, each in jobs.items()},
        "learning rate, over the root of the number of sites": {
            str(target.epsilon): target.learning_rate for target in comparison.targets
        },
        "model": job.require_model().model_dump(mode="json"),
        "training": job.require_training().model_dump(mode="json"),
        "optimizer": job.require_optimizer().model_dump(mode="json", exclude={"learning_rate"}),
    }


if __name__ == "__main__":
    sys.exit(main())
