"""A model that an audit found to break its promise reaches nobody until a person releases it."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
from federation import Federation, make_job
from gateway_desk import Desk, open_desk
from small_job import validating
from typer.testing import CliRunner

from sordino.connection import Connection
from sordino_protocols.errors import ExitCode, InputError, IntegrityError, ViolationError
from sordino_protocols.job import weights_digest
from sordino_protocols.model_file import ReleasedModel
from sordino_protocols.rounds import RunEvent, RunState
from sordino_protocols.scaling import Scaling
from sordino_server.cli import server_app
from sordino_server.quarantine import (
    QUARANTINE,
    WITHHELD,
    artifact,
    check_no_quarantine,
    quarantine_of,
    quarantine_run,
    release_run,
)
from sordino_server.runs import CERTIFICATE, MODEL, STATEMENT, RunDirectory, run_directory

REASON = "The promise was broken: far too little noise."
AUDIT = "ab" * 32
WEIGHTS = np.array([0.5, -1.25, 3.0, 0.125])
SCALING = Scaling(np.array([0.25, 0.0, 0.5]), np.array([2.0, 1.0, 4.0]))
BROUGHT = ReleasedModel(WEIGHTS, SCALING)


@pytest.fixture
def run(federation: Federation) -> RunDirectory:
    """A run that is done."""
    made = federation.submit()
    federation.coordinator(made).execute()
    return made


def quarantine(run: RunDirectory) -> None:
    quarantine_run(run, reason=REASON, audit_hash=AUDIT)


def test_a_quarantined_model_and_its_certificate_are_withheld(run: RunDirectory) -> None:
    before = {name: artifact(run, name) for name in (MODEL, CERTIFICATE, STATEMENT)}
    quarantine(run)
    for name in (MODEL, CERTIFICATE):
        with pytest.raises(ViolationError, match="far too little noise") as raised:
            artifact(run, name)
        assert AUDIT[:12] in str(raised.value)
        assert raised.value.exit_code == ExitCode.AUDIT_VIOLATION
    assert {MODEL, CERTIFICATE} < WITHHELD
    # What happened stays open to whoever asked for it, and the files stay for the auditor.
    assert artifact(run, STATEMENT) == before[STATEMENT]
    assert run.artifact(MODEL) == before[MODEL]
    assert run.state() is RunState.DONE


def test_only_a_person_ends_it_and_both_stay_on_record(run: RunDirectory) -> None:
    content = artifact(run, MODEL)
    quarantine(run)
    quarantine(run_directory(run.path))
    with pytest.raises(InputError, match="needs a reason"):
        release_run(run, reason=" ", by="olga")
    assert quarantine_of(run) is not None
    ended = release_run(run, reason="the lanes were misread; audit 7 repeats it", by="olga")
    assert ended.released is not None
    assert ended.released.by == "olga"
    assert quarantine_of(run) is None
    assert artifact(run, MODEL) == content
    with pytest.raises(InputError, match="not in quarantine"):
        release_run(run, reason="again", by="olga")
    logged = [each for each in run.events() if each["event"] in {"quarantined", "released"}]
    assert [each["event"] for each in logged] == ["quarantined", "released"]
    assert logged[0]["because"] == REASON
    assert logged[1]["by"] == "olga"
    assert logged[1]["because"] == "the lanes were misread; audit 7 repeats it"


def test_another_violation_quarantines_again(run: RunDirectory) -> None:
    quarantine(run)
    release_run(run, reason="a mistake", by="olga")
    quarantine_run(run, reason="Again.", audit_hash="cd" * 32)
    lasting = quarantine_of(run)
    assert lasting is not None
    assert lasting.reason == "Again."
    kept = json.loads((run.path / QUARANTINE).read_bytes())["quarantines"]
    assert [each["audit_hash"] for each in kept] == [AUDIT, "cd" * 32]
    assert kept[0]["released"]["reason"] == "a mistake"


def test_a_record_that_was_altered_withholds_the_model(run: RunDirectory) -> None:
    (run.path / QUARANTINE).write_text('{"quarantines": [{}]}')
    with pytest.raises(IntegrityError):
        artifact(run, MODEL)


def test_other_runs_are_not_affected(federation: Federation, run: RunDirectory) -> None:
    quarantine(run)
    other = federation.submit()
    federation.coordinator(other).execute()
    assert other.state() is RunState.DONE
    assert artifact(other, MODEL)


def test_a_quarantined_model_is_known_again(federation: Federation) -> None:
    run = federation.submit()
    run.save_scaling(SCALING)
    run.save_model(WEIGHTS, job_digest="")
    check_no_quarantine(BROUGHT, federation.runs)
    quarantine(run)
    with pytest.raises(ViolationError, match=run.run_id):
        check_no_quarantine(BROUGHT, federation.runs)
    check_no_quarantine(ReleasedModel(WEIGHTS + 1, SCALING), federation.runs)
    check_no_quarantine(ReleasedModel(WEIGHTS, None), federation.runs)
    release_run(run, reason="a mistake", by="olga")
    check_no_quarantine(BROUGHT, federation.runs)


# --- at the gateway and the operator's desk -------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with open_desk(tmp_path_factory.mktemp("desk") / "federation") as running:
        yield running


@pytest.fixture
def connection(desk: Desk) -> Iterator[Connection]:
    with Connection(desk.profile) as open_connection:
        yield open_connection


@pytest.fixture
def left(desk: Desk, connection: Connection) -> RunDirectory:
    """A run that left a model, and is in quarantine."""
    run = desk.host.runs.get(connection.submit(make_job()))
    run.save_scaling(SCALING)
    run.save_model(WEIGHTS, job_digest="")
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")
    quarantine(run)
    return run


def operate(desk: Desk, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(server_app, [*arguments, "--config", str(desk.host.config.path)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_who_asks_for_the_model_is_told_why_not(
    desk: Desk, connection: Connection, left: RunDirectory
) -> None:
    with pytest.raises(ViolationError, match="far too little noise"):
        connection.fetch(left.run_id, MODEL)
    shown = connection.show(left.run_id)["quarantine"]
    assert isinstance(shown, dict)
    assert shown["reason"] == REASON
    assert shown["audit_hash"] == AUDIT
    assert operate(desk, "release", left.run_id, "--reason", "a mistake")[0] == 0
    assert connection.fetch(left.run_id, MODEL) == left.artifact(MODEL)
    assert "quarantine" not in connection.show(left.run_id)


def test_a_validation_of_a_quarantined_model_is_refused(
    desk: Desk, connection: Connection, left: RunDirectory
) -> None:
    job = make_job(validating(weights_digest(WEIGHTS.astype(np.float32), SCALING.vector())))
    before = len(desk.host.runs.all())
    with pytest.raises(ViolationError, match=left.run_id):
        connection.validate(job, BROUGHT)
    assert len(desk.host.runs.all()) == before
    release_run(left, reason="a mistake", by="olga")
    run = desk.host.runs.get(connection.validate(job, BROUGHT))
    run.advance(RunEvent.GAVE_UP, reason="the test ends here")


def test_the_operator_sees_quarantines_and_ends_them(desk: Desk, left: RunDirectory) -> None:
    rows = {each["run_id"]: each for each in json.loads(operate(desk, "runs", "-o", "json")[1])}
    assert rows[left.run_id]["quarantine"] == f"audit {AUDIT[:12]}"
    code, output = operate(desk, "release", left.run_id, "--reason", "misread lanes")
    assert code == 0
    assert AUDIT in output
    assert REASON in output
    released = [each for each in left.events() if each["event"] == "released"]
    assert released[0]["because"] == "misread lanes"
    rows = {each["run_id"]: each for each in json.loads(operate(desk, "runs", "-o", "json")[1])}
    assert rows[left.run_id]["quarantine"] == ""
    with pytest.raises(InputError, match="not in quarantine"):
        operate(desk, "release", left.run_id, "--reason", "again")
    (left.path / QUARANTINE).write_text("{")
    assert "cannot be read" in operate(desk, "runs", "-o", "json")[1]
    (left.path / QUARANTINE).unlink()
