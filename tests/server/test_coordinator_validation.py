"""Runs that evaluate a model which the job brings: admitted, evaluated, settled, and no round."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from federation import Federation, make_job
from one_site import POLICY
from small_job import validating
from unruly import CrashError, dying_at, held, requests, spent

from sordino_protocols.job import Job, weights_digest
from sordino_protocols.messages import Admit, Evaluate, Message, RoundPlan, Settle
from sordino_protocols.model_file import ReleasedModel
from sordino_protocols.models import FloatVector
from sordino_protocols.rounds import RunState
from sordino_protocols.scaling import Scaling
from sordino_server.questions import RunFailedError
from sordino_server.runs import CERTIFICATE, STATEMENT
from sordino_server.statement import EvaluationFacts, Statement

# In the tables of these sites the label follows the first feature.
GOOD = np.array([6.0, 0.0, 0.0, 0.0])
SCALING = Scaling(np.zeros(3), np.full(3, 2.0))


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    policy = POLICY.replace('kinds = ["train"]', 'kinds = ["train", "validate"]')
    assert policy != POLICY
    running = Federation(tmp_path, policy=policy)
    yield running
    running.close()


def validation_of(weights: FloatVector, scaling: Scaling | None = None) -> Job:
    numbers = np.zeros(0, dtype=np.float32) if scaling is None else scaling.vector()
    text = validating(weights_digest(weights.astype(np.float32), numbers))
    sites = 'sites = ["cleveland", "va"]\nquorum = 2'
    assert sites in text
    return make_job(text.replace(sites, "quorum = 2\ndeadline_seconds = 60\ngrace_seconds = 0"))


def validated(federation: Federation, weights: FloatVector) -> EvaluationFacts:
    run = federation.submit(validation_of(weights), brought=ReleasedModel(weights, None))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    return run.read(STATEMENT, Statement).require_evaluation()


def test_a_validation_evaluates_the_model_that_it_brings(federation: Federation) -> None:
    good = validated(federation, GOOD)
    bad = validated(federation, -GOOD)
    assert good.sites == ("a", "b", "c")
    assert good.metrics["auc"].lower > 0.5 > bad.metrics["auc"].upper


def test_a_validation_asks_for_one_release_and_pays_for_nothing_else(
    federation: Federation,
) -> None:
    job = validation_of(GOOD)
    run = federation.submit(job, brought=ReleasedModel(GOOD, None))
    assert run.run_id.startswith("validate-")
    federation.coordinator(run).execute()
    statement = run.read(STATEMENT, Statement)
    for name, receipt in statement.receipts.items():
        assert 0 < receipt.epsilon_spent_pld <= receipt.epsilon_planned <= 2 * (1 + 1e-9)
        assert receipt.coins == ""
        assert requests(federation, name, RoundPlan) == []
        assert len(requests(federation, name, Evaluate)) == 1
    assert held(federation) == 0
    assert run.model().tolist() == GOOD.tolist()
    assert (run.path / CERTIFICATE).is_file()
    assert run.sealed("admissions").keys() == run.sealed("receipts").keys() == {"a", "b", "c"}


def test_the_scaling_that_is_brought_is_evaluated_too(federation: Federation) -> None:
    run = federation.submit(validation_of(GOOD, SCALING), brought=ReleasedModel(GOOD, SCALING))
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE


@pytest.mark.parametrize(
    "swapped",
    [
        ReleasedModel(-GOOD, None),
        ReleasedModel(np.nextafter(GOOD.astype(np.float32), 9).astype(np.float64), None),
        ReleasedModel(GOOD, SCALING),
    ],
    ids=["opposite", "one bit", "scaled"],
)
def test_a_server_that_swaps_the_model_is_refused_and_learns_nothing(
    federation: Federation, swapped: ReleasedModel
) -> None:
    run = federation.submit(validation_of(GOOD), brought=swapped)
    with pytest.raises(
        RunFailedError, match=r"a: wrong_shape, .*; b: wrong_shape, .*; c: wrong_shape, "
    ):
        federation.coordinator(run).execute()
    assert set(spent(federation).values()) == {0.0}
    assert held(federation) == 0


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ReleasedModel(np.ones(5), None), r"brings 5 weights; its model of 3 features has 4"),
        (
            ReleasedModel(GOOD, Scaling(np.zeros(2), np.ones(2))),
            r"scales 2 features; the sites have 3",
        ),
    ],
)
def test_a_model_that_fits_no_site_ends_the_run_before_anything_is_paid(
    federation: Federation, model: ReleasedModel, expected: str
) -> None:
    run = federation.submit(validation_of(model.weights, model.scaling), brought=model)
    with pytest.raises(RunFailedError, match=expected):
        federation.coordinator(run).execute()
    assert set(spent(federation).values()) == {0.0}
    assert held(federation) == 0


@pytest.mark.parametrize("kind", [Admit, Evaluate, Settle])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_server_that_died_finishes_a_validation_at_the_same_price(
    federation: Federation, kind: type[Message], *, after: bool
) -> None:
    run = federation.submit(validation_of(GOOD), brought=ReleasedModel(GOOD, None))
    dying = federation.grid({"b": dying_at(federation, "b", kind, after=after)})
    with pytest.raises(CrashError):
        federation.coordinator(run, dying).execute()
    federation.coordinator(run).execute()
    assert run.state() is RunState.DONE
    for receipt in run.read(STATEMENT, Statement).receipts.values():
        assert 0 < receipt.epsilon_spent_pld <= receipt.epsilon_planned
    assert held(federation) == 0
