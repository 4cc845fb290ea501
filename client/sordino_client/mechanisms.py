"""What a site computes on its records: one function a release, each as private as its plan says.

Nothing here decides whether a release may be made, and nothing here leaves the site but what these
functions return. `site.Site` calls them when the ledger has been charged, and not otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sordino_client.admitted import AdmittedRun
from sordino_client.data.site_dataset import SiteDataset
from sordino_client.data.storage import FeatureArray
from sordino_client.data.table import Table
from sordino_client.data.table_cells import cells_of
from sordino_client.evaluation import exact_table, noisy_table
from sordino_client.statistics import noisy_statistics
from sordino_client.training.arithmetic import Performance
from sordino_client.training.clipping import network_for, outputs
from sordino_client.training.noise import Noise
from sordino_client.training.processor import single_threaded
from sordino_client.training.steps import train_round
from sordino_client.training.tally import Tally
from sordino_client.training.units import Units
from sordino_client.unit_rows import one_row_a_unit
from sordino_client.witness import Witness
from sordino_protocols.feature_statistics import measured_features
from sordino_protocols.job import Job
from sordino_protocols.messages import Vector
from sordino_protocols.models import ModelSpec
from sordino_protocols.nade import NadeModelSpec
from sordino_protocols.plan import StatisticsPlan
from sordino_protocols.scaling import Scaling
from sordino_protocols.schema import Schema
from sordino_protocols.synthesis.domain import domain_of
from sordino_protocols.synthesis.nade import cells_for

__all__ = [
    "Engine",
    "SiteDataset",
    "noisy_evaluation",
    "noisy_feature_statistics",
    "noisy_update",
]

# Records that go through the network together: always so many, so that what the network makes of a
# record does not depend on how many others there are.
_ROWS = 256


@dataclass(frozen=True, slots=True)
class Engine:
    """How a site computes.

    Attributes:
        noise: what every release rests on; `SecureNoise` in the product.
        performance: how fast; touches no privacy.
        tallied: is shown each round's last batch, for people at the site alone.
    """

    noise: Noise
    performance: Performance
    tallied: Callable[[str, Tally], None] = lambda _run_id, _tally: None


def noisy_update(
    run: AdmittedRun,
    dataset: SiteDataset,
    engine: Engine,
    *,
    weights: Vector,
    scaling: Scaling | None,
    witness: Witness | None = None,
) -> Vector:
    """A round of training: costs `plan.training.round_event`.

    What `witness` and `engine.tallied` are shown is no part of the release, and must stay at the
    site.
    """
    plan, training = run.job.plan.require_training(), dataset.training
    model = run.job.file.require_model()
    units = Units(
        _read_by(model, training, dataset.schema),
        training.labels,
        run.canary_lanes,
        entities=training.entities,
        scaling=scaling,
    )
    tally = Tally()
    result = train_round(
        units,
        weights.astype(np.float64),
        model,
        plan,
        # A public constant: the size of a Poisson sample depends on the records.
        expected_batch_size=plan.sampling_rate * dataset.schema.dataset.order_of_magnitude,
        noise=engine.noise,
        performance=engine.performance,
        witness=witness,
        tally=tally,
    )
    engine.tallied(run.run_id, tally)
    return result.vector.astype(np.float32)


def noisy_evaluation(
    job: Job, dataset: SiteDataset, engine: Engine, *, weights: Vector, scaling: Scaling | None
) -> Vector:
    """The table of answers on held-out records: costs `plan.require_evaluation().event`."""
    plan, heldout = job.plan.require_evaluation(), dataset.heldout
    rows = one_row_a_unit(heldout, engine.noise)
    model = job.file.require_model()
    records = _read_by(model, heldout, dataset.schema)
    network = network_for(
        model,
        dataset.schema.feature_count,
        plan.loss,
        performance=engine.performance,
    )
    exact = np.zeros(plan.shape, dtype=np.int64)
    with single_threaded():
        network.check_outputs(min(_ROWS, network.arithmetic.chunk_rows))
        for start in range(0, len(rows), _ROWS):
            chunk = rows[start : start + _ROWS]
            features = _made_up(records[chunk])
            found = outputs(weights.astype(np.float64), network, features, scaling=scaling)
            exact += exact_table(found[: len(chunk)].numpy(), heldout.labels[chunk], plan)
    return noisy_table(exact, plan, noise=engine.noise).ravel().astype(np.float32)


def noisy_feature_statistics(plan: StatisticsPlan, dataset: SiteDataset, engine: Engine) -> Vector:
    """Statistics of the features to learn from: costs `plan.event`."""
    training = dataset.training
    rows = one_row_a_unit(training, engine.noise)
    measured = measured_features(dataset.schema)
    released = noisy_statistics(
        training.features, rows, plan, measured=measured, noise=engine.noise
    )
    return released.astype(np.float32)


def _read_by(model: ModelSpec, table: Table, schema: Schema) -> FeatureArray:
    """What a network reads of the records: their features, or their cells if it generates some."""
    if not isinstance(model, NadeModelSpec):
        return table.features
    cells = cells_of(table, schema)
    return cells_for(model, cells, domain_of(schema).shape).astype(np.float32)


def _made_up(features: FeatureArray) -> FeatureArray:
    """As many rows as go through the network together, with zeros behind."""
    padding = np.zeros((_ROWS - len(features), features.shape[1]), dtype=features.dtype)
    return np.concatenate([features, padding])
