"""Probes of a DP-SGD trainer, and trainers with known faults that the probes must find.

A probe sees what the trainer releases, never how. The faults are those that shipped in real systems
and that membership attacks mostly miss; each is a trainer like `engine`, which is the product's.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import statistical
from scipy import stats
from seeded_noise import NoNoise, SeededNoise

from sordino_client.entities import Entities
from sordino_client.training.arithmetic import Performance
from sordino_client.training.clipping import Units, network_for
from sordino_client.training.noise import Noise, SecureNoise
from sordino_client.training.steps import RoundResult, train_round
from sordino_protocols.clipping import AdaptiveClipping, PerLayerClipping
from sordino_protocols.models import FloatVector, ModelSpec, parameter_count
from sordino_protocols.plan import TrainingPlan

FEATURES = 36
EXPECTED_BATCH = 20.0
RECORDS = 24
# The loss and the model's forward pass are in single precision at best.
_ROUNDING = 1e-5


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
"""What is probed: `engine`, or something that claims to be as good."""


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
        model: takes `FEATURES` features.
        plan: everything a job can say about the training.
        performance: everything a site can say about speed.
        seed: of records and weights.
    """

    model: ModelSpec
    plan: TrainingPlan
    performance: Performance
    seed: int

    @property
    def dimension(self) -> int:
        return parameter_count(self.model, FEATURES)

    @property
    def length(self) -> int:
        return self.dimension + self.plan.extra_coordinates

    def weights(self, *, threshold: float = 0.0) -> FloatVector:
        rng = np.random.default_rng(self.seed)
        weights = np.zeros(self.length)
        weights[: self.dimension] = rng.normal(size=self.dimension)
        weights[self.dimension : self.dimension + self.plan.thresholds] = threshold
        return weights

    def units(self, count: int, *, scale: float = 3.0) -> Units:
        """`count` units, of two rows each if the plan is about entities."""
        rng = np.random.default_rng(self.seed + 1)
        is_entity = self.plan.unit == "entity"
        rows = 2 * count if is_entity else count
        starts = np.arange(0, rows + 1, 2)
        outputs = self.model.outputs
        labels = rng.integers(0, max(outputs, 2), rows) if self.plan.loss != "squared" else None
        return Units(
            features=(scale * rng.normal(size=(rows, FEATURES))).astype(np.float32),
            labels=(rng.normal(size=rows) if labels is None else labels).astype(np.float32),
            canary_lanes=np.empty(0, dtype=np.int64),
            entities=Entities(np.arange(rows), starts) if is_entity else None,
        )


def train(
    trainer: Trainer, case: Case, units: Units, noise: Noise, *, threshold: float = 0.0
) -> RoundResult:
    """One round of a case: as long as the weights, whatever happens."""
    weights = case.weights(threshold=threshold)
    result = trainer(Asked(units, weights, case.model, case.plan, noise, case.performance))
    assert result.vector.shape == (case.length,)
    return result


def one_step(case: Case) -> Case:
    """The case with one step a round, released as its sum: all that follows works on such sums."""
    return replace(case, plan=replace(case.plan, local_steps=1, update="sum"))


def without_last(units: Units) -> Units:
    """The neighbour that lacks the last unit."""
    if units.entities is not None:
        starts = units.entities.starts[:-1]
        rows = int(starts[-1])
        entities = Entities(units.entities.order[:rows], starts)
        return replace(
            units, features=units.features[:rows], labels=units.labels[:rows], entities=entities
        )
    return replace(units, features=units.features[:-1], labels=units.labels[:-1])


def norm_in_force(case: Case, threshold: float) -> float:
    rule = case.plan.clipping
    if isinstance(rule, AdaptiveClipping):
        return rule.norm(case.plan.clipping_norm, threshold)
    return case.plan.clipping_norm


# ------------------------------------------------------------------------------------- probes


def probe_sensitivity(trainer: Trainer, case: Case) -> None:
    """One unit more moves a step's sum by the clipping norm at most, whatever the unit."""
    case = replace(one_step(case), plan=replace(one_step(case).plan, sampling_rate=1.0))
    for threshold in (0.0, 1.0):
        bound = norm_in_force(case, threshold)
        for scale in (0.1, 1e3):
            units = case.units(RECORDS, scale=scale)
            more = train(trainer, case, units, NoNoise(), threshold=threshold).vector
            less = train(trainer, case, without_last(units), NoNoise(), threshold=threshold).vector
            assert np.linalg.norm(more - less) <= bound * (1 + 1e-9)


def probe_data_set_size(trainer: Trainer, case: Case) -> None:
    """A unit without a gradient changes nothing: no scale depends on how many units there are."""
    case = replace(case, plan=replace(case.plan, sampling_rate=1.0))
    units = case.units(RECORDS)
    features = units.features.copy()
    features[-2 if units.entities is not None else -1 :] = np.nan
    blank = replace(units, features=features)
    with_blank = train(trainer, case, blank, NoNoise()).vector
    without = train(trainer, case, without_last(units), NoNoise()).vector
    scale = max(float(np.abs(without).max()), 1e-12)
    kept = np.ones(case.length, dtype=np.bool_)
    # The threshold's coordinate may count a unit without a gradient: it is bounded like all others.
    kept[case.dimension : case.dimension + case.plan.thresholds] = False
    np.testing.assert_allclose(with_blank[kept], without[kept], rtol=0, atol=_ROUNDING * scale)


def probe_noise(trainer: Trainer, case: Case) -> None:
    """With no unit at all every parameter still gets the planned noise, layer by layer."""
    case = one_step(case)
    for threshold in (0.0, 1.0):
        std = case.plan.noise_multiplier * norm_in_force(case, threshold)
        released = np.concatenate(
            [
                train(trainer, case, case.units(0), SecureNoise(), threshold=threshold).vector[None]
                for _ in range(20)
            ]
        )
        network = network_for(case.model, FEATURES, case.plan.loss, performance=case.performance)
        spans = [span for layer in network.layers for span in layer.spans.values()]
        for span in spans:
            statistical.assert_scale(released[:, span.start : span.stop], std)
        statistical.assert_scale(released, std)


def probe_noise_with_units(trainer: Trainer, case: Case) -> None:
    """The noise around the exact sum is the planned one when there are units, too."""
    case = one_step(case)
    # Nothing but the noise is random: every unit takes part with all its rows, as they are.
    rows = 2 if case.plan.unit == "entity" else 1
    plan = replace(case.plan, sampling_rate=1.0, augmentation=None, records_per_unit=rows)
    case = replace(case, plan=plan)
    units = case.units(RECORDS)
    exact = train(trainer, case, units, NoNoise()).vector
    noise = [train(trainer, case, units, SecureNoise()).vector - exact for _ in range(20)]
    statistical.assert_scale(np.concatenate(noise), case.plan.noise_std)


def probe_freshness(trainer: Trainer, case: Case) -> None:
    """Two rounds, or two sites, share no noise."""
    case = one_step(case)
    pairs = [
        train(trainer, case, case.units(0), SecureNoise()).vector
        - train(trainer, case, case.units(0), SecureNoise()).vector
        for _ in range(20)
    ]
    statistical.assert_scale(np.concatenate(pairs), math.sqrt(2) * case.plan.noise_std)


def probe_sampling(trainer: Trainer, case: Case) -> None:
    """Each unit enters on its own coin of the probability that is accounted."""
    canaries, rounds, rate = 60, 60, 0.3
    plan = replace(one_step(case).plan, sampling_rate=rate, lanes=canaries)
    assert plan.event_after(1).sampling_rate == rate
    case = replace(case, plan=plan)
    units = replace(case.units(0), canary_lanes=np.arange(canaries))
    sizes = []
    for _ in range(rounds):
        lanes = train(trainer, case, units, _CoinsOnly()).vector[-canaries:]
        sizes.append(int(np.sum(lanes > plan.clipping_norm / 2)))
    statistical.assert_rate(sum(sizes), canaries * rounds, rate)
    expected = round(canaries * rate)
    likely = float(stats.binom.pmf(expected, canaries, rate))
    statistical.assert_rate(sizes.count(expected), rounds, likely)


def probe_fields(trainer: Trainer, case: Case) -> None:
    """A release is one vector of public length, and whether its noise was secure."""
    for count in (0, 1, RECORDS):
        result = train(trainer, case, case.units(count), SecureNoise())
        assert {field.name for field in fields(result)} == {"vector", "is_private"}
        assert result.vector.shape == (case.length,)
        assert result.is_private
    assert not train(trainer, case, case.units(1), NoNoise()).is_private


PROBES: tuple[Callable[[Trainer, Case], None], ...] = (
    probe_sensitivity,
    probe_data_set_size,
    probe_noise,
    probe_noise_with_units,
    probe_freshness,
    probe_sampling,
    probe_fields,
)


class _CoinsOnly:
    """Secret coins as in the product, and no noise: shows who was sampled."""

    @property
    def is_secure(self) -> bool:
        return False

    def standard_normal(self, count: int) -> npt.NDArray[np.float64]:
        return np.zeros(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> npt.NDArray[np.int64]:
        del noise_std
        return np.zeros(count, dtype=np.int64)

    def bernoulli(self, count: int, *, probability: float) -> npt.NDArray[np.bool_]:
        return SecureNoise().bernoulli(count, probability=probability)


# ------------------------------------------------------------------------------------- the zoo


@dataclass(frozen=True, slots=True)
class Fault:
    """A trainer with a fault: changes to the plan, to the noise, and to what comes out.

    Attributes:
        plan: the plan that is really run.
        noise: the noise that is really drawn, given the units.
        after: from (what would be released, its exact part, the units, the case) to what is.
    """

    plan: Callable[[TrainingPlan, Units], TrainingPlan] = lambda plan, _units: plan
    noise: Callable[[Noise], Noise] = lambda noise: noise
    after: Callable[[FloatVector, FloatVector, Units], FloatVector] = (
        lambda vector, _exact, _units: vector
    )

    def __call__(self, asked: Asked) -> RoundResult:
        done = replace(asked, plan=self.plan(asked.plan, asked.units))
        # Faults that need the exact sum are tried at a sampling rate of 1.
        exact = engine(replace(done, noise=NoNoise())).vector
        noisy = engine(replace(done, noise=self.noise(asked.noise))).vector
        vector = self.after(noisy, exact, asked.units)
        return RoundResult(vector, is_private=asked.noise.is_secure)


@dataclass(frozen=True, slots=True)
class _Talkative(RoundResult):
    loss: float


def returns_the_loss(asked: Asked) -> RoundResult:
    """A trainer that tells a number about the records beside the release."""
    made = engine(asked)
    return _Talkative(made.vector, made.is_private, float(np.abs(asked.units.features).sum()))


class _FixedSize:
    """Batches of one size, as shuffling gives, in place of coins."""

    def __init__(self, inner: Noise) -> None:
        self._inner = inner

    @property
    def is_secure(self) -> bool:
        return self._inner.is_secure

    def standard_normal(self, count: int) -> npt.NDArray[np.float64]:
        return self._inner.standard_normal(count)

    def discrete_gaussian(self, count: int, *, noise_std: float) -> npt.NDArray[np.int64]:
        return self._inner.discrete_gaussian(count, noise_std=noise_std)

    def bernoulli(self, count: int, *, probability: float) -> npt.NDArray[np.bool_]:
        chosen = np.zeros(count, dtype=np.bool_)
        chosen[: round(count * probability)] = True
        return chosen


def _last_layer(vector: FloatVector) -> slice:
    return slice(len(vector) // 2, None)


def _leaves_out_of_the_norm(vector: FloatVector, exact: FloatVector, _units: Units) -> FloatVector:
    changed = vector.copy()
    changed[_last_layer(vector)] += 20 * exact[_last_layer(vector)]
    return changed


def _without_noise(vector: FloatVector, exact: FloatVector, _units: Units) -> FloatVector:
    changed = vector.copy()
    changed[_last_layer(vector)] = exact[_last_layer(vector)]
    return changed


def _whole_norm_each_layer(plan: TrainingPlan, _units: Units) -> TrainingPlan:
    many = plan.clipping_norm * 2
    return replace(
        plan,
        clipping=PerLayerClipping(kind="per_layer"),
        clipping_norm=many,
        noise_multiplier=plan.noise_multiplier / 2,
    )


def _clips_the_average(plan: TrainingPlan, units: Units) -> TrainingPlan:
    # Each unit may bring as much as all together.
    factor = max(len(units), 1)
    return replace(
        plan,
        clipping_norm=plan.clipping_norm * factor,
        noise_multiplier=plan.noise_multiplier / factor,
    )


ZOO: Mapping[str, Trainer] = {
    "noise divided by the batch size": Fault(
        after=lambda vector, exact, units: exact + (vector - exact) / max(len(units), 1)
    ),
    "sigma over the square root of two": Fault(
        plan=lambda plan, _: replace(plan, noise_multiplier=plan.noise_multiplier / math.sqrt(2))
    ),
    "sigma a tenth too small": Fault(
        plan=lambda plan, _: replace(plan, noise_multiplier=0.9 * plan.noise_multiplier)
    ),
    "a seed used in every round": Fault(noise=lambda _: SeededNoise(7)),
    "one seed at all sites": Fault(noise=lambda _: SeededNoise(11)),
    "the averaged gradient is clipped": Fault(plan=_clips_the_average),
    "each layer clipped to the whole norm": Fault(plan=_whole_norm_each_layer),
    "the last layer left out of the norm": Fault(after=_leaves_out_of_the_norm),
    "no noise on the last layer": Fault(after=_without_noise),
    "fixed batches accounted as Poisson": Fault(noise=_FixedSize),
    "no noise on an empty batch": Fault(
        after=lambda vector, exact, units: vector if len(units) else exact
    ),
    "the loss returned": returns_the_loss,
    "the count returned": Fault(
        after=lambda vector, _, units: np.append(vector, float(len(units)))
    ),
    "a scale that depends on the data set's size": Fault(
        after=lambda vector, _, units: vector * (RECORDS - 1) / max(len(units), 1)
    ),
    "a sensitivity that is not the clipping norm": Fault(
        plan=lambda plan, _: replace(
            plan, clipping_norm=2 * plan.clipping_norm, noise_multiplier=plan.noise_multiplier / 2
        )
    ),
}
