"""What a site notes of its own training: true, whole, kept there, and of the release that left."""

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from one_site import JOB as SMALL_JOB
from one_site import OneSite, make_job, round_plan, settle
from seeded_noise import NoNoise, SeededNoise
from statistical import assert_scale
from tiny_rounds import MLP, PLAN, FloatArray, make_units, run, without_record

from sordino_client.training import steps
from sordino_client.training.clipping import network_for
from sordino_client.training.noise import Noise, SecureNoise, noisy_on_grid
from sordino_client.training.steps import RoundResult, train_round
from sordino_client.training.units import Units
from sordino_client.witness import (
    LARGEST_WITNESS_BYTES,
    LayerNoise,
    RoundNotes,
    StepSeen,
    WitnessStore,
    noted_rounds,
    read_witness,
)
from sordino_protocols.clipping import AdaptiveClipping
from sordino_protocols.errors import IntegrityError
from sordino_protocols.messages import Update
from sordino_protocols.metrics import ReleaseClass
from sordino_protocols.plan import TrainingPlan

TWO = replace(PLAN, lanes=4, lane_groups=2, local_steps=3, sampling_rate=0.5)
ADAPTIVE = AdaptiveClipping(kind="adaptive", quantile=0.5, share=0.3)


def witnessed(
    units: Units, plan: TrainingPlan, *, noise: Noise, threshold: float = 0.0
) -> tuple[RoundResult, tuple[StepSeen, ...]]:
    """A round of the small perceptron, and what its witness saw."""
    dimension = network_for(MLP, 6).dimension
    weights = np.zeros(dimension + plan.extra_coordinates)
    weights[dimension : dimension + plan.thresholds] = threshold
    notes = RoundNotes()
    result = train_round(
        units, weights, MLP, plan, expected_batch_size=20.0, noise=noise, witness=notes
    )
    return result, notes.steps


# --- what the engine shows --------------------------------------------------------------------


def test_a_witness_sees_the_steps_that_make_up_the_release() -> None:
    result, seen = witnessed(make_units(20, lanes=(0, 2)), TWO, noise=SeededNoise(1))
    assert len(seen) == 3
    total = np.sum([step.readings for step in seen], axis=0)
    released = result.vector[-8:].reshape(2, 4) / TWO.clipping_norm
    np.testing.assert_allclose(total, released, rtol=0, atol=1e-5)
    assert all(step.readings.dtype == np.float32 for step in seen)


def test_a_witness_sees_which_canaries_were_sampled() -> None:
    # Two records, then the canaries of lanes 3, 0 and 1, of which the first and the last are in.
    coins = np.array([True, False, True, False, True])
    _, seen = witnessed(make_units(2, lanes=(3, 0, 1)), TWO, noise=NoNoise(coins))
    for step in seen:
        assert step.sampled.tolist() == [False, True, False, True]
        read = step.readings * np.sqrt(2)
        np.testing.assert_allclose(read, [[0, 1, 0, 1]] * 2, rtol=0, atol=1e-4)


def test_readings_are_in_units_of_the_norm_in_force() -> None:
    plan = replace(TWO, clipping=ADAPTIVE, sampling_rate=1.0)
    units = make_units(2, lanes=(1,))
    _, seen = witnessed(units, plan, noise=NoNoise(), threshold=1.5)
    np.testing.assert_allclose(seen[0].readings[:, 1], 1 / np.sqrt(2), rtol=1e-3)


def test_the_noise_of_each_layer_is_its_share_of_what_was_added() -> None:
    plan = replace(TWO, local_steps=1, sampling_rate=1.0)
    network, units = network_for(MLP, 6), make_units(20)
    noisy, (seen,) = witnessed(units, plan, noise=SeededNoise(3))
    exact, _ = witnessed(units, plan, noise=NoNoise())
    added = (noisy.vector - exact.vector)[: network.dimension] / plan.noise_std
    spans = [[*layer.spans.values()] for layer in network.layers]
    assert [layer.count for layer in seen.noise] == [6 * 5 + 5, 5 + 1]
    for layer, of_layer in zip(seen.noise, spans, strict=True):
        expected = sum(float(np.sum(added[span.start : span.stop] ** 2)) for span in of_layer)
        # The exact sum that the witness compares with is not rounded to the grid.
        assert layer.squares == pytest.approx(expected, rel=1e-3)


def layer_noise(count: int) -> FloatArray:
    """The root of each layer's mean square, of so many steps: [layers]."""
    plan = replace(TWO, local_steps=count)
    _, seen = witnessed(make_units(30), plan, noise=SecureNoise())
    squares = np.array([[layer.squares for layer in step.noise] for step in seen]).sum(axis=0)
    scales: FloatArray = np.sqrt(squares / [count * layer.count for layer in seen[0].noise])
    return scales


def test_the_noise_of_each_layer_has_the_scale_of_the_plan() -> None:
    # As many standard normal numbers as there were coordinates have these root mean squares.
    for scale, coordinates in zip(layer_noise(400), (400 * 35, 400 * 6), strict=True):
        assert_scale(np.full(coordinates, scale), 1.0)


def test_a_layer_without_noise_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(exact: FloatArray, *, noise: Noise, noise_std: float, step: float) -> FloatArray:
        noisy = noisy_on_grid(exact, noise=noise, noise_std=noise_std, step=step)
        noisy[35:41] = exact[35:41]
        return noisy

    monkeypatch.setattr(steps, "noisy_on_grid", forgetful)
    first, last = layer_noise(100)
    assert last == 0
    assert first > 0.9


@pytest.mark.parametrize("plan", [TWO, replace(TWO, lanes=0), replace(TWO, update="delta")])
def test_a_witness_changes_nothing(plan: TrainingPlan) -> None:
    units = make_units(20, lanes=(0, 2) if plan.lanes else ())
    with_witness, seen = witnessed(units, plan, noise=SeededNoise(4))
    without = run(units, plan, MLP, noise=SeededNoise(4))
    assert np.array_equal(with_witness.vector, without.vector)
    assert seen[0].sampled.shape == (plan.lanes,)
    assert seen[0].readings.shape == (2, plan.lanes)


def test_nothing_of_what_was_seen_shows_when_it_is_printed() -> None:
    _, (seen, *_) = witnessed(make_units(20, lanes=(0,)), TWO, noise=SeededNoise(1))
    assert repr(seen) == "StepSeen(...)"


# --- what is kept -----------------------------------------------------------------------------


def made_up_step(seed: int, *, lanes: int = 11, groups: int = 3) -> StepSeen:
    rng = np.random.default_rng(seed)
    return StepSeen(
        rng.random(lanes) < 0.5,
        rng.normal(size=(groups, lanes)).astype(np.float32),
        tuple(LayerNoise(float(square), 7) for square in rng.chisquare(7, groups)),
    )


def assert_same(found: StepSeen, expected: StepSeen) -> None:
    assert np.array_equal(found.sampled, expected.sampled)
    assert found.sampled.dtype == np.bool_
    assert np.array_equal(found.readings, expected.readings)
    assert found.noise == expected.noise


@pytest.mark.parametrize("lanes", [0, 1, 8, 11])
def test_what_is_kept_is_read_back_round_by_round(tmp_path: Path, lanes: int) -> None:
    store = WitnessStore(tmp_path / "witness")
    rounds = [[made_up_step(10 * n + s, lanes=lanes) for s in range(2)] for n in (1, 2, 12)]
    for number, made in zip((12, 1, 2), (rounds[2], rounds[0], rounds[1]), strict=True):
        store.keep("run-1", number, made)
    store.keep("run-2", 1, rounds[0])
    found = read_witness(tmp_path / "witness", "run-1")
    assert [each.round for each in found] == [1, 2, 12]
    for read, made in zip(found, rounds, strict=True):
        for one, other in zip(read.steps, made, strict=True):
            assert_same(one, other)
    assert read_witness(tmp_path / "witness", "run-3") == []


def test_a_round_that_is_noted_again_replaces_what_was_noted(tmp_path: Path) -> None:
    store = WitnessStore(tmp_path / "witness")
    store.keep("run-1", 1, [made_up_step(1)])
    store.keep("run-1", 1, [made_up_step(2)])
    (found,) = read_witness(tmp_path / "witness", "run-1")
    assert_same(found.steps[0], made_up_step(2))


def test_nobody_but_the_site_can_read_it(tmp_path: Path) -> None:
    WitnessStore(tmp_path / "witness").keep("run-1", 1, [made_up_step(1)])
    modes = {
        path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "witness").rglob("*")
    }
    assert modes == {"witness/run-1": 0o700, "witness/run-1/round-000001.npz": 0o600}
    assert stat.S_IMODE((tmp_path / "witness").stat().st_mode) == 0o700


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x04K\x01."])
def test_a_file_that_is_no_witness_is_named(tmp_path: Path, content: bytes) -> None:
    store = WitnessStore(tmp_path / "witness")
    store.keep("run-1", 1, [made_up_step(1)])
    path = tmp_path / "witness" / "run-1" / "round-000001.npz"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="round-000001"):
        read_witness(tmp_path / "witness", "run-1")


def test_a_file_that_lacks_a_part_is_named(tmp_path: Path) -> None:
    WitnessStore(tmp_path / "witness").keep("run-1", 1, [made_up_step(1)])
    with (tmp_path / "witness" / "run-1" / "round-000001.npz").open("wb") as file:
        np.savez(file, readings=np.zeros(3))
    with pytest.raises(IntegrityError, match="round-000001"):
        read_witness(tmp_path / "witness", "run-1")


def test_no_run_can_fill_the_disk() -> None:
    usual = replace(PLAN, lanes=500, lane_groups=2, local_steps=5, rounds=200)
    assert noted_rounds(usual) == 200
    huge = replace(PLAN, lanes=10_000, lane_groups=50, local_steps=10, rounds=10_000)
    assert 0 < noted_rounds(huge) < 20
    assert noted_rounds(replace(huge, local_steps=1_000)) == 0


def test_a_round_weighs_what_is_reckoned(tmp_path: Path) -> None:
    plan = replace(PLAN, lanes=500, lane_groups=3, local_steps=10, rounds=10**6)
    made = [made_up_step(seed, lanes=500) for seed in range(10)]
    WitnessStore(tmp_path).keep("run-1", 1, made)
    (path,) = (tmp_path / "run-1").iterdir()
    reckoned = LARGEST_WITNESS_BYTES / noted_rounds(plan)
    assert reckoned * 0.999 <= path.stat().st_size <= reckoned + 1_500


# --- at the site ------------------------------------------------------------------------------

JOB = SMALL_JOB.replace("[training]", "[training]\nlocal_steps = 2")


@pytest.fixture
def site(tmp_path: Path) -> OneSite:
    made = OneSite(tmp_path)
    made.prepare()
    made.open()
    return made


def take_part(site: OneSite) -> list[Update]:
    """Two rounds of a run."""
    job = make_job(JOB)
    site.ask(site.admit(job=job))
    updates = [site.ask(round_plan(number, job=job)) for number in (1, 2)]
    assert all(isinstance(update, Update) for update in updates)
    return [update for update in updates if isinstance(update, Update)]


def test_a_site_notes_every_round_that_it_releases(site: OneSite) -> None:
    updates = take_part(site)
    coins = site.runs.runs()[0].coins
    rounds = read_witness(site.config.witness_path, "run-1")
    assert [each.round for each in rounds] == [1, 2]
    for seen, update in zip(rounds, updates, strict=True):
        assert len(seen.steps) == 2
        total = np.sum([step.readings for step in seen.steps], axis=0)
        np.testing.assert_allclose(total[0], update.vector[-8:] / 0.5, rtol=1e-4, atol=1e-4)
        # The job samples everybody in every step.
        assert all(np.array_equal(step.sampled, coins) for step in seen.steps)


def test_a_round_that_is_asked_for_again_is_noted_once(site: OneSite) -> None:
    take_part(site)
    (first, *_) = sorted((site.config.witness_path / "run-1").iterdir())
    before = first.read_bytes()
    site.open()
    take_part(site)
    assert first.read_bytes() == before


def test_after_a_crash_the_note_is_of_the_release_that_left(
    site: OneSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    job = make_job(JOB)
    site.ask(site.admit(job=job))
    with monkeypatch.context() as dying:
        dying.setattr(site.outbox, "put", crash)
        with pytest.raises(KeyboardInterrupt):
            site.ask(round_plan(1, job=job))
    (lost,) = read_witness(site.config.witness_path, "run-1")
    site.open()
    update = site.ask(round_plan(1, job=job))
    assert isinstance(update, Update)
    (kept,) = read_witness(site.config.witness_path, "run-1")
    for seen, is_of_release in ((lost, False), (kept, True)):
        total = np.sum([step.readings for step in seen.steps], axis=0)[0]
        assert np.allclose(total, update.vector[-8:] / 0.5, atol=1e-4) == is_of_release


def secrets_of(path: Path) -> list[bytes]:
    """Of a noted round, what nobody may guess: each step's readings in pairs, each square."""
    with np.load(path) as kept:
        pairs = [pair.tobytes() for pair in kept["readings"].reshape(-1, 2)]
        squares = kept["squares"].ravel()
    spelled = [repr(square).encode() for square in squares.tolist()]
    return pairs + [square.tobytes() for square in squares] + spelled


def test_nothing_of_it_leaves_the_site_or_is_logged(
    site: OneSite, capfd: pytest.CaptureFixture[str]
) -> None:
    take_part(site)
    site.ask(settle(job=make_job(JOB)))
    noted = sorted((site.config.witness_path / "run-1").iterdir())
    secrets = [secret for path in noted for secret in secrets_of(path)]
    assert len(secrets) == 2 * (2 * 4 + 2 + 2)
    # What is looked for would be found where it is.
    assert sum(secret in b"".join(path.read_bytes() for path in noted) for secret in secrets) == 20
    said = [*capfd.readouterr(), repr(site.site.status()), site.metrics.text(tuple(ReleaseClass))]
    assert "released" in "".join(said)
    # The outbox holds everything that was sent.
    everywhere = [path for path in site.directory.rglob("*") if path.is_file()]
    elsewhere = [path.read_bytes() for path in everywhere if path not in noted]
    evidence = b"".join(elsewhere) + "".join(said).encode()
    assert not [secret for secret in secrets if secret in evidence]


def test_a_neighbour_without_a_record_is_seen_alike() -> None:
    units = make_units(20, lanes=(0, 2))
    _, whole = witnessed(units, replace(TWO, sampling_rate=1.0), noise=SeededNoise(5))
    fewer = without_record(units, 3)
    _, less = witnessed(fewer, replace(TWO, sampling_rate=1.0), noise=SeededNoise(5))
    assert np.array_equal(whole[0].readings, less[0].readings)
