"""The strongest attacker on a replay: he knows the code, the weights and all records but who is in.

He sees each release of the target, takes away what all other records contribute on average, and
asks which canaries explain the rest, in the model's real coordinates and not in lanes: a trainer
that treats lanes unlike everything else is found here. Gradients are those of the engine, clipped
by its own code, a canary at a time (Nasr, Shokri & Houmansadr 2019; Nasr et al. 2023).

What is left when all contributions are taken away is noise, and sampling. Whatever is added to
Gaussian noise independently of it makes its squares larger in distribution (Anderson 1955), so too
small a sum of squares proves missing noise, however units were sampled.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sordino_audit.replay.federation import TARGET, RunView
from sordino_client.data.table import Table
from sordino_client.entities import Entities
from sordino_client.training.clipping import clipped_sum, network_for
from sordino_client.training.network import Network
from sordino_client.training.noise import SecureNoise
from sordino_client.training.processor import single_threaded
from sordino_client.training.steps import at_threshold, contribution_bound
from sordino_client.training.units import Units, draw
from sordino_protocols.job import Job
from sordino_protocols.models import FloatVector
from sordino_protocols.plan import TrainingPlan
from sordino_protocols.scaling import Scaling

Floats = NDArray[np.float64]

_PRIOR_VARIANCE = 0.25
"""Of a fair coin."""
_STABILITY = 1e-9
_NO_LANES = np.empty(0, dtype=np.int64)
_MOST_ROUNDS = 50
"""Of a long run, so many rounds are looked at, evenly spaced: a gradient a canary takes time."""


@dataclass(frozen=True, slots=True, eq=False)
class WhiteBoxView:
    """What the attacker made of one federation.

    Attributes:
        site_scores: [canaries], from the target's own releases: higher = more likely inserted.
        aggregate_scores: [canaries], from the sum of all sites' releases.
        squares: [layers], of what is left of the target's releases in real coordinates, over the
            claimed variance of the noise; zeros where a release is no plain sum.
        counts: [layers], how many coordinates each of these is summed over.
    """

    site_scores: Floats
    aggregate_scores: Floats
    squares: Floats
    counts: NDArray[np.int64]


@dataclass(slots=True)
class _Regression:
    """Least squares of releases on canaries' gradients, a round at a time."""

    canaries: int
    gram: Floats = field(init=False)
    product: Floats = field(init=False)
    squares: float = 0.0
    equations: int = 0

    def __post_init__(self) -> None:
        self.gram = np.zeros((self.canaries, self.canaries))
        self.product = np.zeros(self.canaries)

    def add(self, design: Floats, release: FloatVector) -> None:
        """One round: `design` [canaries, coordinates]."""
        self.gram += design @ design.T
        self.product += design @ release
        self.squares += float(release @ release)
        self.equations += len(release)

    def coins(self) -> Floats:
        """The best linear guess of each coin less 1/2, with the noise's variance as it is seen."""
        ridge = _STABILITY * max(float(np.trace(self.gram)) / self.canaries, 1e-300)
        identity = np.eye(self.canaries)
        fitted = np.linalg.solve(self.gram + ridge * identity, self.product)
        left = max(self.squares - float(self.product @ fitted), 0.0)
        variance = left / max(self.equations - self.canaries, 1)
        loading = max(variance / _PRIOR_VARIANCE, ridge)
        return np.asarray(np.linalg.solve(self.gram + loading * identity, self.product))


def attack_gradients(
    view: RunView,
    job: Job,
    training: tuple[Table, ...],
    canaries: Table,
    *,
    inserted: NDArray[np.bool_],
    expected_batch_size: float,
) -> WhiteBoxView:
    """Attack one federation's releases.

    Args:
        view: what crossed the wire.
        job: what ran.
        training: what each site learnt from *without* canaries, the target first.
        canaries: one record each.
        inserted: [canaries], the coins: for what is left of the noise, never for the scores.
        expected_batch_size: what the sites divide by between a round's steps.
    """
    plan = job.plan.require_training()
    network = network_for(job.file.require_model(), canaries.features.shape[1], plan.loss)
    sums = [_Sums(network, plan, _units(table, view.scaling, plan)) for table in training]
    alone = _Sums(network, plan, _units(canaries, view.scaling, plan, is_alone=True))
    rate = plan.sampling_rate * plan.local_steps
    site, everywhere = _Regression(len(canaries.labels)), _Regression(len(canaries.labels))
    squares, counts = np.zeros(len(network.layers)), np.zeros(len(network.layers), dtype=np.int64)
    with single_threaded():
        for each in view.rounds[:: -(-len(view.rounds) // _MOST_ROUNDS)]:
            weights = each.weights.astype(np.float64)
            others = [rate * one.all(weights) for one in sums]
            design = rate * alone.each(weights)
            released = [
                _as_sum(vector, plan, network.dimension, expected_batch_size)
                for _, vector in sorted(each.updates.items(), key=lambda item: item[0] != TARGET)
            ]
            # An average canary is in half of all worlds.
            centre = design.sum(axis=0) / 2
            site.add(design, released[0] - others[0] - centre)
            everywhere.add(design, sum(released) - sum(others) - centre)
            if plan.update == "sum":
                left = released[0] - others[0] - design[inserted].sum(axis=0)
                _add_squares(squares, counts, left / alone.noise_std(weights), network)
    return WhiteBoxView(site.coins(), everywhere.coins(), squares, counts)


class _Sums:
    """Clipped gradients of fixed units at any weights, by the engine."""

    def __init__(self, network: Network, plan: TrainingPlan, units: Units) -> None:
        self._network = network
        self._plan = plan
        self._units = units

    def all(self, weights: FloatVector) -> FloatVector:
        """The sum over all units: [dimension]."""
        return self._sum(weights, np.arange(len(self._units)))

    def each(self, weights: FloatVector) -> Floats:
        """A row a unit: [units, dimension]."""
        return np.stack([self._sum(weights, np.array([at])) for at in range(len(self._units))])

    def noise_std(self, weights: FloatVector) -> float:
        """Of the last step's noise: what is added before it is independent of it."""
        return self._in_force(weights).noise_std

    def _in_force(self, weights: FloatVector) -> TrainingPlan:
        dimension = self._network.dimension
        return at_threshold(self._plan, weights[dimension : dimension + self._plan.thresholds])

    def _sum(self, weights: FloatVector, batch: NDArray[np.int64]) -> FloatVector:
        plan, dimension = self._in_force(weights), self._network.dimension
        drawn = draw(self._units, batch, plan, noise=SecureNoise())
        total = clipped_sum(
            self._units,
            batch,
            weights[: dimension + plan.thresholds],
            self._network,
            bound=contribution_bound(plan, dimension),
            rule=plan.clipping,
            drawn=drawn,
        )
        return total[:dimension]


def _units(
    table: Table, scaling: Scaling | None, plan: TrainingPlan, *, is_alone: bool = False
) -> Units:
    entities = table.entities
    if is_alone and plan.unit == "entity":
        rows = np.arange(len(table.labels) + 1)
        entities = Entities(rows[:-1], rows)
    return Units(table.features, table.labels, _NO_LANES, entities=entities, scaling=scaling)


def _as_sum(
    vector: NDArray[np.float32], plan: TrainingPlan, dimension: int, expected_batch_size: float
) -> FloatVector:
    """The model's part of a release, as the sum of gradients that it stands for."""
    model = vector[:dimension].astype(np.float64)
    if plan.update == "sum":
        return model
    return -model * expected_batch_size / plan.local_learning_rate


def _add_squares(
    squares: Floats, counts: NDArray[np.int64], left: FloatVector, network: Network
) -> None:
    for index, layer in enumerate(network.layers):
        for span in layer.spans.values():
            squares[index] += float(np.sum(left[span.start : span.stop] ** 2))
            counts[index] += span.stop - span.start
