"""Every process of a federation is killed in the middle of a run: nothing is lost or paid twice."""

from pathlib import Path

import pytest
from self_tested import provide_record

from benchmarks.chaos import SITES, Outcome, execute, quick_plans
from benchmarks.chaos_checks import Damage, damage_of
from benchmarks.chaos_federation import Victim
from sordino_client.config import SiteConfig, load_config
from sordino_deploy.local import LocalFederation
from sordino_server.runs import Runs

pytestmark = pytest.mark.system


def provide_records(federation: LocalFederation) -> None:
    for site in federation.sites:
        provide_record(federation.layout.site_config(site.name))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chaos")


@pytest.fixture(scope="module")
def outcome(directory: Path) -> Outcome:
    return execute(directory / "c", quick_plans(), seed=1, prepared=provide_records)


def test_every_kind_of_process_was_killed_and_the_run_went_on(outcome: Outcome) -> None:
    assert {kill.victim for kill in outcome.kills} == set(Victim) - {
        Victim.SERVER_HOST,
        Victim.SITE_HOST,
    }
    assert [kill for kill in outcome.kills if kill.seconds is None] == []


def test_no_round_was_lost_and_none_paid_twice(outcome: Outcome) -> None:
    assert (outcome.lost_rounds, outcome.double_charges, outcome.other) == ((), (), ())
    assert not outcome.refusals


def test_what_was_sent_again_was_the_same_bytes(outcome: Outcome) -> None:
    assert outcome.changed == ()
    assert outcome.identical == outcome.again


def test_the_books_tell_when_something_is_wrong(outcome: Outcome, directory: Path) -> None:
    del outcome
    federation = directory / "c" / "f"
    sites = {name: load(federation, name) for name in SITES}
    [run] = Runs(federation / "server" / "state" / "runs").all()
    assert damage_of(run, sites) == Damage((), (), ())
    site = sites[SITES[0]]
    stored = site.site.state / "outbox" / run.run_id / "round-2.release"
    kept = stored.read_bytes()
    try:
        stored.write_bytes((stored.parent / "round-3.release").read_bytes())
        assert any("the model is not" in each for each in damage_of(run, sites).other)
        stored.unlink()
        assert any("keeps" in each for each in damage_of(run, sites).other)
    finally:
        stored.write_bytes(kept)


def load(federation: Path, name: str) -> SiteConfig:
    return load_config(federation / "sites" / name / "site.toml")
