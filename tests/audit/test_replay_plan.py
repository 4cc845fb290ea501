"""What a replay may be made of, and who is inserted where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import SCHEMA, Federation
from one_site import OneSite
from small_replay import JOB, make_job, read_schema, small_design, small_plan
from statistical import assert_rate

from sordino_audit.replay.coins import draw_coins
from sordino_audit.replay.plan import ReplayDesign, ReplayPlan, make_plan, read_plan
from sordino_audit.replay.records import make_records
from sordino_audit.replay.replay import replay
from sordino_audit.replay.store import ReplayStore
from sordino_client.data.declaration import read_dataset
from sordino_protocols.errors import InputError, NotFoundError

SOURCE = '[source]\nkind = "csv"\npath = "records.csv"\n'
SQL = '[source]\nkind = "sql"\nurl_file = "url"\nquery = "select * from records"\n'


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


@pytest.fixture
def schema_file(tmp_path: Path) -> Path:
    path = tmp_path / "schema.toml"
    path.write_text(SCHEMA)
    return path


def write_dataset(directory: Path, source: str = SOURCE) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "dataset.toml").write_text(SCHEMA + source)
    return directory


def test_reads_a_job_and_a_schema_and_needs_no_records(job_file: Path, schema_file: Path) -> None:
    plan = read_plan(job_file, schema=schema_file, data=None, runs=12)

    assert plan.design.federations == 12
    assert plan.job.plan.training == make_job().plan.training
    assert plan.dataset is None


def test_a_declaration_with_a_source_serves_as_a_schema(job_file: Path, tmp_path: Path) -> None:
    directory = write_dataset(tmp_path / "data")

    plan = read_plan(job_file, schema=directory / "dataset.toml", data=None)

    assert plan.dataset is None


def test_the_run_of_a_server_is_replayed_with_its_own_noise(
    tmp_path: Path, schema_file: Path
) -> None:
    federation = Federation(tmp_path / "federation", ())
    louder = make_job().model_copy(update={"training_noise_multiplier": 77.0})
    run = federation.submit(louder)

    plan = read_plan(run.path, schema=schema_file, data=None)

    assert plan.job.plan.require_training().noise_multiplier == 77.0


def test_refuses_records_that_nobody_says_are_public(job_file: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")

    with pytest.raises(InputError, match="published"):
        read_plan(job_file, schema=None, data=data)


def test_takes_records_that_somebody_says_are_public(job_file: Path, tmp_path: Path) -> None:
    data, design = write_dataset(tmp_path / "data"), tmp_path / "replay.toml"
    design.write_text('published = "a made-up archive"')

    plan = read_plan(job_file, schema=None, data=data, design=design)

    assert plan.dataset is not None


def test_refuses_a_database_whoever_says_that_it_is_public(job_file: Path, tmp_path: Path) -> None:
    data, design = write_dataset(tmp_path / "data", SQL), tmp_path / "replay.toml"
    design.write_text('published = "a made-up archive"')

    with pytest.raises(InputError, match="no database"):
        read_plan(job_file, schema=None, data=data, design=design)


@pytest.fixture
def of_members(tmp_path: Path) -> ReplayPlan:
    """A replay of a site's own records, at that site."""
    site = OneSite(tmp_path / "site")
    site.directory.mkdir()
    site.prepare()
    dataset = read_dataset(site.config.site.datasets / "heart.toml")
    design = ReplayDesign(sites=2, units=20, canaries_per_kind=4)
    return make_plan(make_job(), dataset.public, design, dataset=dataset, site=site.config)


def test_members_records_are_replayed_at_their_site_alone(
    of_members: ReplayPlan, tmp_path: Path
) -> None:
    assert of_members.stays_below is not None
    assert len(make_records(of_members).canaries.labels) == 12

    with pytest.raises(InputError, match="stays at their site"):
        replay(of_members, directory=tmp_path / "elsewhere")
    with pytest.raises(InputError, match="stays at their site"):
        replay(of_members, directory=of_members.stays_below / ".." / "elsewhere")
    with pytest.raises(InputError, match="--backend local"):
        replay(of_members, directory=of_members.stays_below / "replay", backend="ray")
    assert not (tmp_path / "elsewhere").exists()

    ReplayStore(of_members.stays_below / "replay", of_members)


@pytest.mark.parametrize("given", ["neither", "both"])
def test_needs_a_schema_or_records(job_file: Path, tmp_path: Path, given: str) -> None:
    path = tmp_path if given == "both" else None

    with pytest.raises(InputError, match="either --schema"):
        read_plan(job_file, schema=path, data=path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("federation = 3", "federation"),
        ("federations = 3", "federations"),
        ('canaries = ["blank", "blank"]', "none twice"),
        ("canaries = []", "at least one"),
        ("sites = 1", "sites"),
    ],
)
def test_a_wrong_design_is_an_error_that_names_it(
    job_file: Path, schema_file: Path, tmp_path: Path, text: str, problem: str
) -> None:
    design = tmp_path / "replay.toml"
    design.write_text(text)

    with pytest.raises(InputError, match=problem):
        read_plan(job_file, schema=schema_file, data=None, design=design)


def test_too_few_runs_are_an_error(job_file: Path, schema_file: Path) -> None:
    with pytest.raises(InputError, match="--runs"):
        read_plan(job_file, schema=schema_file, data=None, runs=7)


def test_a_missing_job_is_not_found(schema_file: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_plan(tmp_path / "job.toml", schema=schema_file, data=None)


def test_refuses_a_job_about_other_records() -> None:
    other = read_schema(SCHEMA.replace('name = "heart"', 'name = "lungs"'))

    with pytest.raises(InputError, match="lungs"):
        make_plan(make_job(), other, small_design())


def test_a_large_data_set_is_replayed_in_small() -> None:
    large = read_schema(SCHEMA.replace("order_of_magnitude = 200", "order_of_magnitude = 100000"))

    assert make_plan(make_job(), large, ReplayDesign()).units == 500
    assert make_plan(make_job(), large, small_design()).units == 60


def test_whom_the_job_names_as_its_cohort_has_no_part_in_the_plan() -> None:
    named = make_job(JOB + '[cohort]\nsites = ["cleveland", "va"]\nquorum = 2\n')
    plan = make_plan(named, read_schema(), small_design())

    assert plan.job.plan == named.plan
    assert plan.job.file.cohort.quorum == 3
    assert plan.job.file.cohort.sites == ()


def test_plans_are_the_same_where_everything_is(tmp_path: Path) -> None:
    assert small_plan().digest() == small_plan().digest()
    others = [
        small_plan(small_design(seed=2)),
        small_plan(small_design(poisons=1)),
        small_plan(job=JOB.replace("rounds = 3", "rounds = 4")),
        small_plan(schema=SCHEMA.replace("max = 100\n", "max = 101\n")),
        replace(small_plan(), dataset=read_dataset(write_dataset(tmp_path) / "dataset.toml")),
    ]
    digests = {plan.digest() for plan in [small_plan(), *others]}
    assert len(digests) == 6


def test_the_aggregated_model_is_looked_at_within_the_run() -> None:
    plan = small_plan(job=JOB.replace("rounds = 3", "rounds = 8"))
    assert plan.looked_at == (3, 5, 7)
    assert small_plan().looked_at == (2, 3)


# ------------------------------------------------------------------------------------- coins


@pytest.mark.parametrize("federations", [8, 9, 32, 101])
def test_attacks_learn_from_as_many_models_with_a_canary_as_without(federations: int) -> None:
    design = small_design(federations=federations)
    learnt_from = draw_coins(design, world=0)[design.judged :]

    with_it = learnt_from.sum(axis=0)
    assert np.all(np.abs(with_it - (len(learnt_from) - with_it)) <= 1)
    assert abs(with_it.mean() - len(learnt_from) / 2) <= 0.01


def test_judged_federations_toss_fair_coins() -> None:
    design = ReplayDesign(federations=400, canaries_per_kind=100)
    judged = draw_coins(design, world=0)[: design.judged]

    assert_rate(int(judged.sum()), judged.size, 0.5)
    # Neither canaries nor federations have the same number each, as balanced halves would.
    assert len(set(judged.sum(axis=0).tolist())) > 5
    assert len(set(judged.sum(axis=1).tolist())) > 5


def test_the_design_is_the_seed_s_alone() -> None:
    design = small_design()
    assert np.array_equal(draw_coins(design, world=0), draw_coins(design, world=0))
    assert not np.array_equal(draw_coins(design, world=0), draw_coins(design, world=1))
    assert not np.array_equal(
        draw_coins(design, world=0), draw_coins(small_design(seed=2), world=0)
    )
