"""What the benchmark of utility compares: data sets, recipes, and the figures to stand beside.

A recipe is a job like any that a person writes, and holds for every epsilon and number of sites but
for its learning rate: that is stated for each epsilon, and divided by the root of the number of
sites, with which the noise on the mean gradient grows. Recipes were chosen on parts of the training
records that were held out for that, or for digits on other random splits; never on the records that
are reported. Two things to know: the network's learning rate was chosen out of three only, for its
time; and the number of rounds on scattering features was doubled, for the held-out part, when a
first test accuracy (98.5 % at 2.93) was already known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from benchmarks.utility_data import (
    Split,
    read_adult,
    read_credit,
    read_digits,
    read_mnist,
    with_scattering,
)
from benchmarks.utility_scattering import fit_whitening
from sordino_protocols.job import JobFile, JobSection, PrivacySection
from sordino_protocols.job_sections import AuditSection, TrainingSection
from sordino_protocols.models import CnnSpec, LogisticSpec, ModelSpec
from sordino_protocols.optimizer import SgdOptimizer

DELTA = 1e-5


@dataclass(frozen=True, slots=True)
class Target:
    """One epsilon of a comparison.

    Attributes:
        epsilon: of each site, at `DELTA`; all of it for training.
        learning_rate: of one site.
        bar: central test accuracy to reach.
    """

    epsilon: float
    learning_rate: float
    bar: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One data set and model.

    Attributes:
        name: of the figures.
        read: the records of a repeat, from the data folder; None where they cannot be had.
        model: what is trained.
        training: how, whatever epsilon is.
        targets: epsilons, with their bars.
        published: where the bars come from.
        federated: numbers of sites, beside the central run, by epsilon.
        federated_share: of the central accuracy that the federation must reach, by sites.
        repeats: runs that a figure is the mean of.
        epochs: of the run without privacy.
        quick_epsilon: the one that `--quick` takes; None for none.
    """

    name: str
    read: Callable[[Path, int], Split | None]
    model: ModelSpec
    training: TrainingSection
    targets: tuple[Target, ...]
    published: str
    federated: Mapping[float, tuple[int, ...]] = field(default_factory=dict)
    federated_share: Mapping[int, float] = field(default_factory=dict)
    repeats: int = 3
    epochs: int = 10
    quick_epsilon: float | None = None

    def abridged(self) -> "Comparison | None":
        """One repeat at one epsilon, for a first look; None where that is too long."""
        targets = tuple(each for each in self.targets if each.epsilon == self.quick_epsilon)
        return replace(self, targets=targets, repeats=1) if targets else None

    def job(self, target: Target, *, sites: int) -> JobFile:
        """The job that each of `sites` sites runs."""
        return JobFile(
            job=JobSection(name="utility", kind="train", dataset="benchmark"),
            privacy=PrivacySection(unit="record", epsilon=target.epsilon, delta=DELTA),
            model=self.model,
            training=self.training,
            optimizer=SgdOptimizer(
                learning_rate=target.learning_rate / sites**0.5, momentum=0.9, average_from=0.5
            ),
            audit=AuditSection(lanes=0),
        )


def comparisons() -> tuple[Comparison, ...]:
    """All of them, the cheapest first."""
    return (_digits(), _adult(), _credit(), _mnist_scattering(), _mnist_network())


def _digits() -> Comparison:
    return Comparison(
        name="digits, linear",
        read=lambda _folder, repeat: read_digits(seed=repeat),
        model=LogisticSpec(kind="logistic", outputs=10),
        training=TrainingSection(
            loss="cross_entropy", rounds=200, sampling_rate=0.2, clipping_norm=0.1
        ),
        targets=(Target(1.0, 1.3, 0.897), Target(3.0, 4.0, 0.934), Target(8.0, 8.0, 0.946)),
        published="the best linear models found offline; 0.961 without privacy",
        federated={1.0: (4, 10), 3.0: (4, 10), 8.0: (4, 10)},
        repeats=10,
        epochs=40,
        quick_epsilon=3.0,
    )


def _adult() -> Comparison:
    return _tabular(
        "Adult, linear",
        lambda folder, _repeat: read_adult(folder),
        target=Target(1.0, 27.0, 0.85),
        published="84 to 85 % at epsilon about 1 in the literature; the bar is the upper end",
    )


def _credit() -> Comparison:
    return _tabular(
        "credit default, linear",
        lambda folder, repeat: read_credit(folder, seed=repeat),
        target=Target(1.0, 10.0, 0.779),
        published="none; the bar is the share of the larger class",
    )


def _tabular(
    name: str, read: Callable[[Path, int], Split | None], *, target: Target, published: str
) -> Comparison:
    """A linear model of two classes at one epsilon, central and with 4 and 10 sites."""
    return Comparison(
        name=name,
        read=read,
        model=LogisticSpec(kind="logistic"),
        training=TrainingSection(rounds=400, sampling_rate=0.1, clipping_norm=0.3),
        targets=(target,),
        published=published,
        federated={target.epsilon: (4, 10)},
        federated_share={4: 0.99, 10: 0.98},
        quick_epsilon=target.epsilon,
    )


def _mnist_scattering() -> Comparison:
    return Comparison(
        name="MNIST, scattering and linear",
        read=lambda folder, _repeat: _scattered_mnist(folder),
        model=LogisticSpec(kind="logistic", outputs=10),
        training=TrainingSection(
            loss="cross_entropy", rounds=400, sampling_rate=0.1, clipping_norm=1.0
        ),
        targets=(Target(2.0, 15.0, 0.95), Target(2.93, 20.0, 0.987), Target(8.0, 30.0, 0.97)),
        published=(
            "epsilon 2 and 8: Abadi et al. 2016; 2.93: scattering of Tramèr & Boneh 2021, 98.7 %"
        ),
        federated={2.93: (4, 10)},
        federated_share={4: 0.99, 10: 0.98},
        epochs=5,
        quick_epsilon=2.93,
    )


def _mnist_network() -> Comparison:
    return Comparison(
        name="MNIST, tanh network",
        read=lambda folder, _repeat: read_mnist(folder),
        model=CnnSpec(kind="cnn", outputs=10),
        training=TrainingSection(
            loss="cross_entropy", rounds=600, sampling_rate=1 / 30, clipping_norm=0.1
        ),
        targets=(Target(2.93, 8.0, 0.981),),
        published="Papernot et al. 2021, 98.1 % at epsilon 2.93, with the same 26,010 parameters",
        repeats=1,
        epochs=5,
    )


@lru_cache(maxsize=1)
def _scattered_mnist(folder: Path) -> Split:
    whitening = fit_whitening(strokes=6000, components=500, ridge=1e-2)
    return with_scattering(read_mnist(folder), whitening)
