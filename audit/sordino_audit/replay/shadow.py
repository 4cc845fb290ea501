"""One federation of a replay, from its coins to what is kept of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sordino_audit.replay.coins import draw_coins
from sordino_audit.replay.federation import Federation, RunView, scratch_directory
from sordino_audit.replay.observation import Observation
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.records import ReplayRecords
from sordino_audit.replay.white_box import WhiteBoxView, attack_gradients
from sordino_client.data.table import Table
from sordino_client.training.clipping import outputs
from sordino_client.training.noise import Noise
from sordino_client.training.processor import single_threaded
from sordino_protocols.models import parameter_count

Floats = NDArray[np.float64]

_MOST_RUNS = 64
_KEPT_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class Place:
    """One federation's place in a replay.

    Attributes:
        world: poisons of each canary.
        index: within the world; the first ones are those that attacks are judged on.
    """

    world: int
    index: int


def run_places(
    plan: ReplayPlan,
    records: ReplayRecords,
    places: tuple[Place, ...],
    *,
    noise: Noise,
    keep: Callable[[Place, bytes], None],
) -> None:
    """Run federations one after the other, and hand over what is kept of each.

    Args:
        plan: of the replay.
        records: of the plan.
        places: which federations.
        noise: what the sites' releases rest on.
        keep: told of each federation as soon as it is done.

    Raises:
        InputError: the job cannot be run on these sites.
    """
    left = list(places)
    while left:
        with scratch_directory() as directory:
            left = _run_some(plan, records, left, directory, noise=noise, keep=keep)


def _run_some(
    plan: ReplayPlan,
    records: ReplayRecords,
    places: Sequence[Place],
    directory: Path,
    *,
    noise: Noise,
    keep: Callable[[Place, bytes], None],
) -> list[Place]:
    """Run federations at the same sites while these have room: what is left to be run."""
    sites = plan.design.sites
    federation = Federation(directory, plan.job, plan.schema, sites=sites, noise=noise)
    try:
        most = _runs_together(plan)
        for done, place in enumerate(places):
            if done and (done == most or not federation.has_room()):
                return list(places[done:])
            keep(place, _observe(federation, plan, records, place).to_bytes())
    finally:
        federation.close()
    return []


def _runs_together(plan: ReplayPlan) -> int:
    """So many runs whose releases the sites can keep: all of them lie in memory."""
    training = plan.job.plan.require_training()
    length = parameter_count(plan.job.file.require_model(), plan.schema.feature_count)
    released = 4 * (length + training.extra_coordinates) * training.rounds * plan.design.sites
    return max(1, min(_MOST_RUNS, _KEPT_BYTES // released))


def _observe(
    federation: Federation, plan: ReplayPlan, records: ReplayRecords, place: Place
) -> Observation:
    inserted = draw_coins(plan.design, world=place.world)[place.index]
    training = records.training(inserted=inserted, poisons=place.world)
    view = federation.run(training, records.sites)
    white_box = _no_white_box()
    if place.index < plan.design.judged:
        nobody = np.zeros_like(inserted)
        white_box = attack_gradients(
            view,
            plan.job,
            records.training(inserted=nobody, poisons=place.world),
            records.canaries,
            inserted=inserted,
            expected_batch_size=plan.job.plan.require_training().sampling_rate * plan.units,
        )
    return Observation(
        inserted=inserted,
        canary_outputs=_looks(view, plan, records.canaries),
        stranger_outputs=_looks(view, plan, records.strangers),
        site_scores=white_box.site_scores,
        aggregate_scores=white_box.aggregate_scores,
        squares=white_box.squares,
        counts=white_box.counts,
    )


def _looks(view: RunView, plan: ReplayPlan, table: Table) -> Floats:
    """Outputs [looks, records, outputs] of the aggregated model on its way, then as released."""
    looked_at = [view.rounds[number - 1].weights for number in plan.looked_at]
    models = [*(weights.astype(np.float64) for weights in looked_at), view.model]
    model = plan.job.file.require_model()
    with single_threaded():
        return np.stack(
            [outputs(each, model, table.features, scaling=view.scaling).numpy() for each in models]
        )


def _no_white_box() -> WhiteBoxView:
    nothing = np.zeros(0)
    return WhiteBoxView(nothing, nothing, nothing, np.zeros(0, dtype=np.int64))
