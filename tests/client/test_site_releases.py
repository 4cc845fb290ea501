"""What a site releases besides rounds: each kind is paid first, made once and sent again as is."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from one_site import (
    CLASSES_JOB,
    CLASSES_SCHEMA,
    DATASET,
    ENTITY_JOB,
    ENTITY_SCHEMA,
    FEATURES,
    MOMENTS_JOB,
    NUMBER_JOB,
    NUMBER_SCHEMA,
    POLICY,
    QUANTILES_JOB,
    OneSite,
    evaluate,
    kinds,
    make_job,
    measure,
    refusal,
    round_plan,
    settle,
)
from seeded_noise import SeededNoise

from sordino_client.policy import load_policy
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.bits import unpack_bits
from sordino_protocols.messages import (
    Admission,
    Evaluate,
    Evaluation,
    Receipt,
    Refusal,
    Refused,
    RoundPlan,
    Statistics,
    Update,
)
from sordino_protocols.privacy import Composed, Event

TASKS = [
    pytest.param(CLASSES_JOB, CLASSES_SCHEMA, 10, 1.0, id="classes"),
    pytest.param(NUMBER_JOB, NUMBER_SCHEMA, 10, 35.0, id="number"),
    pytest.param(ENTITY_JOB, ENTITY_SCHEMA, 20, 1.0, id="entity"),
]


@pytest.mark.parametrize(("text", "schema", "cells", "label_scale"), TASKS)
def test_a_run_of_every_task_and_unit(
    site: OneSite, text: str, schema: str, cells: int, label_scale: float
) -> None:
    site.schema = schema
    site.open()
    job = make_job(text)
    admission = site.ask(site.admit(job=job))
    assert isinstance(admission, Admission)
    assert (admission.label_scale, admission.measured) == (label_scale, "")
    for number in (1, 2, 3):
        update = site.ask(round_plan(number, job=job))
        assert isinstance(update, Update)
        assert np.isfinite(update.vector).all()
    evaluation = site.ask(evaluate(job=job))
    assert isinstance(evaluation, Evaluation)
    assert evaluation.histogram.shape == (cells,)
    assert np.array_equal(evaluation.histogram, np.rint(evaluation.histogram))
    receipt = site.ask(settle(job=job))
    assert isinstance(receipt, Receipt)
    assert receipt.epsilon_spent_pld == pytest.approx(receipt.epsilon_planned)
    assert f'"unit":"{job.file.require_privacy().unit}"' in receipt.events_json


@pytest.mark.parametrize(("text", "length"), [(MOMENTS_JOB, 5), (QUANTILES_JOB, 16)])
def test_a_run_with_statistics(site: OneSite, text: str, length: int) -> None:
    job = make_job(text)
    admission = site.ask(site.admit(job=job))
    assert isinstance(admission, Admission)
    # Age and cholesterol are numbers; the words of the ward are none.
    assert unpack_bits(admission.measured, FEATURES).tolist() == [True, True, False, False, False]
    statistics = site.ask(measure(job=job))
    assert isinstance(statistics, Statistics)
    assert statistics.vector.shape == (length,)
    for request in (round_plan(1, job=job), round_plan(2, job=job), round_plan(3, job=job)):
        assert isinstance(site.ask(request), Update)
    assert isinstance(site.ask(evaluate(job=job)), Evaluation)
    receipt = site.ask(settle(job=job))
    assert isinstance(receipt, Receipt)
    assert kinds(site) == ["hold", *["reserve", "commit"] * 5, "settle"]
    plan = job.plan
    assert plan.statistics is not None
    rounds = [plan.require_training().round_event] * 3
    charged: tuple[Event, ...] = (plan.statistics.event, *rounds, plan.require_evaluation().event)
    assert receipt.epsilon_spent_pld == epsilon_by_pld(Composed(charged), 1e-5)
    assert receipt.epsilon_spent_pld <= 3.0 * (1 + 1e-9)


def test_statistics_are_paid_for_before_they_are_made(site: OneSite) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    site.policy = POLICY.replace("epsilon = 8.0", "epsilon = 0.01")
    site.open()
    assert refusal(site.ask(measure(job=job))) is Refusal.BUDGET_EXHAUSTED
    assert kinds(site) == ["hold"]
    assert site.outbox.get("run-1", "statistics") is None


def test_repeated_statistics_are_the_same_bytes_whatever_restarts(site: OneSite) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    first = site.site.answer(site.seal(measure(job=job)))
    spent, length = site.spent, site.ledger.length
    assert site.site.answer(site.seal(measure(job=job))) == first
    site.open()
    assert site.site.answer(site.seal(measure(job=job))) == first
    site.ask(round_plan(1, job=job))
    site.ask(settle(job=job))
    assert site.site.answer(site.seal(measure(job=job))) == first
    assert site.ledger.length == length + 3
    assert site.spent > spent


def test_a_crash_after_the_charge_makes_one_release_of_one_charge(site: OneSite) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    policy = load_policy(site.config.site.policy)
    budget = policy.budget(DATASET) if policy else None
    plan = job.plan.statistics
    assert budget is not None
    assert plan is not None
    site.ledger.reserve("run-1", "statistics", plan.event, budget=budget)
    spent = site.spent
    site.open()
    assert isinstance(site.ask(measure(job=job)), Statistics)
    assert site.spent == spent
    assert kinds(site) == ["hold", "reserve", "commit"]


def test_lost_statistics_are_never_made_anew(site: OneSite) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    site.ask(measure(job=job))
    (site.config.site.state / "outbox" / "run-1" / "statistics.release").unlink()
    assert refusal(site.ask(measure(job=job))) is Refusal.INTEGRITY


def test_statistics_that_no_job_asked_for_are_refused(site: OneSite) -> None:
    site.ask(site.admit())
    assert refusal(site.ask(measure(job=make_job()))) is Refusal.OUT_OF_ORDER
    assert refusal(site.ask(measure())) is Refusal.CHANGED_REPLAY
    assert refusal(site.ask(measure(run_id="run-2"))) is Refusal.NOT_ADMITTED
    assert kinds(site) == ["hold"]


def test_after_the_end_nothing_is_measured(site: OneSite) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    site.ask(settle(job=job))
    assert refusal(site.ask(measure(job=job))) is Refusal.OUT_OF_ORDER


def test_noise_that_can_be_repeated_measures_nothing(site: OneSite) -> None:
    site.noise = SeededNoise(1)
    site.open()
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    assert refusal(site.ask(measure(job=job))) is Refusal.INTERNAL
    assert kinds(site) == ["hold"]


@pytest.mark.parametrize("make", [round_plan, evaluate])
@pytest.mark.parametrize("size", [0, 2 * FEATURES - 1, 2 * FEATURES + 2])
def test_a_scaling_of_another_length_is_refused(
    site: OneSite, make: Callable[..., RoundPlan | Evaluate], size: int
) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    request = make(job=job)
    changed = dataclasses.replace(request, scaling=np.zeros(size, dtype=np.float32))
    assert refusal(site.ask(changed)) is Refusal.WRONG_SHAPE
    assert kinds(site) == ["hold"]


def test_a_scaling_without_statistics_is_refused(site: OneSite) -> None:
    site.ask(site.admit())
    scaling = np.ones(2 * FEATURES, dtype=np.float32)
    assert refusal(site.ask(dataclasses.replace(round_plan(), scaling=scaling))) is (
        Refusal.WRONG_SHAPE
    )
    assert kinds(site) == ["hold"]


@pytest.mark.parametrize("make", [round_plan, evaluate])
def test_another_scaling_is_another_request(
    site: OneSite, make: Callable[..., RoundPlan | Evaluate]
) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    request = make(job=job)
    assert not isinstance(site.ask(request), Refused)
    other = np.full(2 * FEATURES, 0.5, dtype=np.float32)
    changed = dataclasses.replace(request, scaling=other)
    assert refusal(site.ask(changed)) is Refusal.CHANGED_REPLAY


@pytest.mark.parametrize("value", [3.4e38, -3.4e38, 1e-45])
def test_an_extreme_scaling_gets_a_release_that_is_paid_and_finite(
    site: OneSite, value: float
) -> None:
    job = make_job(MOMENTS_JOB)
    site.ask(site.admit(job=job))
    scaling = np.full(2 * FEATURES, value, dtype=np.float32)
    for request in (round_plan(job=job, value=3.4e38), evaluate(job=job, value=3.4e38)):
        answer = site.ask(dataclasses.replace(request, scaling=scaling))
        assert isinstance(answer, Update | Evaluation)
        vector = answer.vector if isinstance(answer, Update) else answer.histogram
        assert np.isfinite(vector).all()
