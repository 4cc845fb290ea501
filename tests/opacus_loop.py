"""Opacus' own stock loop as a trainer: the live violation of the zoo.

`make_private` takes the sampling rate from the length of the loader and the expected batch size
from the number of records, and divides what it releases by the latter. So one record more, from
1,000 to 1,001 in batches of 10, makes 101 batches of 1,000 / 10 = 100: the divisor falls from 10 to
int(1001 / 101) = 9, and everything that is released, noise included, gets longer by a ninth. Which
of two neighbouring data sets was trained on can be read off the scale of one release.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import PrivacyEngine
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sordino_audit.bounds.clopper_pearson import Counts, epsilon_lower_bound
from sordino_audit.probes.trainer import Asked, Trainer
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_client.training.processor import single_threaded
from sordino_client.training.steps import RoundResult, train_round
from sordino_client.training.units import Units
from sordino_protocols.models import LogisticSpec
from sordino_protocols.plan import TrainingPlan

Floats = NDArray[np.float64]

RECORDS, BATCH = 1000, 10
FEATURES = 4000
DELTA = 1e-5
CONFIDENCE = 0.999
RELEASES = 500
"""On each side: as many right guesses show an epsilon of 4.18 at 99.9 %, and no more."""
PLAN = TrainingPlan(
    sampling_rate=BATCH / RECORDS,
    noise_multiplier=5.0,
    clipping_norm=1.0,
    rounds=1,
    local_steps=1,
    local_learning_rate=0.1,
    lanes=0,
    update="delta",
)


class _Records(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self._features, self._labels = features, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._features[index], self._labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        chosen = list(indices)
        return self._features[chosen], self._labels[chosen]


def _collated(batch: list[Tensor]) -> list[Tensor]:
    """Whole batches come from the records: what makes the loop bearably fast."""
    return batch


@dataclass(frozen=True, slots=True)
class Loop:
    """What `make_private` made of a logistic model and its records.

    Attributes:
        engine: counts what was spent.
        model: wrapped.
        optimizer: wrapped.
        loader: of Poisson batches.
    """

    engine: PrivacyEngine
    model: nn.Module
    optimizer: DPOptimizer
    loader: DataLoader[tuple[Tensor, Tensor]]


def make_loop(features: Tensor, labels: Tensor, plan: TrainingPlan, *, batch_size: int) -> Loop:
    """The loop of Opacus' documentation: a model, an optimiser, a loader, `make_private`."""
    model = nn.Linear(features.shape[1], 1)
    with warnings.catch_warnings():
        # That it is not in secure mode, which cannot be installed any more.
        warnings.simplefilter("ignore")
        engine = PrivacyEngine()
        private = engine.make_private(
            module=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=plan.local_learning_rate),
            data_loader=DataLoader(
                _Records(features, labels), batch_size=batch_size, collate_fn=_collated
            ),
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.clipping_norm,
        )
    return Loop(engine, *private)


def steps(loop: Loop) -> Iterator[None]:
    """One optimiser step after another, epoch after epoch."""
    while True:
        for features, labels in loop.loader:
            loop.optimizer.zero_grad()
            logits = loop.model(features)[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.autograd.backward(loss)
            loop.optimizer.step()
            yield


def opacus_trainer(batch_size: int, *, is_mended: bool = False) -> Trainer:
    """One step of the loop, for logistic models.

    Args:
        batch_size: as a user writes it, whatever the number of records.
        is_mended: divide by that number and sample at the plan's rate, whatever the loader says.
    """

    def trainer(asked: Asked) -> RoundResult:
        features = torch.from_numpy(asked.units.features)
        labels = torch.from_numpy(asked.units.labels)
        loop = make_loop(features, labels, asked.plan, batch_size=batch_size)
        if is_mended:
            loop.optimizer.expected_batch_size = batch_size
        before = torch.from_numpy(asked.weights).to(torch.float32)
        parameters = list(loop.model.parameters())
        with torch.no_grad():
            nn.utils.vector_to_parameters(before.clone(), parameters)
        next(steps(loop))
        after = nn.utils.parameters_to_vector(parameters).detach()
        return RoundResult((after - before).numpy().astype(np.float64), is_private=True)

    return trainer


# --- the attack: how long is a release?


@dataclass(frozen=True, slots=True)
class Powers:
    """What an attacker reads off releases on two neighbouring data sets.

    Attributes:
        fewer: mean square of the weights' part of each release on `RECORDS` records.
        more: the same with one record more.
        claimed: epsilon of one release, as whoever made it claims.
    """

    fewer: Floats
    more: Floats
    claimed: float

    @property
    def counts(self) -> Counts:
        """Errors of guessing "one more" where a release is longer than halfway.

        Halfway between the two scales that a divisor of 10 and of 9 would give: fixed by the plan.
        """
        std = PLAN.noise_std
        halfway = (std / BATCH) * (std / (BATCH - 1))
        return Counts(
            false_positives=int(np.sum(self.fewer >= halfway)),
            held_out=len(self.fewer),
            false_negatives=int(np.sum(self.more < halfway)),
            inserted=len(self.more),
        )

    @property
    def epsilon_low(self) -> float:
        """Lower bound on the epsilon of one release, free of assumptions, at 99.9 %."""
        return epsilon_lower_bound(self.counts, delta=DELTA, confidence=CONFIDENCE)


def opacus_powers(releases: int = RELEASES) -> Powers:
    """Attack Opacus: records of zeros, whose weights' part of a release is nothing but noise."""
    with single_threaded():
        fewer, claimed = _opacus_side(RECORDS, releases)
        more, _ = _opacus_side(RECORDS + 1, releases)
    return Powers(fewer, more, claimed)


def engine_powers(claimed: float, releases: int = RELEASES) -> Powers:
    """The same attack on the product, whose divisor is public."""
    return Powers(_engine_side(RECORDS, releases), _engine_side(RECORDS + 1, releases), claimed)


def _opacus_side(records: int, releases: int) -> tuple[Floats, float]:
    loop = make_loop(torch.zeros(records, FEATURES), torch.zeros(records), PLAN, batch_size=BATCH)
    weights = next(iter(loop.model.parameters()))
    powers, running = np.zeros(releases), steps(loop)
    claimed = 0.0
    for index in range(releases):
        next(running)
        if index == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                claimed = float(loop.engine.get_epsilon(DELTA))
        gradient = weights.grad
        assert gradient is not None
        powers[index] = float(gradient.square().mean())
    return powers, claimed


def _engine_side(records: int, releases: int) -> Floats:
    units = Units(
        np.zeros((records, FEATURES), dtype=np.float32),
        np.zeros(records, dtype=np.float32),
        np.zeros(0, dtype=np.int64),
    )
    weights = np.zeros(FEATURES + 1)
    powers = np.zeros(releases)
    for index in range(releases):
        vector = train_round(
            units,
            weights,
            LogisticSpec(kind="logistic"),
            PLAN,
            expected_batch_size=BATCH,
            noise=SecureNoise(),
            performance=Performance(precision="single"),
        ).vector
        # A step of the gradient that Opacus would release.
        powers[index] = np.mean(np.square(vector[:FEATURES] / PLAN.local_learning_rate))
    return powers
