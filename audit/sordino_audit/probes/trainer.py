"""What is probed: a trainer, and the cases in which it is asked to train.

`engine` is the product's own. Anything else that takes the same and gives the same can be probed in
its place: a rival, or the product with a fault planted in it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import Performance
from sordino_client.training.clipping import network_for
from sordino_client.training.network import Network
from sordino_client.training.noise import Noise
from sordino_client.training.steps import RoundResult, train_round
from sordino_client.training.units import Units
from sordino_protocols.clipping import AdaptiveClipping
from sordino_protocols.models import FloatVector, ModelSpec, parameter_count
from sordino_protocols.plan import TrainingPlan

FEATURES = 36
"""Features of every made-up record: an image of 6 x 6 for models that want one."""
EXPECTED_BATCH = 20.0
"""The public constant that steps are divided by."""
RECORDS = 24
"""Units of a made-up data set."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a trainer is asked to do: the arguments of `train_round`."""

    units: Units
    weights: FloatVector
    model: ModelSpec
    plan: TrainingPlan
    noise: Noise
    performance: Performance


Trainer = Callable[[Asked], RoundResult]
"""One round of training: `engine`, or something that claims to be as good."""


def engine(asked: Asked) -> RoundResult:
    """The product's own trainer."""
    return train_round(
        asked.units,
        asked.weights,
        asked.model,
        asked.plan,
        expected_batch_size=EXPECTED_BATCH,
        noise=asked.noise,
        performance=asked.performance,
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One combination of public options.

    Attributes:
        name: for people.
        model: takes `FEATURES` features.
        plan: everything a job can say about the training.
        performance: everything a site can say about speed.
        seed: of records and weights, which are made up.
    """

    name: str
    model: ModelSpec
    plan: TrainingPlan
    performance: Performance
    seed: int

    @property
    def dimension(self) -> int:
        """How many parameters the model has."""
        return _dimension(self.model)

    @property
    def length(self) -> int:
        """Coordinates of a release."""
        return self.dimension + self.plan.extra_coordinates

    @property
    def network(self) -> Network:
        """The model as the engine trains it."""
        return network_for(self.model, FEATURES, self.plan.loss, performance=self.performance)

    def weights(self, *, threshold: float = 0.0, scale: float = 1.0) -> FloatVector:
        """Weights from a normal distribution, and those behind them.

        Args:
            threshold: logarithm of the factor on an adaptive clipping norm.
            scale: of the weights; an adversary's may be enormous.
        """
        rng = np.random.default_rng(self.seed)
        weights = np.zeros(self.length)
        weights[: self.dimension] = scale * rng.normal(size=self.dimension)
        weights[self.dimension : self.dimension + self.plan.thresholds] = threshold
        return weights

    def units(self, count: int, *, scale: float = 3.0, lanes: int = 0) -> Units:
        """Made-up units, of two rows each if the plan is about entities; the first of more.

        Args:
            count: how many.
            scale: of the features.
            lanes: how many of the first lanes have a canary.
        """
        rng = np.random.default_rng(self.seed + 1)
        is_entity = self.plan.unit == "entity"
        rows = 2 * count if is_entity else count
        # Row by row, so that fewer units are the first of more.
        drawn = rng.normal(size=(rows, FEATURES + 2))
        outputs = max(self.model.outputs, 2)
        labels = drawn[:, 0] if self.plan.loss == "squared" else np.floor(7 * drawn[:, 1]) % outputs
        return Units(
            features=(scale * drawn[:, 2:]).astype(np.float32),
            labels=labels.astype(np.float32),
            canary_lanes=np.arange(lanes, dtype=np.int64),
            entities=Entities(np.arange(rows), np.arange(0, rows + 1, 2)) if is_entity else None,
        )

    def norm_at(self, threshold: float) -> float:
        """The clipping norm in force."""
        rule = self.plan.clipping
        if isinstance(rule, AdaptiveClipping):
            return rule.norm(self.plan.clipping_norm, threshold)
        return self.plan.clipping_norm

    def thresholds(self) -> tuple[float, ...]:
        """Weights of the threshold to try: a second one only where it does something."""
        return (0.0, 1.0) if self.plan.thresholds else (0.0,)

    @property
    def one_step(self) -> "Case":
        """The case with one step a round, released as its sum: what the guarantee is about."""
        return replace(self, plan=replace(self.plan, local_steps=1, update="sum"))

    @property
    def as_they_are(self) -> "Case":
        """The case with all rows of every unit, and no random views: only the noise is random."""
        rows = 2 if self.plan.unit == "entity" else 1
        return replace(self, plan=replace(self.plan, augmentation=None, records_per_unit=rows))


@cache
def _dimension(model: ModelSpec) -> int:
    return parameter_count(model, FEATURES)


def train(
    trainer: Trainer,
    case: Case,
    units: Units,
    noise: Noise,
    *,
    threshold: float = 0.0,
    weight_scale: float = 1.0,
) -> FloatVector:
    """The release of one round, [coordinates]."""
    weights = case.weights(threshold=threshold, scale=weight_scale)
    asked = Asked(units, weights, case.model, case.plan, noise, case.performance)
    return trainer(asked).vector


def without_last(units: Units) -> Units:
    """The neighbour that lacks the last unit that is no canary."""
    if units.entities is not None:
        starts = units.entities.starts[:-1]
        rows = int(starts[-1])
        entities = Entities(units.entities.order[:rows], starts)
        return replace(
            units, features=units.features[:rows], labels=units.labels[:rows], entities=entities
        )
    return replace(units, features=units.features[:-1], labels=units.labels[:-1])


def with_last(units: Units, value: float) -> Units:
    """The same units, but every feature of the last one is `value`."""
    features = units.features.copy()
    features[-2 if units.entities is not None else -1 :] = value
    return replace(units, features=features)
