"""Federations one after the other, at the same sites or at new ones: nobody can tell."""

import numpy as np
import pytest
from small_replay import LOGISTIC, ScaledNoise, small_plan

from sordino_audit.replay import shadow
from sordino_audit.replay.coins import draw_coins
from sordino_audit.replay.observation import Observation, read_observation
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.records import make_records
from sordino_audit.replay.shadow import Place, run_places
from sordino_protocols.errors import IntegrityError

FAINT = 1e-5


def observe(plan: ReplayPlan, places: tuple[Place, ...]) -> dict[Place, Observation]:
    kept: dict[Place, Observation] = {}

    def keep(place: Place, content: bytes) -> None:
        kept[place] = read_observation(content, name="kept")

    run_places(plan, make_records(plan), places, noise=ScaledNoise(FAINT), keep=keep)
    assert list(kept) == list(places)
    return kept


def test_a_federation_does_not_depend_on_what_its_sites_ran_before() -> None:
    plan = small_plan(job=LOGISTIC)
    alone = Place(0, 4)
    behind_others = observe(plan, (Place(0, 2), Place(0, 3), alone))[alone]

    first = observe(plan, (alone,))[alone]

    assert np.array_equal(first.inserted, draw_coins(plan.design, world=0)[4])
    assert np.array_equal(first.inserted, behind_others.inserted)
    assert np.allclose(first.canary_outputs, behind_others.canary_outputs, atol=100 * FAINT)
    assert not np.array_equal(first.canary_outputs, behind_others.canary_outputs)


def test_gradients_are_attacked_where_attacks_are_judged_and_nowhere_else() -> None:
    plan = small_plan(job=LOGISTIC)
    judged, other = Place(0, plan.design.judged - 1), Place(0, plan.design.judged)

    kept = observe(plan, (judged, other))

    assert kept[judged].site_scores.shape == kept[judged].aggregate_scores.shape == (24,)
    assert kept[other].site_scores.size == kept[other].squares.size == 0
    assert kept[other].canary_outputs.shape == kept[judged].canary_outputs.shape == (3, 24, 1)


def test_what_was_inserted_is_remembered_better() -> None:
    """By federations almost without noise."""
    plan = small_plan(job=LOGISTIC)
    kept = observe(plan, tuple(Place(0, index) for index in range(2, 8)))

    outputs = np.stack([each.canary_outputs[-1, :, 0] for each in kept.values()])
    inserted = np.stack([each.inserted for each in kept.values()])
    signs = 2 * make_records(plan).canaries.labels - 1
    fits = outputs * signs
    inside = np.where(inserted, fits, 0).sum(axis=0) / inserted.sum(axis=0)
    outside = np.where(~inserted, fits, 0).sum(axis=0) / (~inserted).sum(axis=0)
    assert np.mean(inside > outside) > 0.6


def test_sites_are_made_anew_before_their_releases_fill_the_memory() -> None:
    few = shadow._runs_together(small_plan(job=LOGISTIC))
    wide = LOGISTIC.replace(
        'kind = "logistic"', 'kind = "mlp"\nhidden = [1900, 1900]\nactivation = "tanh"'
    )

    assert few == 64
    assert 1 <= shadow._runs_together(small_plan(job=wide)) < 8


def test_what_is_kept_comes_back_as_it_was() -> None:
    rng = np.random.default_rng(1)
    kept = Observation(
        inserted=rng.random(5) < 0.5,
        canary_outputs=rng.normal(size=(3, 5, 2)),
        stranger_outputs=rng.normal(size=(3, 4, 2)),
        site_scores=rng.normal(size=5),
        aggregate_scores=np.zeros(0),
        squares=rng.random(2),
        counts=np.array([3, 4]),
    )
    again = read_observation(kept.to_bytes(), name="kept")

    assert np.array_equal(again.inserted, kept.inserted)
    assert again.inserted.dtype == np.bool_
    assert np.array_equal(again.canary_outputs, kept.canary_outputs)
    assert np.array_equal(again.stranger_outputs, kept.stranger_outputs)
    assert np.array_equal(again.site_scores, kept.site_scores)
    assert again.aggregate_scores.size == 0
    assert np.array_equal(again.squares, kept.squares)
    assert np.array_equal(again.counts, kept.counts)
    with pytest.raises(IntegrityError, match="kept"):
        read_observation(b"nothing", name="kept")
