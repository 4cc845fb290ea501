"""Attribute and property inference from models of whole federations."""

import numpy as np
import pytest
from federation import CLASSES_SCHEMA, ENTITY_SCHEMA, NUMBER_SCHEMA, SCHEMA
from small_job import of_classes, of_entities, of_numbers
from small_replay import JOB, RepeatableNoise, small_design, small_plan

from sordino_audit.findings import UNKNOWN, Verdict
from sordino_audit.inference.federations import (
    COMMON,
    NEITHER,
    RARE,
    _with_share,
    audit_column,
    audit_share,
)
from sordino_audit.replay.plan import ReplayPlan
from sordino_client.data.table import Table
from sordino_client.training.noise import SecureNoise
from sordino_protocols.errors import InputError

WARD = '[columns.ward]\ntype = "category"\nvalues = ["east", "north", "west"]\n[columns.ill]'


def with_ward(schema: str = SCHEMA) -> str:
    return schema.replace("[columns.ill]", WARD)


def plan(*, federations: int = 8, job: str = JOB, schema: str | None = None) -> ReplayPlan:
    return small_plan(small_design(federations=federations), job=job, schema=schema or with_ward())


def test_a_column_is_guessed_no_better_from_a_private_model_than_by_imputation() -> None:
    audit = audit_column(plan(), "ward", noise=RepeatableNoise(1))
    assert audit.kind == "attribute"
    assert audit.verdict is Verdict.LOOSE
    assert audit.guesses == 3 * 60
    assert audit.advantage.low < 0.05
    assert audit.on_others != UNKNOWN
    assert audit.right - audit.baseline == pytest.approx(audit.advantage.estimate)
    assert 0.2 < audit.baseline < 0.7


def test_classes_are_guessed_from_too() -> None:
    job = of_classes(JOB, outputs=3).replace('"mlp"', '"mlp"\noutputs = 3')
    audit = audit_column(
        plan(job=job, schema=with_ward(CLASSES_SCHEMA)), "ward", noise=SecureNoise()
    )
    assert audit.guesses == 3 * 60
    assert audit.verdict is not Verdict.VIOLATION


def test_few_federations_say_nothing_of_a_property_and_say_so() -> None:
    audit = audit_share(plan(), "ward", "north", noise=SecureNoise())
    assert audit.kind == "property"
    assert audit.guesses == 4
    assert audit.verdict is Verdict.INCONCLUSIVE
    assert audit.could_have_found.startswith("nothing")
    assert np.isfinite(audit.advantage.low)
    assert any("whole site" in each for each in audit.blind_spots)


@pytest.mark.parametrize("share", [RARE, NEITHER, COMMON])
def test_a_site_holds_the_word_as_often_as_its_world_says(share: float) -> None:
    rng = np.random.default_rng(41)
    features = (rng.random((200, 3)) < 0.4).astype(np.float32)
    source = Table(features, np.arange(200, dtype=np.float32))
    drawn = _with_share(source, 1, share, 60, rng=rng)
    assert drawn.features[:, 1].sum() == round(share * 60)
    assert np.array_equal(drawn.features, features[drawn.labels.astype(np.int64)])
    with pytest.raises(InputError, match="neither common nor rare"):
        _with_share(
            Table(np.ones((4, 3), np.float32), np.ones(4, np.float32)), 1, share, 4, rng=rng
        )


def test_what_cannot_be_guessed_is_refused() -> None:
    noise = SecureNoise()
    for column in ("age", "ill", "nothing"):
        with pytest.raises(InputError, match="no category"):
            audit_column(plan(), column, noise=noise)
    with pytest.raises(InputError, match="no word"):
        audit_share(plan(), "ward", "south", noise=noise)
    numbers = of_numbers(JOB) + "[evaluation]\nbins = 100\nshare = 0.5\n"
    with pytest.raises(InputError, match="not numbers"):
        audit_column(plan(job=numbers, schema=with_ward(NUMBER_SCHEMA)), "ward", noise=noise)
    with pytest.raises(InputError, match="not an entity"):
        audit_column(
            plan(job=of_entities(JOB), schema=with_ward(ENTITY_SCHEMA)), "ward", noise=noise
        )
