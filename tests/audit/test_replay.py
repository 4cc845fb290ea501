"""Whole replays of small federations: clean ones, broken ones, and ones that were interrupted."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_replay
from small_replay import (
    LOGISTIC,
    NoiseInLanesOnly,
    RepeatableNoise,
    ScaledNoise,
    small_design,
    small_plan,
)

from sordino_audit.findings import Verdict
from sordino_audit.replay.backends import Backend, run_missing
from sordino_audit.replay.coins import draw_coins
from sordino_audit.replay.observation import Observation, read_observation
from sordino_audit.replay.plan import ReplayPlan
from sordino_audit.replay.records import make_records
from sordino_audit.replay.replay import replay
from sordino_audit.replay.result import ReplayAudit
from sordino_audit.replay.store import ReplayStore
from sordino_protocols.errors import ExitCode, InputError, IntegrityError

FAINT = 1e-5
"""What is left of the noise where runs are compared."""
MEMBERSHIP = "one run, gradients of the site's releases"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replay") / "clean"


@pytest.fixture(scope="module")
def clean(directory: Path) -> ReplayAudit:
    return replay(small_plan(), directory=directory, noise=RepeatableNoise(1))


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> ReplayAudit:
    """Without any noise, and with poisons in a second world."""
    directory = tmp_path_factory.mktemp("replay") / "silent"
    plan = small_plan(small_design(poisons=2))
    return replay(plan, directory=directory, noise=ScaledNoise(0.0))


def found(audit: ReplayAudit) -> set[str]:
    return {finding.check for finding in audit.findings}


def test_code_that_keeps_its_promise_passes(clean: ReplayAudit) -> None:
    assert clean.verdict in {Verdict.LOOSE, Verdict.TIGHT}
    assert clean.findings == ()
    assert clean.exit_code is ExitCode.OK
    assert clean.lower_bound <= clean.claim.epsilon
    assert all(bound.epsilon_low <= clean.claim.epsilon for bound in clean.bounds)
    assert clean.detectable < 0.5
    assert all(each.low <= 1.2 and each.high >= 0.8 for each in clean.noise)


def test_a_replay_says_what_it_is_of(clean: ReplayAudit) -> None:
    plan = small_plan()
    assert (clean.federations, clean.sites, clean.rounds) == (8, 3, 3)
    assert clean.plan_sha256 == plan.digest()
    assert clean.records == "made up from the public schema"
    assert clean.seconds > 0
    assert [each.round for each in clean.checkpoints] == [1, 2, 3]
    assert [(each.kind, each.canaries) for each in clean.kinds] == [
        ("blank", 16),
        ("mislabelled", 16),
        ("crafted", 16),
    ]
    assert len(clean.attacks) == 6
    assert len(clean.tests) == 8
    assert "lanes" in clean.blind_spots[0]
    assert "of the noise had been missing" in clean.could_have_found


def test_no_noise_at_the_sites_is_a_violation(silent: ReplayAudit) -> None:
    assert silent.verdict is Verdict.VIOLATION
    assert silent.exit_code is ExitCode.AUDIT_VIOLATION
    assert "noise in real coordinates" in found(silent)


def test_no_noise_is_found_by_membership_too(silent: ReplayAudit) -> None:
    """Whatever the noise looks like: canaries are told better than the claimed curve allows."""
    assert MEMBERSHIP in found(silent)
    assert silent.lower_bound > silent.claim.epsilon
    result = next(each for each in silent.attacks if each.name == MEMBERSHIP.split(", ")[1])
    assert result.auc == 1.0
    assert result.tpr(0.001) == 1.0
    assert all(kind.auc_gradients == 1.0 for kind in silent.kinds)


def test_a_second_world_has_poisons_at_another_site(silent: ReplayAudit) -> None:
    assert silent.federations == 16
    assert silent.poisons == 2
    assert len(silent.attacks) == 12
    poisoned = [each.name for each in silent.attacks if "2 poisons a canary" in each.name]
    assert len(poisoned) == 6
    assert [each.poisons for each in silent.kinds] == [0, 0, 0, 2, 2, 2]
    assert [each.poisons for each in silent.checkpoints] == [0, 0, 0, 2, 2, 2]


def test_a_trainer_that_makes_noise_in_lanes_alone_is_a_violation(tmp_path: Path) -> None:
    plan = small_plan()
    lanes = plan.job.plan.require_training().lane_coordinates

    audit = replay(plan, directory=tmp_path / "replay", noise=NoiseInLanesOnly(lanes))

    assert audit.verdict is Verdict.VIOLATION
    assert "noise in real coordinates" in found(audit)


def test_more_noise_than_planned_is_suspect(tmp_path: Path) -> None:
    audit = replay(small_plan(), directory=tmp_path / "replay", noise=ScaledNoise(1.5))

    assert audit.verdict is Verdict.SUSPECT
    assert found(audit) == {"surplus in real coordinates"}


def test_a_replay_too_weak_to_find_a_gross_fault_is_inconclusive(tmp_path: Path) -> None:
    """Few coordinates, half of the units a step, and few canaries for so large an epsilon."""
    job = LOGISTIC.replace("epsilon = 1", "epsilon = 8").replace(
        "sampling_rate = 1", "sampling_rate = 0.5"
    )
    design = small_design().model_copy(update={"canaries_per_kind": 2})

    plan = small_plan(design, job=job)
    audit = replay(plan, directory=tmp_path / "replay", noise=RepeatableNoise(1))

    assert audit.verdict is Verdict.INCONCLUSIVE
    assert "Not even 12 right guesses of 12" in audit.could_have_found


# ------------------------------------------------------------------------------- going on


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("poisons-00/*.safetensors")}


def test_a_finished_replay_is_read_and_not_run_again(directory: Path, clean: ReplayAudit) -> None:
    before = files_of(directory)

    again = replay(small_plan(), directory=directory)

    assert files_of(directory) == before
    assert again.attacks == clean.attacks
    assert again.tests == clean.tests


def test_an_interrupted_replay_goes_on_with_the_same_design(tmp_path: Path) -> None:
    plan, directory = small_plan(job=LOGISTIC), tmp_path / "replay"
    replay(plan, directory=directory)
    whole = files_of(directory)
    lost = sorted(whole)[3:5]
    for name in lost:
        (directory / "poisons-00" / name).unlink()

    replay(plan, directory=directory)

    now, coins = files_of(directory), draw_coins(plan.design, world=0)
    assert sorted(now) == sorted(whole)
    for name, content in now.items():
        # Noise is never the same twice; what was kept is what it was.
        assert (content == whole[name]) == (name not in lost)
        inserted = read_observation(content, name=name).inserted
        assert np.array_equal(inserted, coins[int(name.split(".")[0])])


def test_another_plan_s_directory_is_refused(directory: Path, clean: ReplayAudit) -> None:
    with pytest.raises(InputError, match="another plan"):
        replay(small_plan(small_design(seed=2)), directory=directory)
    assert clean.federations == 8


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(InputError, match="neither empty"):
        replay(small_plan(), directory=tmp_path)


def test_a_garbled_file_is_an_integrity_error(directory: Path, clean: ReplayAudit) -> None:
    path = directory / "poisons-00" / "000002.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    try:
        with pytest.raises(IntegrityError, match=r"000002\.safetensors"):
            replay(small_plan(), directory=directory)
    finally:
        path.write_bytes(content)
    assert clean.federations == 8


def test_no_workers_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one worker"):
        replay(small_plan(), directory=tmp_path / "replay", workers=0)


# ------------------------------------------------------------------------------- backends


@pytest.fixture(params=["processes", "ray"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "processes":
        return "local"
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the optional extra `ray` is not installed")
    # Workers of a cluster have no directory of tests.
    importlib.import_module("ray.cloudpickle").register_pickle_by_value(small_replay)
    return "ray"


def run_some(
    plan: ReplayPlan, directory: Path, *, backend: Backend, workers: int
) -> list[Observation]:
    store = ReplayStore(directory, plan)
    run_missing(
        store,
        directory,
        plan,
        make_records(plan),
        backend=backend,
        workers=workers,
        noise=ScaledNoise(FAINT),
    )
    return store.world(0)


def test_every_backend_gives_the_same_but_for_the_noise(tmp_path: Path, backend: Backend) -> None:
    plan = small_plan(job=LOGISTIC)
    here = run_some(plan, tmp_path / "here", backend="local", workers=1)
    there = run_some(plan, tmp_path / "there", backend=backend, workers=2)

    coins = draw_coins(plan.design, world=0)
    assert np.array_equal(np.stack([each.inserted for each in there]), coins)
    for one, other in zip(here, there, strict=True):
        assert np.allclose(one.canary_outputs, other.canary_outputs, atol=100 * FAINT)
        assert np.allclose(one.stranger_outputs, other.stranger_outputs, atol=100 * FAINT)
        assert np.array_equal(one.counts, other.counts)
        # Noise is drawn anew wherever a federation runs.
        assert not np.array_equal(one.canary_outputs, other.canary_outputs)
    outputs = np.stack([each.canary_outputs[-1].ravel() for each in [*here, *there]])
    assert len(np.unique(outputs, axis=0)) == len(outputs)
    # All of a record's outputs together do tell federations apart.
    assert np.ptp(outputs, axis=0).max() > 1000 * FAINT


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_an_error_names_the_extra(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pip install 'sordino\[ray\]'"):
        replay(small_plan(), directory=tmp_path / "replay", backend="ray")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {tests!r}
from small_replay import LOGISTIC, small_plan
from sordino_audit.replay.records import make_records
from sordino_audit.replay.shadow import run_places
from sordino_audit.replay.store import ReplayStore
from sordino_client.training.noise import SecureNoise

plan = small_plan(job=LOGISTIC)
store = ReplayStore(Path({directory!r}), plan)

def keep(place, content):
    store.keep(place, content)
    if place.index == 2:
        os.kill(os.getpid(), signal.SIGKILL)

run_places(plan, make_records(plan), store.missing, noise=SecureNoise(), keep=keep)
"""


def test_a_replay_that_is_killed_keeps_what_it_finished(tmp_path: Path) -> None:
    directory, plan = tmp_path / "replay", small_plan(job=LOGISTIC)
    script = KILLED.format(tests=[str(Path(__file__).parents[1])], directory=str(directory))
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL

    kept = files_of(directory)
    assert sorted(kept) == [f"{index:06d}.safetensors" for index in range(3)]
    replay(plan, directory=directory)

    now = files_of(directory)
    assert len(now) == 8
    assert all(now[name] == content for name, content in kept.items())
