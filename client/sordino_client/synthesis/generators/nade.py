"""An autoregressive network of a table, trained by the engine that trains models.

See the figures in docs/synthesis.md: at the same privacy the mixture knows pairs of columns better
and takes a tenth of the time; models learn no less from this one's records. It is there for tables
of very many columns and sets of very many items, whose pairs cannot all be measured.
"""

import numpy as np
import numpy.typing as npt

from sordino_client.synthesis.generators.fitted import Fitted
from sordino_client.synthesis.generators.training import averaged_weights, training_plan
from sordino_client.synthesis.measure import measure, places_of
from sordino_client.training.arithmetic import Performance
from sordino_client.training.clipping import network_for
from sordino_client.training.noise import Noise
from sordino_client.training.units import Units
from sordino_protocols.models import initial_weights
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.privacy import PrivacyUnit
from sordino_protocols.synthesis.nade import NadePlan, TrainedNade, cells_for, unpacked
from sordino_protocols.synthesis.positions import (
    coarse_counts,
    flattened,
    probabilities,
    singles,
)
from sordino_protocols.synthesis.shapes import DomainShape, SetShape
from sordino_protocols.synthesis.specs import NadeSpec
from sordino_protocols.synthesis.tables import SiteTable, estimate_units

Cells = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.float64]

# The smallest root that a step is divided by, over the standard deviation of the noise: where there
# are few records, Adam would make long steps of nothing but noise.
_STABILITY = 2.0
# A bias starts no lower than as for this share of the units.
_RAREST = 1e-4


def fit_nade(
    cells: Cells,
    spec: NadeSpec,
    *,
    shape: DomainShape,
    noise_multiplier: float,
    unit: PrivacyUnit,
    noise: Noise,
    performance: Performance,
    rng: np.random.Generator,
) -> Fitted:
    """One-way marginals, then a network: costs `spec.event(shape, noise_multiplier, unit)`.

    Args:
        cells: [units, positions], of fine cells; a secret.
        spec: of the network and its training.
        shape: of the cells.
        noise_multiplier: of DP-SGD.
        unit: whom the guarantee is about.
        noise: source of the randomness that privacy rests on.
        performance: how fast to train; touches no privacy.
        rng: of the first weights.

    Raises:
        InputError: the network is too large, or the shape has too many positions.
    """
    plan = spec.plan(shape, noise_multiplier, unit)
    table = _measured(cells, plan, noise=noise)
    flat = flattened(shape)
    units = max(1.0, estimate_units(table).value)
    one_ways = _by_position(table, units)
    model = NadeModelSpec(
        kind="nade", hidden=spec.hidden, cells=tuple(column.coarse for column in singles(flat))
    )
    start = initial_weights(model, len(model.cells), seed=rng.bytes(32))
    unpacked(start, model).biases[:] = _first_biases(one_ways, model, flat)
    weights = _trained(
        cells_for(model, cells, shape),
        start,
        model,
        plan,
        spec,
        units=units,
        noise=noise,
        performance=performance,
    )
    return Fitted(TrainedNade(model, weights, one_ways, flat), units)


def _measured(cells: Cells, plan: NadePlan, *, noise: Noise) -> SiteTable:
    one_ways = plan.one_ways
    released = measure(cells, one_ways, shape=plan.shape, noise=noise).astype(np.float64)
    stds = tuple(each.noise_std for each in one_ways)
    return SiteTable("this site", plan.shape, one_ways, released, stds)


def _by_position(table: SiteTable, units: float) -> tuple[Numbers, ...]:
    """Noisy fine counts of each position; of an item, of those without it and with it."""
    found: list[Numbers] = []
    parts = zip(table.shape.columns, places_of(table.marginals), strict=True)
    for column, place in parts:
        counts = table.counts[place]
        if isinstance(column, SetShape):
            found += [np.array([units - count, count]) for count in counts.clip(0, units)]
        else:
            found.append(counts)
    return tuple(found)


def _first_biases(
    one_ways: tuple[Numbers, ...], model: NadeModelSpec, flat: DomainShape
) -> Numbers:
    """Logits of the noisy marginals: what the network says of every column before it learns."""
    biases = np.zeros(model.layout.total)
    coarse = coarse_counts(one_ways, flat)
    for start, counts in zip(model.layout.starts(), coarse, strict=True):
        shares = probabilities(counts).clip(min=_RAREST)
        biases[start : start + len(shares)] = np.log(shares)
    return biases


def _trained(
    cells: Cells,
    weights: Numbers,
    model: NadeModelSpec,
    plan: NadePlan,
    spec: NadeSpec,
    *,
    units: float,
    noise: Noise,
    performance: Performance,
) -> Numbers:
    """The mean of the last weights on the way: costs `plan.training_event`."""
    rows = Units(cells.astype(np.float32), np.zeros(len(cells), np.float32), np.zeros(0, np.int64))
    network = network_for(model, len(model.cells), "likelihood", performance=performance)
    training = training_plan(plan, spec, loss="likelihood")
    # Made of a noisy count: the size of a Poisson sample depends on the records.
    batch = max(1.0, plan.sampling_rate * units)
    return averaged_weights(
        lambda: rows,
        weights,
        network,
        training,
        batch=batch,
        stability=_STABILITY * training.noise_std / batch,
        noise=noise,
    )
