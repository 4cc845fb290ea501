"""The attacker who knows everything but the coins, on real federations."""

from pathlib import Path

import numpy as np
import pytest
from federation import ENTITY_SCHEMA, SCHEMA
from scipy import stats
from small_job import of_entities
from small_replay import JOB, LANES, NoiseInLanesOnly, ScaledNoise, small_plan
from statistical import FALSE_FAILURE

from sordino_audit.replay.federation import Federation, RunView
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.records import ReplayRecords, make_records
from sordino_audit.replay.white_box import WhiteBoxView, attack_gradients
from sordino_client.training.noise import Noise, SecureNoise
from sordino_protocols.errors import InputError

PER_LAYER = JOB.replace("clipping_norm = 0.5", 'clipping_norm = 0.5\nclipping.kind = "per_layer"')
SCALED = JOB + '[statistics]\nkind = "moments"\nshare = 0.3\n'
SAMPLED = JOB.replace("sampling_rate = 1", "sampling_rate = 0.5")


def coins_of(plan: ReplayPlan) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.asarray(np.arange(len(plan.design.kinds)) % 2 == 0)


def attacked(
    directory: Path, plan: ReplayPlan, noise: Noise, *, poisons: int = 0
) -> tuple[RunView, WhiteBoxView, ReplayRecords]:
    records, inserted = make_records(plan), coins_of(plan)
    federation = Federation(directory, plan.job, plan.schema, sites=plan.design.sites, noise=noise)
    view = federation.run(records.training(inserted=inserted, poisons=poisons), records.sites)
    federation.close()
    white_box = attack_gradients(
        view,
        plan.job,
        records.training(inserted=np.zeros_like(inserted), poisons=poisons),
        records.canaries,
        inserted=inserted,
        expected_batch_size=plan.job.plan.require_training().sampling_rate * plan.units,
    )
    return view, white_box, records


@pytest.mark.parametrize(
    "job",
    [JOB, PER_LAYER, SCALED, of_entities(JOB)],
    ids=["flat", "per layer", "scaled features", "entities"],
)
def test_without_noise_every_coin_is_read_off_the_releases(tmp_path: Path, job: str) -> None:
    plan = small_plan(job=job, schema=ENTITY_SCHEMA if "entity" in job else SCHEMA)
    _, seen, _ = attacked(tmp_path, plan, ScaledNoise(0.0))

    assert np.array_equal(seen.site_scores > 0, coins_of(plan))
    assert np.array_equal(seen.aggregate_scores > 0, coins_of(plan))
    # Nothing is left but the rounding to single precision and to the engine's grid.
    assert np.all(seen.squares < 1e-8 * seen.counts)


def test_what_poisons_add_is_taken_away_too(tmp_path: Path) -> None:
    plan = small_plan()
    _, seen, _ = attacked(tmp_path, plan, ScaledNoise(0.0), poisons=2)

    assert np.array_equal(seen.aggregate_scores > 0, coins_of(plan))


def test_what_is_left_of_an_honest_release_is_the_claimed_noise(tmp_path: Path) -> None:
    plan = small_plan()
    view, seen, _ = attacked(tmp_path, plan, SecureNoise())

    assert seen.counts.tolist() == [3 * 12 * 4, 3 * 13]
    assert len(view.rounds) == 3
    for squares, count in zip(seen.squares, seen.counts, strict=True):
        tails = stats.chi2.cdf(squares, count), stats.chi2.sf(squares, count)
        assert min(tails) >= FALSE_FAILURE


def test_half_of_the_noise_shows_in_every_layer(tmp_path: Path) -> None:
    _, seen, _ = attacked(tmp_path, small_plan(), ScaledNoise(0.5))

    assert np.all(stats.chi2.cdf(seen.squares, seen.counts) < 1e-4)


def test_sampling_hides_noise_and_never_makes_it_seem_less(tmp_path: Path) -> None:
    _, seen, _ = attacked(tmp_path, small_plan(job=SAMPLED), SecureNoise())

    assert np.all(stats.chi2.cdf(seen.squares, seen.counts) >= FALSE_FAILURE)


def test_a_trainer_that_makes_noise_in_lanes_alone_is_seen(tmp_path: Path) -> None:
    plan = small_plan()
    lanes = plan.job.plan.require_training().lane_coordinates
    view, seen, _ = attacked(tmp_path, plan, NoiseInLanesOnly(lanes))

    assert np.array_equal(seen.site_scores > 0, coins_of(plan))
    assert np.all(seen.squares < 1e-8 * seen.counts)
    assert lanes == 2 * LANES
    # The lanes themselves look as they should.
    std = plan.job.plan.require_training().noise_std
    in_lanes = [each.updates["other-1"][-lanes:] / std for each in view.rounds]
    assert stats.chi2.cdf(np.sum(np.square(in_lanes)), 3 * lanes) >= FALSE_FAILURE


def test_a_site_that_clips_at_twice_the_norm_is_seen(tmp_path: Path) -> None:
    """With as much noise as was claimed: it clips the records, and not the lanes, otherwise."""
    run = small_plan(job=JOB.replace("epsilon = 1", "epsilon = 8"))
    multiplier = run.job.training_noise_multiplier
    assert multiplier is not None
    half = JOB.replace("epsilon = 1", "epsilon = 8").replace("norm = 0.5", "norm = 0.25")
    claimed = small_plan(job=half).job.model_copy(
        update={"training_noise_multiplier": 2 * multiplier}
    )
    view, honest, records = attacked(tmp_path, run, SecureNoise())

    seen = attack_gradients(
        view,
        claimed,
        records.training(inserted=np.zeros(24, dtype=np.bool_), poisons=0),
        records.canaries,
        inserted=coins_of(run),
        expected_batch_size=run.units,
    )

    assert np.all(stats.chi2.sf(honest.squares, honest.counts) >= FALSE_FAILURE)
    assert np.any(stats.chi2.sf(seen.squares, seen.counts) < FALSE_FAILURE)


def test_a_job_that_sites_refuse_is_an_error_that_says_why(tmp_path: Path) -> None:
    plan = small_plan(job=JOB.replace('unit = "record"', 'unit = "entity"'))
    records = make_records(plan)
    federation = Federation(
        tmp_path, plan.job, plan.schema, sites=plan.design.sites, noise=SecureNoise()
    )

    with pytest.raises(InputError, match="forbidden_by_policy"):
        federation.run(records.training(inserted=coins_of(plan), poisons=0), records.sites)
    federation.close()


def test_a_federation_says_when_its_budgets_are_exhausted(tmp_path: Path) -> None:
    plan = small_plan()
    records = make_records(plan)
    federation = Federation(
        tmp_path,
        plan.job,
        plan.schema,
        sites=plan.design.sites,
        noise=SecureNoise(),
        budget_epsilon=1.5,
    )
    assert federation.has_room()
    federation.run(records.training(inserted=coins_of(plan), poisons=0), records.sites)
    has_room = federation.has_room()
    federation.close()

    assert not has_room
