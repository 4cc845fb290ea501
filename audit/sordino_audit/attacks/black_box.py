"""What leaks to somebody who may only query the final model: many trainings by the engine itself.

The attack of Annamalai & De Cristofaro (2024): the adversary chooses the start and the canary, and
then sees the last model's answer to one query. From a start that fits everybody else's records,
their gradients hardly move the model, and a record with a wrong label pulls with its whole clipped
gradient in every step. The margin at that record is, to first order, the model's motion along the
canary's own gradient, so little is lost against seeing every step.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from sordino_audit.attacks.results import Assumption, AttackResult, attack_result
from sordino_audit.attacks.scores import logit_confidence
from sordino_client.training.clipping import outputs
from sordino_client.training.noise import Noise
from sordino_client.training.processor import single_threaded
from sordino_client.training.steps import train_round
from sordino_client.training.units import Units
from sordino_protocols.models import FloatVector, ModelSpec
from sordino_protocols.networks import build, flatten, load_flat
from sordino_protocols.plan import TrainingPlan

_REHEARSAL_NOISE = 1e-4
_NO_LANES = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class BlackBox:
    """A training of a classifier, whose last model is asked about one record.

    Attributes:
        model: with one output a class.
        plan: with update "delta", cross-entropy, records as units and no lanes.
        start: the first model's flat parameters.
        features: float32 [records, width], of everybody else.
        labels: float32 [records], classes.
        canary: float32 [1, width].
        canary_label: the class that it is trained with.
        expected_batch_size: public; scales the steps.
    """

    model: ModelSpec
    plan: TrainingPlan
    start: FloatVector
    features: NDArray[np.float32]
    labels: NDArray[np.float32]
    canary: NDArray[np.float32]
    canary_label: int
    expected_batch_size: float

    def __post_init__(self) -> None:
        plan = self.plan
        if (plan.update, plan.loss, plan.unit, plan.lanes) != (
            "delta",
            "cross_entropy",
            "record",
            0,
        ):
            raise ValueError("expected a plan of deltas, cross-entropy, records and no lanes")
        if self.canary.shape != (1, self.features.shape[1]):
            raise ValueError(f"the canary has shape {self.canary.shape}; expected one record")


def audit_black_box(
    target: BlackBox,
    *,
    models: int,
    delta: float,
    confidence: float,
    noise: Noise,
) -> AttackResult:
    """Train half of the models with the canary, half without, and bound epsilon from the answers.

    The threshold is fixed before the first of them, by `rehearsed_threshold`. The bound assumes
    that the training is a Gaussian mechanism: with a sampling rate of 1 it is one exactly.

    Args:
        target: what is audited.
        models: how many are trained.
        delta: at which epsilon is bounded.
        confidence: of the bound.
        noise: `SecureNoise`, to audit what the product runs.

    Raises:
        ValueError: fewer than four models.
    """
    threshold = rehearsed_threshold(target, noise=noise)
    said = {
        is_member: [answer(target, train(target, is_member=is_member, noise=noise)) for _ in half]
        for is_member, half in ((True, range(models // 2)), (False, range(models // 2, models)))
    }
    return attack_result(
        "black box from the worst start",
        said[True],
        said[False],
        assumption=Assumption.GAUSSIAN_RUNS,
        delta=delta,
        confidence=confidence,
        threshold=threshold,
    )


def rehearsed_threshold(target: BlackBox, *, noise: Noise) -> float:
    """Halfway between the answers of two trainings, with and without, with hardly any noise.

    It is a function of what the adversary knows, and no model that is judged has been trained yet.
    """
    quiet = replace(target.plan, noise_multiplier=_REHEARSAL_NOISE * target.plan.noise_multiplier)
    rehearsal = replace(target, plan=quiet)
    answers = [
        answer(target, train(rehearsal, is_member=is_member, noise=noise))
        for is_member in (True, False)
    ]
    return sum(answers) / 2


def train(target: BlackBox, *, is_member: bool, noise: Noise) -> FloatVector:
    """The last model of one training by the engine, with or without the canary."""
    units = _units(target, is_member=is_member)
    weights = target.start
    for _ in range(target.plan.rounds):
        made = train_round(
            units,
            weights,
            target.model,
            target.plan,
            expected_batch_size=target.expected_batch_size,
            noise=noise,
        )
        weights = weights + made.vector
    return weights


def answer(target: BlackBox, weights: FloatVector) -> float:
    """The model's logit-scaled confidence in the canary's label: higher = more likely a member."""
    logits = outputs(weights, target.model, target.canary).numpy()
    return float(logit_confidence(logits, np.array([target.canary_label]))[0])


def fitted_start(
    model: ModelSpec,
    features: NDArray[np.float32],
    labels: NDArray[np.float32],
    *,
    steps: int,
    learning_rate: float,
    start: FloatVector,
) -> FloatVector:
    """Parameters that fit public records, without privacy: where others' gradients are small.

    Args:
        model: with one output a class.
        features: [records, width], public.
        labels: [records], classes.
        steps: of Adam, with all records in each.
        learning_rate: of Adam.
        start: flat parameters to begin at.
    """
    module = build(model, features.shape[1])
    load_flat(module, start)
    rows = torch.from_numpy(features).double()
    classes = torch.from_numpy(labels).long()
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    with single_threaded():
        for _ in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(module(rows), classes)
            torch.autograd.backward(loss)
            optimizer.step()
    return flatten(module)


def most_surprising(
    model: ModelSpec, weights: FloatVector, features: NDArray[np.float32]
) -> tuple[int, int]:
    """The record and the label that the model rules out most firmly: (row, class).

    There the loss is so steep that its gradient is clipped whatever the noise does, and constant.
    """
    logits = outputs(weights, model, features).numpy()
    classes = np.arange(logits.shape[1])
    confidences = np.stack([logit_confidence(logits, np.full(len(logits), c)) for c in classes], 1)
    row, label = np.unravel_index(int(confidences.argmin()), confidences.shape)
    return int(row), int(label)


def _units(target: BlackBox, *, is_member: bool) -> Units:
    features, labels = target.features, target.labels
    if is_member:
        features = np.concatenate([features, target.canary])
        labels = np.append(labels, np.float32(target.canary_label))
    return Units(features, labels, _NO_LANES)
