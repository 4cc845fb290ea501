import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from federation import make_job, make_signer

from sordino_protocols.errors import IntegrityError, NotFoundError
from sordino_protocols.job import Purpose, SignedJob, new_nonce, sign_job
from sordino_protocols.model_file import read_model
from sordino_protocols.rounds import RunEvent, RunState
from sordino_protocols.scaling import Scaling
from sordino_server.optimizers import initial_state
from sordino_server.runs import (
    MODEL,
    QUOTES,
    RunDirectory,
    Runs,
    last_state,
    run_directory,
)
from sordino_server.statement import Quotes
from sordino_server.storage import write_whole


def a_signed_job(purpose: Purpose = "train") -> SignedJob:
    signer = make_signer("scientist")
    return sign_job(make_job(), signer, purpose=purpose, nonce=new_nonce())


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture
def run(runs: Runs) -> RunDirectory:
    return runs.create(a_signed_job())


def append(run: RunDirectory, content: bytes) -> None:
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(content)


def test_a_run_says_what_was_submitted(runs: Runs) -> None:
    job = a_signed_job("price")
    run = runs.create(job)
    manifest = runs.get(run.run_id).manifest()
    assert manifest.job == job
    assert manifest.purpose == "price"
    assert manifest.run_id == run.run_id
    assert runs.get(run.run_id).job() == make_job()


def test_a_new_run_is_queued(run: RunDirectory) -> None:
    assert run.state() is RunState.QUEUED
    assert [event["event"] for event in run.events()] == ["state"]


def test_lists_runs_oldest_first(runs: Runs) -> None:
    created = [runs.create(a_signed_job()).run_id for _ in range(2)]
    assert sorted(run.run_id for run in runs.all()) == sorted(created)
    stamps = [run.manifest().created for run in runs.all()]
    assert stamps == sorted(stamps)


def test_a_run_whose_manifest_is_broken_stops_no_other(runs: Runs, run: RunDirectory) -> None:
    broken = runs.create(a_signed_job())
    (broken.path / "manifest.json").write_bytes(b"[]")
    with pytest.raises(IntegrityError):
        broken.manifest()
    assert [each.run_id for each in runs.all()] == [run.run_id]


def test_a_run_that_was_created_half_does_not_exist(runs: Runs, run: RunDirectory) -> None:
    (run.path / "manifest.json").unlink()
    assert runs.all() == []
    with pytest.raises(NotFoundError):
        runs.get(run.run_id)


@pytest.mark.parametrize(
    "run_id",
    ["", ".", "..", "../runs", "/etc", "a/../b", "no-such-run", "a\x00b", "x" * 300, "A", "é"],
)
def test_an_id_from_outside_never_becomes_another_path(
    tmp_path: Path, runs: Runs, run_id: str
) -> None:
    # What a traversal would find, one level up.
    (tmp_path / "manifest.json").write_bytes(b"{}")
    with pytest.raises(NotFoundError):
        runs.get(run_id)


def test_the_state_is_the_last_one_logged(run: RunDirectory) -> None:
    run.advance(RunEvent.STARTED, cohort=["a"])
    run.record("round", round=1)
    assert run.state() is RunState.ADMITTING
    assert run.advance(RunEvent.ADMITTED) is RunState.TRAINING
    assert run_directory(run.path).state() is RunState.TRAINING


def test_a_state_that_cannot_follow_is_a_bug(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="cannot have"):
        run.advance(RunEvent.SETTLED)
    assert run.state() is RunState.QUEUED


def test_no_state_among_entries_that_name_none() -> None:
    assert last_state([{"event": "round"}]) is None


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_was_cut_short_counts_for_nothing(run: RunDirectory, cut: int) -> None:
    append(run, b'{"event":"state","state":"failed"}'[: -cut - 1])
    assert run.state() is RunState.QUEUED
    run.advance(RunEvent.STARTED, cohort=[])
    # The torn line did not swallow the one after it.
    assert run.state() is RunState.ADMITTING


def test_a_whole_line_without_its_end_is_still_being_written(run: RunDirectory) -> None:
    append(run, b'{"event":"state","state":"failed"}')
    assert run.state() is RunState.QUEUED


def test_lines_that_are_no_entries_are_left_out(run: RunDirectory) -> None:
    append(run, b'\n[1]\n"text"\n{"no":"event"}\n\xff\xfe\n')
    assert [entry["event"] for entry in run.events()] == ["state"]


def test_the_log_can_be_followed(run: RunDirectory) -> None:
    first, offset = run.events_after(0)
    assert len(first) == 1
    assert run.events_after(offset) == ([], offset)
    append(run, b'{"event":"ro')
    assert run.events_after(offset) == ([], offset)
    append(run, b'und"}\n')
    entries, offset = run.events_after(offset)
    assert entries == [{"event": "round"}]
    assert run.events_after(offset) == ([], offset)


def test_a_run_without_a_log_has_no_events(run: RunDirectory) -> None:
    (run.path / "events.jsonl").unlink()
    assert list(run.events()) == []
    assert run.state() is RunState.QUEUED


def test_counts_attempts_that_got_no_further(run: RunDirectory) -> None:
    assert run.attempts_in_vain() == 0
    run.record("attempt")
    run.record("attempt")
    assert run.attempts_in_vain() == 2
    run.record("round", round=1)
    assert run.attempts_in_vain() == 0
    run.record("attempt")
    assert run.attempts_in_vain() == 1


def test_a_checkpoint_is_what_was_saved(run: RunDirectory) -> None:
    assert run.checkpoint() is None
    rng = np.random.default_rng(7)
    for _ in range(2):
        state = initial_state(rng.normal(size=5), make_job().plan.require_training())
        run.save_checkpoint(state)
        read = run.checkpoint()
        assert read is not None
        for name in ("weights", "first_moment", "second_moment", "average"):
            saved, again = getattr(state, name), getattr(read, name)
            assert again.dtype == np.float64
            assert saved.tobytes() == again.tobytes()
        assert (read.average_count, read.rounds_done) == (0, 0)


def test_readings_come_back_round_by_round(run: RunDirectory) -> None:
    assert list(run.readings()) == []
    for number in (1, 2, 10):
        run.save_readings(number, {"a": np.full(4, number, dtype=np.float32)})
    assert [float(each["a"][0]) for each in run.readings()] == [1, 2, 10]


def test_the_model_is_there_once_it_was_saved(run: RunDirectory) -> None:
    with pytest.raises(NotFoundError):
        run.model()
    with pytest.raises(NotFoundError):
        run.artifact(MODEL)
    weights = np.array([0.1, -2.0])
    run.save_model(weights, job_digest="d")
    assert run.model().tolist() == weights.tolist()
    assert run.artifact(MODEL)


def test_the_model_has_the_runs_scaling(run: RunDirectory) -> None:
    assert run.scaling() is None
    run.save_scaling(Scaling(np.array([0.5, 0.1]), np.array([2.0, 3.0])))
    kept = run.scaling()
    assert kept is not None
    run.save_model(np.array([0.1, -2.0]), job_digest="d")
    model = read_model(run.artifact(MODEL))
    assert model.weights.tolist() == run.model().tolist() == [0.1, -2.0]
    assert model.scaling is not None
    # In single precision, as it went to the sites.
    for scaling in (kept, model.scaling):
        assert scaling.shift.tolist() == [0.5, float(np.float32(0.1))]
        assert scaling.factor.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("name", ["manifest.json", "../manifest.json", "events.jsonl", "", "."])
def test_only_results_can_be_fetched(run: RunDirectory, name: str) -> None:
    with pytest.raises(NotFoundError):
        run.artifact(name)


def test_a_result_comes_back_as_it_was_saved(run: RunDirectory) -> None:
    with pytest.raises(NotFoundError):
        run.read(QUOTES, Quotes)
    quotes = Quotes(quotes={}, refused={"a": "no_policy"}, silent={})
    run.save(QUOTES, quotes)
    assert run.read(QUOTES, Quotes) == quotes
    (run.path / QUOTES).write_text('{"quotes": 1}')
    with pytest.raises(IntegrityError):
        run.read(QUOTES, Quotes)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    # Whoever has it open keeps the whole old one: it was replaced, not written over.
    with path.open("rb") as before:
        write_whole(path, b"newer")
        assert before.read() == b"old"
    assert path.read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_what_a_crash_left_beside_a_file_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_bytes(b"a longer half of something")
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_nobody_else_may_look_into_runs(run: RunDirectory) -> None:
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.path.parent.stat().st_mode) == 0o700


def test_one_at_a_time_executes_a_run(run: RunDirectory) -> None:
    has_it = threading.Event()

    def second() -> None:
        with run_directory(run.path).locked():
            has_it.set()

    thread = threading.Thread(target=second)
    with run.locked():
        thread.start()
        assert not has_it.wait(0.2)
    assert has_it.wait(30)
    thread.join()
