"""Runs of every task and unit, and runs that measure features first."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import (
    CLASSES_JOB,
    CLASSES_SCHEMA,
    ENTITY_JOB,
    ENTITY_SCHEMA,
    FEATURES,
    NUMBER_JOB,
    NUMBER_SCHEMA,
    STATISTICS_JOB,
    Federation,
    make_job,
)
from unruly import (
    Change,
    CrashError,
    asked,
    changing,
    dying_at,
    held,
    requests,
    restarting,
    rounds_of,
    spent,
)

from sordino_protocols.messages import (
    Admission,
    Evaluate,
    Evaluation,
    Measure,
    Message,
    RoundPlan,
    Statistics,
)
from sordino_protocols.model_file import read_model
from sordino_protocols.rounds import RunState
from sordino_server.questions import RunFailedError
from sordino_server.runs import MODEL, STATEMENT, RunDirectory
from sordino_server.statement import EvaluationFacts, Statement

ALL = "quorum = 3"
MEASURED = STATISTICS_JOB.replace("quorum = 2", ALL)


def evaluation_of(run: RunDirectory) -> EvaluationFacts:
    return run.read(STATEMENT, Statement).require_evaluation()


def states_of(run: RunDirectory) -> list[object]:
    return [event["state"] for event in run.events() if event["event"] == "state"]


# ------------------------------------------------------------------ tasks


@pytest.mark.parametrize(
    ("text", "schema", "figures", "shape"),
    [
        (CLASSES_JOB, CLASSES_SCHEMA, ["accuracy", "balanced_accuracy"], (3, 2)),
        (
            NUMBER_JOB,
            NUMBER_SCHEMA,
            ["mean_absolute_error", "root_mean_squared_error"],
            (1, 100),
        ),
        (ENTITY_JOB, ENTITY_SCHEMA, ["accuracy", "auc"], (2, 10)),
    ],
)
def test_every_task_and_unit_goes_from_a_job_to_its_figures(
    tmp_path: Path,
    text: str,
    schema: str,
    figures: list[str],
    shape: tuple[int, int],
) -> None:
    federation = Federation(tmp_path, schema=schema)
    run = federation.submit(make_job(text))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert len(run.model()) == 4 * run.job().file.require_model().outputs
    facts = evaluation_of(run)
    assert list(facts.metrics) == figures
    assert np.shape(facts.histogram) == shape
    assert len(facts.recalls) == (3 if shape == (3, 2) else 0)
    for found in facts.metrics.values():
        assert found.lower <= found.value <= found.upper
    assert held(federation) == 0
    for receipt in run.read(STATEMENT, Statement).receipts.values():
        assert receipt.epsilon_spent_pld <= 4 * (1 + 1e-9)
    federation.close()


def test_errors_are_in_the_labels_units(tmp_path: Path) -> None:
    federation = Federation(tmp_path, schema=NUMBER_SCHEMA)
    run = federation.submit(make_job(NUMBER_JOB))
    federation.coordinator(run).execute()
    facts = evaluation_of(run)
    assert facts.label_scale == 5
    found = facts.metrics["mean_absolute_error"]
    # A label of 0 to 10 is scaled to [-1, 1]: two of these units are its whole range.
    assert 0 <= found.lower < found.upper <= 10
    assert found.upper > 1
    federation.close()


def test_an_evaluation_of_another_shape_does_not_count(tmp_path: Path) -> None:
    federation = Federation(tmp_path, schema=CLASSES_SCHEMA)

    def cut(message: Message) -> Message:
        assert isinstance(message, Evaluation)
        return replace(message, histogram=message.histogram[:4])

    run = federation.submit(make_job(CLASSES_JOB))
    grid = federation.grid({"c": changing(federation, "c", Evaluation, cut)})
    federation.coordinator(run, grid).execute()
    assert evaluation_of(run).sites == ("a", "b")
    federation.close()


# ------------------------------------------------------------------ statistics


def test_features_are_measured_before_the_first_round_and_scaled_in_all(
    federation: Federation,
) -> None:
    run = federation.submit(make_job(MEASURED))
    federation.coordinator(run).execute()
    assert states_of(run)[1:4] == ["admitting", "measuring", "training"]
    scaling = run.scaling()
    assert scaling is not None
    assert len(scaling) == FEATURES
    # Features are uniform over [-1, 1].
    assert scaling.shift == pytest.approx(np.zeros(FEATURES), abs=0.35)
    assert scaling.factor == pytest.approx(np.full(FEATURES, 3**0.5), rel=0.5)
    sent = [
        request.scaling.tobytes()
        for site in federation.sites.values()
        for request in (asked(federation, each) for each in site.requests)
        if isinstance(request, RoundPlan | Evaluate)
    ]
    assert len(sent) == 3 * 4
    assert set(sent) == {scaling.vector().tobytes()}
    model = read_model(run.artifact(MODEL))
    assert model.scaling is not None
    assert model.scaling.vector().tobytes() == scaling.vector().tobytes()
    for receipt in run.read(STATEMENT, Statement).receipts.values():
        assert receipt.epsilon_spent_pld <= receipt.epsilon_planned <= 4 * (1 + 1e-9)


def test_a_run_without_statistics_has_no_such_state_and_no_scaling(federation: Federation) -> None:
    run = federation.submit()
    federation.coordinator(run).execute()
    assert "measuring" not in states_of(run)
    assert run.scaling() is None
    assert read_model(run.artifact(MODEL)).scaling is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_server_that_died_while_it_measured_pays_once(
    federation: Federation, *, after: bool
) -> None:
    run = federation.submit(make_job(MEASURED))
    grid = federation.grid({"b": dying_at(federation, "b", Measure, after=after)})
    with pytest.raises(CrashError):
        federation.coordinator(run, grid).execute()
    assert run.state() is RunState.MEASURING
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    for name, site in federation.sites.items():
        assert len(set(requests(federation, name, Measure))) == 1
        assert len(site.ledger.charged(run.run_id)) == 5
    assert len(set(spent(federation).values())) == 1


def test_a_scaling_that_was_kept_but_not_logged_comes_out_the_same(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = federation.submit(make_job(MEASURED))
    keep = RunDirectory.save_scaling
    kept: list[bytes] = []

    def crash(self: RunDirectory, scaling: object) -> None:
        keep(self, scaling)  # type: ignore[arg-type]
        kept.append((self.path / "scaling.safetensors").read_bytes())
        raise CrashError

    with monkeypatch.context() as dying:
        dying.setattr(RunDirectory, "save_scaling", crash)
        with pytest.raises(CrashError):
            federation.coordinator(run).execute()
    federation.coordinator(run).execute()
    assert (run.path / "scaling.safetensors").read_bytes() == kept[0]
    assert [each["round"] for each in rounds_of(run)] == [1, 2, 3]


def test_a_site_that_restarts_while_it_measures_is_charged_once(federation: Federation) -> None:
    run = federation.submit(make_job(MEASURED))
    federation.coordinator(run, federation.grid({"b": restarting(federation, "b")})).execute()
    assert run.state() is RunState.DONE
    assert len(federation.sites["b"].ledger.charged(run.run_id)) == 5


def huge(message: Message) -> Message:
    assert isinstance(message, Statistics)
    return replace(message, vector=np.full_like(message.vector, 1e30))


def negative_squares(message: Message) -> Message:
    assert isinstance(message, Statistics)
    return replace(message, vector=np.full_like(message.vector, -500))


def longer(message: Message) -> Message:
    assert isinstance(message, Statistics)
    return replace(message, vector=np.append(message.vector, np.float32(0)))


def another_job(message: Message) -> Message:
    assert isinstance(message, Statistics)
    return replace(message, job_digest="f" * 64)


@pytest.mark.parametrize("change", [huge, negative_squares, longer, another_job])
def test_poisoned_statistics_do_not_count(federation: Federation, change: Change) -> None:
    run = federation.submit(make_job(STATISTICS_JOB))
    grid = federation.grid({"c": changing(federation, "c", Statistics, change)})
    federation.coordinator(run, grid).execute()
    assert run.state() is RunState.DONE
    measured = [event for event in run.events() if event.get("state") == "training"]
    assert measured[0]["sites"] == ["a", "b"]


def test_below_the_quorum_nothing_is_trained_and_budget_returns(federation: Federation) -> None:
    run = federation.submit(make_job(MEASURED))
    grid = federation.grid({"c": changing(federation, "c", Statistics, huge)})
    with pytest.raises(RunFailedError, match="c: implausible"):
        federation.coordinator(run, grid).execute()
    assert run.state() is RunState.FAILED
    assert held(federation) == 0
    assert {len(site.ledger.charged(run.run_id)) for site in federation.sites.values()} == {1}


@pytest.mark.parametrize("measured", ["", "00", "ff", "zz", "e0e0"])
def test_a_site_that_declares_other_measured_features_takes_no_part(
    federation: Federation, measured: str
) -> None:
    def lie(message: Message) -> Message:
        assert isinstance(message, Admission)
        return replace(message, measured=measured)

    run = federation.submit(make_job(STATISTICS_JOB))
    grid = federation.grid({"c": changing(federation, "c", Admission, lie)})
    federation.coordinator(run, grid).execute()
    assert set(run.read(STATEMENT, Statement).admissions) == {"a", "b"}


@pytest.mark.parametrize("scale", [0.0, -1.0, 2.0])
def test_a_scale_of_the_label_that_cannot_be_is_found(tmp_path: Path, scale: float) -> None:
    federation = Federation(tmp_path, schema=NUMBER_SCHEMA)

    def lie(message: Message) -> Message:
        assert isinstance(message, Admission)
        return replace(message, label_scale=scale)

    run = federation.submit(make_job(NUMBER_JOB))
    coordinator = federation.coordinator(
        run, federation.grid({"c": changing(federation, "c", Admission, lie)})
    )
    if scale > 0:
        # The columns are declared to be the same, and are not.
        with pytest.raises(RunFailedError, match="different columns"):
            coordinator.execute()
    else:
        coordinator.execute()
        assert set(run.read(STATEMENT, Statement).admissions) == {"a", "b"}
    federation.close()


def test_a_job_with_statistics_can_be_priced(federation: Federation) -> None:
    run = federation.submit(make_job(STATISTICS_JOB), purpose="price")
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    assert spent(federation) == dict.fromkeys("abc", 0.0)
