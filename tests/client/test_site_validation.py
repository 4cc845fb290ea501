import numpy as np
import pytest
from one_site import FEATURES, POLICY, OneSite, kinds, make_job, measure, refusal, settle, sign
from small_job import validating

from sordino_protocols.job import Job, weights_digest
from sordino_protocols.messages import (
    Admission,
    Admit,
    Evaluate,
    Evaluation,
    Receipt,
    Refusal,
    RoundPlan,
    Vector,
)
from sordino_protocols.scaling import Scaling

NOTHING: Vector = np.zeros(0, dtype=np.float32)
WEIGHTS = np.linspace(-1, 1, FEATURES + 1, dtype=np.float32)
SCALING = Scaling(np.zeros(FEATURES), np.full(FEATURES, 2.0)).vector()


def job_for(weights: Vector, scaling: Vector = NOTHING) -> Job:
    return make_job(validating(weights_digest(weights, scaling)))


def admit(site: OneSite, job: Job) -> Admission:
    answer = site.ask(Admit("run-1", sign(site, job, purpose="validate")))
    assert isinstance(answer, Admission), answer
    return answer


@pytest.fixture
def validating_site(site: OneSite) -> OneSite:
    site.policy = POLICY.replace('kinds = ["train"]', 'kinds = ["validate"]')
    site.open()
    return site


@pytest.mark.parametrize("scaling", [NOTHING, SCALING], ids=["as declared", "scaled"])
def test_the_weights_that_were_signed_are_evaluated_once(
    validating_site: OneSite, scaling: Vector
) -> None:
    site, job = validating_site, job_for(WEIGHTS, scaling)
    admit(site, job)
    request = Evaluate("run-1", job.digest(), WEIGHTS, scaling)
    answer = site.ask(request)
    assert isinstance(answer, Evaluation)
    assert answer.histogram.size == np.prod(job.plan.require_evaluation().shape)
    receipt = site.ask(settle(job=job))
    assert isinstance(receipt, Receipt)
    assert receipt.coins == ""
    assert 0 < receipt.epsilon_spent_pld <= job.file.require_privacy().epsilon
    assert kinds(site) == ["hold", "reserve", "commit", "settle"]


def test_other_weights_than_were_signed_are_not_evaluated(validating_site: OneSite) -> None:
    site, job = validating_site, job_for(WEIGHTS)
    admit(site, job)
    other = WEIGHTS.copy()
    other[0] = np.nextafter(other[0], np.float32(1))
    wrong: list[tuple[Vector, Vector]] = [
        (other, NOTHING),
        (WEIGHTS, SCALING),
        (WEIGHTS[:-1], NOTHING),
    ]
    for weights, scaling in wrong:
        request = Evaluate("run-1", job.digest(), weights, scaling)
        assert refusal(site.ask(request)) is Refusal.WRONG_SHAPE
    assert kinds(site) == ["hold"]


def test_a_validation_trains_and_measures_nothing(validating_site: OneSite) -> None:
    site, job = validating_site, job_for(WEIGHTS)
    admit(site, job)
    for number in (0, 1):
        request = RoundPlan("run-1", job.digest(), number, WEIGHTS)
        assert refusal(site.ask(request)) is Refusal.OUT_OF_ORDER
    assert refusal(site.ask(measure(job=job))) is Refusal.OUT_OF_ORDER
    assert kinds(site) == ["hold"]


def test_a_validation_is_run_with_a_signature_for_one_only(validating_site: OneSite) -> None:
    site, job = validating_site, job_for(WEIGHTS)
    trained = Admit("run-1", sign(site, job, purpose="train"))
    assert refusal(site.ask(trained)) is Refusal.UNAUTHENTICATED
