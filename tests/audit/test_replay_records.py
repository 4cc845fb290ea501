"""What the sites of a replay hold, and what its canaries are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from federation import CLASSES_SCHEMA, ENTITY_SCHEMA, NUMBER_SCHEMA, SCHEMA
from numpy.typing import NDArray
from small_job import of_classes, of_entities, of_numbers
from small_replay import JOB, make_job, read_schema, small_design, small_plan

from sordino_audit.replay.made_up import Style, made_up_features
from sordino_audit.replay.plan import ReplayPlan, make_plan
from sordino_audit.replay.records import ReplayRecords, make_records
from sordino_client.data.declaration import read_dataset
from sordino_client.data.table import Table
from sordino_protocols.errors import InputError

NUMBER_JOB = of_numbers(JOB) + "[evaluation]\nbins = 100\nshare = 0.5\n"
CLASSES_JOB = of_classes(JOB, outputs=3).replace('"mlp"', '"mlp"\noutputs = 3')
PLANS: dict[str, Callable[[], ReplayPlan]] = {
    "binary": small_plan,
    "classes": lambda: small_plan(job=CLASSES_JOB, schema=CLASSES_SCHEMA),
    "number": lambda: small_plan(job=NUMBER_JOB, schema=NUMBER_SCHEMA),
    "entities": lambda: small_plan(job=of_entities(JOB), schema=ENTITY_SCHEMA),
    "columns": lambda: small_plan(job=JOB.replace("[privacy]", 'columns = ["age"]\n[privacy]')),
}
MIXED = """
[dataset]
name = "heart"
version = 1
order_of_magnitude = 60
holdout_fraction = 0.25
[columns.age]
type = "integer"
min = 20
max = 90
nullable = true
[columns.pulse]
type = "number"
min = 1
max = 250
scale = "log1p"
[columns.ward]
type = "category"
values = ["north", "south", "west"]
nullable = true
[columns.signal]
type = "vector"
count = 4
min = -2
max = 2
[columns.ill]
type = "category"
values = ["no", "yes"]
[roles]
label = "ill"
positive_values = ["yes"]
"""
TOKENS = """
[dataset]
name = "heart"
version = 1
order_of_magnitude = 60
holdout_fraction = 0.25
[columns.text]
type = "tokens"
length = 6
vocabulary = 50
[columns.ill]
type = "integer"
min = 0
max = 1
[roles]
label = "ill"
positive_above = 0
"""


def rows_of(table: Table) -> set[bytes]:
    return {row.tobytes() for row in np.ascontiguousarray(table.features)}


def units_of(table: Table) -> int:
    return len(table.labels) if table.entities is None else len(table.entities)


def all_arrays(records: ReplayRecords) -> list[NDArray[np.generic]]:
    tables = [records.canaries, records.strangers, records.poisons]
    tables += [each for site in records.sites for each in (site.training, site.heldout)]
    return [array for table in tables for array in (table.features, table.labels)]


@pytest.mark.parametrize("name", PLANS)
def test_records_are_the_plan_s_alone(name: str) -> None:
    first, second = make_records(PLANS[name]()), make_records(PLANS[name]())

    pairs = zip(all_arrays(first), all_arrays(second), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("name", PLANS)
def test_every_site_holds_its_units_and_no_canary(name: str) -> None:
    plan = PLANS[name]()
    records = make_records(plan)

    assert len(records.sites) == plan.design.sites
    apart = rows_of(records.canaries) | rows_of(records.strangers)
    seen: set[bytes] = set()
    for site in records.sites:
        assert units_of(site.training) == plan.units
        for table in (site.training, site.heldout):
            assert not rows_of(table) & (apart | seen)
            seen |= rows_of(table)


@pytest.mark.parametrize("name", PLANS)
def test_canaries_are_units_of_their_own_that_differ(name: str) -> None:
    plan = PLANS[name]()
    records = make_records(plan)

    assert len(records.canaries.labels) == len(records.strangers.labels) == 24
    assert len(rows_of(records.canaries) | rows_of(records.strangers)) == 48


@pytest.mark.parametrize("name", PLANS)
def test_poisons_are_canaries_with_another_label(name: str) -> None:
    records = make_records(PLANS[name]())

    assert np.array_equal(records.poisons.features, records.canaries.features)
    assert np.all(records.poisons.labels != records.canaries.labels)


@pytest.mark.parametrize("name", PLANS)
def test_worlds_differ_by_inserted_canaries_and_poisons_alone(name: str) -> None:
    records = make_records(PLANS[name]())
    inserted = np.zeros(24, dtype=np.bool_)
    inserted[[3, 20]] = True

    target, poisoned, third = records.training(inserted=inserted, poisons=2)

    before = [site.training for site in records.sites]
    assert units_of(target) == units_of(before[0]) + 2
    assert np.array_equal(target.features[-2:], records.canaries.features[[3, 20]])
    assert np.array_equal(target.labels[-2:], records.canaries.labels[[3, 20]])
    assert units_of(poisoned) == units_of(before[1]) + 48
    assert np.array_equal(third.features, before[2].features)
    untouched = records.training(inserted=np.zeros(24, dtype=np.bool_), poisons=0)
    for table, own in zip(untouched, before, strict=True):
        assert np.array_equal(table.features, own.features)
        if table.entities is not None and own.entities is not None:
            assert np.array_equal(table.entities.starts, own.entities.starts)


def test_mislabelled_canaries_contradict_the_rule_that_records_follow() -> None:
    records = make_records(small_plan())
    table = records.sites[0].training
    known = table.features.astype(np.float64)
    rule = np.linalg.solve(known.T @ known, known.T @ (2.0 * table.labels - 1))

    canaries = Table(records.canaries.features[8:16], records.canaries.labels[8:16])
    said = canaries.features.astype(np.float64) @ rule > 0

    assert np.mean(said != canaries.labels.astype(bool)) >= 0.75


@pytest.mark.parametrize("style", ["typical", "corner", "plain"])
@pytest.mark.parametrize("text", [MIXED, TOKENS, SCHEMA])
def test_made_up_records_are_what_the_schema_allows(style: Style, text: str) -> None:
    schema = read_schema(text)
    features = made_up_features(schema, 200, style=style, rng=np.random.default_rng(5))

    assert features.shape == (200, schema.feature_count)
    if schema.vocabulary is not None:
        assert features.dtype == np.int64
        assert set(features.ravel().tolist()) <= set(range(50))
    else:
        assert np.all(np.abs(features) <= 1)


def test_typical_canaries_are_records_like_all_others() -> None:
    kinds = small_design().model_copy(update={"canaries": ("mislabelled", "typical")})
    records, alone = make_records(small_plan(kinds)), make_records(small_plan())

    table = records.sites[0].training.features.astype(np.float64)
    labels = 2.0 * records.sites[0].training.labels - 1
    rule = np.linalg.solve(table.T @ table, table.T @ labels)
    said = records.canaries.features.astype(np.float64) @ rule > 0
    is_said = said == records.canaries.labels.astype(bool)
    assert len(rows_of(records.canaries) | rows_of(records.strangers)) == 32
    assert np.mean(is_said[:8]) <= 0.25
    assert np.mean(is_said[8:]) >= 0.75
    # The sites hold the same, whatever canaries there are.
    assert len(alone.sites[0].training.labels) == len(labels)


def test_corners_are_close_to_bounds_and_plain_records_in_the_middle() -> None:
    schema, rng = read_schema(SCHEMA), np.random.default_rng(5)
    corners = made_up_features(schema, 200, style="corner", rng=rng)
    plain = made_up_features(schema, 200, style="plain", rng=rng)

    assert np.all(np.abs(corners) >= 0.8)
    assert len(np.unique(np.sign(corners), axis=0)) == 8
    assert len(np.unique(corners, axis=0)) == 200
    assert np.all((plain != 0).sum(axis=1) == 1)
    assert len(np.unique(plain, axis=0)) == 200


def test_missing_cells_occur_where_they_may() -> None:
    schema = read_schema(MIXED)
    features = made_up_features(schema, 200, style="typical", rng=np.random.default_rng(5))
    missing = [at for at, name in enumerate(schema.feature_names()) if name.endswith(":missing")]

    assert np.all(features[:, missing].sum(axis=0) > 0)


# --------------------------------------------------------------------------- public records


def public_plan(directory: Path, *, records: int) -> ReplayPlan:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "age": rng.uniform(0, 100, records),
            "chol": rng.uniform(0, 500, records),
            "pulse": rng.uniform(0, 250, records),
            "ill": rng.integers(0, 2, records),
        }
    )
    frame.to_csv(directory / "records.csv", index=False)
    path = directory / "dataset.toml"
    path.write_text(SCHEMA + '[source]\nkind = "csv"\npath = "records.csv"\n')
    dataset = read_dataset(path)
    design = small_design().model_copy(update={"published": "a made-up archive"})
    return make_plan(make_job(), dataset.public, design, dataset=dataset)


def test_public_records_are_dealt_to_sites_without_repetition(tmp_path: Path) -> None:
    plan = public_plan(tmp_path, records=400)
    records = make_records(plan)

    seen: set[bytes] = set()
    for site in records.sites:
        assert not rows_of(site.training) & seen
        seen |= rows_of(site.training) | rows_of(site.heldout)
    assert len(seen) == 3 * 80
    mislabelled = rows_of(Table(records.canaries.features[8:16], records.canaries.labels[8:16]))
    assert not mislabelled & seen


def test_too_few_public_records_are_an_error_that_counts_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs 256 units"):
        make_records(public_plan(tmp_path, records=255))
    make_records(public_plan(tmp_path, records=256))


def test_columns_that_the_job_does_not_name_are_left_out(tmp_path: Path) -> None:
    plan = public_plan(tmp_path, records=400)
    narrow = make_job(JOB.replace("[privacy]", 'columns = ["chol"]\n[privacy]'))
    dataset = plan.dataset
    assert dataset is not None

    narrowed = make_plan(narrow, dataset.public, plan.design, dataset=dataset)
    chol = make_records(narrowed).sites[0].training.features
    wide = make_records(plan).sites[0].training.features

    assert np.array_equal(chol, wide[:, [1]])
