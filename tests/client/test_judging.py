import datetime as dt

import pytest
from one_site import JOB, POLICY, OneSite, make_job, refusal, sign
from small_job import validating

from sordino_client.judging import Judge
from sordino_client.mechanisms import Engine
from sordino_client.refusals import RefusedError
from sordino_client.training.arithmetic import Performance
from sordino_client.training.noise import SecureNoise
from sordino_protocols.cross_check import AccountantsDisagreeError
from sordino_protocols.job import Job
from sordino_protocols.messages import Admission, Inquire, Quote, Refusal
from sordino_protocols.privacy import Event

NOW = dt.datetime(2026, 5, 4, 8, 0, tzinfo=dt.UTC)


class Opinions:
    """An accountant that counts how often it is asked, and disagrees if told to."""

    def __init__(self, *, disagrees: bool = False) -> None:
        self.asked = 0
        self._disagrees = disagrees

    def __call__(self, event: Event, delta: float) -> None:
        self.asked += 1
        if self._disagrees:
            raise AccountantsDisagreeError(f"{event} at {delta}")


def judge_of(site: OneSite, opinions: Opinions) -> Judge:
    engine = Engine(SecureNoise(), Performance())
    return Judge("cleveland", site.datasets, engine, second_opinion=opinions)


def quote(site: OneSite, job: Job) -> Quote:
    answer = site.ask(Inquire("price-1", sign(site, job, purpose="price")))
    assert isinstance(answer, Quote), answer
    return answer


def test_a_job_about_which_accountants_disagree_is_refused(site: OneSite) -> None:
    judge = judge_of(site, Opinions(disagrees=True))
    with pytest.raises(RefusedError) as refused:
        judge.judge(site.admit().job, site.site.rules, now=NOW)
    assert refused.value.refusal is Refusal.ACCOUNTANTS_DISAGREE


def test_a_job_is_priced_and_checked_once_however_often_it_is_judged(site: OneSite) -> None:
    opinions = Opinions()
    judge = judge_of(site, opinions)
    for _ in range(3):
        for run_id in ("run-1", "run-2"):
            judge.judge(site.admit(run_id).job, site.site.rules, now=NOW)
    assert opinions.asked == 1
    judge.judge(
        site.admit(job=make_job(JOB.replace("rounds = 3", "rounds = 4"))).job,
        site.site.rules,
        now=NOW,
    )
    assert opinions.asked == 2


def test_every_other_accountant_agrees_with_what_a_site_is_asked_to_pay(site: OneSite) -> None:
    assert quote(site, make_job()).refusal is None


def test_a_quote_says_what_would_fit_into_what_is_left(site: OneSite) -> None:
    job = make_job(JOB.replace("rounds = 3", "rounds = 20"))
    whole = quote(site, job)
    training = job.plan.require_training()
    assert whole.refusal is None
    assert whole.rounds_that_fit == 20
    assert whole.noise_that_fits == training.noise_multiplier
    site.policy = POLICY.replace("epsilon = 8.0", "epsilon = 2.5")
    site.open()
    less = quote(site, job)
    assert less.refusal is Refusal.BUDGET_EXHAUSTED
    assert "budgets.heart.epsilon" in less.rule
    assert 0 < less.rounds_that_fit < 20
    assert less.noise_that_fits > training.noise_multiplier

    # What is said to fit fits, and a round more does not.
    def rounds(count: int) -> Job:
        training = job.file.require_training().model_copy(update={"rounds": count})
        return job.model_copy(update={"file": job.file.model_copy(update={"training": training})})

    assert quote(site, rounds(less.rounds_that_fit)).refusal is None
    assert quote(site, rounds(less.rounds_that_fit + 1)).refusal is Refusal.BUDGET_EXHAUSTED
    noisier = job.model_copy(update={"training_noise_multiplier": less.noise_that_fits})
    assert quote(site, noisier).refusal is None


def test_a_job_may_use_some_columns_and_no_unknown_ones(site: OneSite) -> None:
    some = make_job(JOB.replace('dataset = "heart"', 'dataset = "heart"\ncolumns = ["chol"]'))
    answer = site.ask(site.admit(job=some))
    assert isinstance(answer, Admission)
    assert answer.feature_count == 1
    none = make_job(JOB.replace('dataset = "heart"', 'dataset = "heart"\ncolumns = ["name"]'))
    assert refusal(site.ask(site.admit("run-2", none))) is Refusal.WRONG_TASK


def test_a_validation_is_judged_by_the_policys_kinds(site: OneSite) -> None:
    job = make_job(validating("1" * 64).replace('"va"', '"hungarian"'))
    assert quote(site, job).refusal is Refusal.FORBIDDEN_BY_POLICY
    site.policy = POLICY.replace('kinds = ["train"]', 'kinds = ["train", "validate"]')
    site.open()
    allowed = quote(site, job)
    assert (allowed.refusal, allowed.rounds_that_fit) == (None, 0)
    assert allowed.noise_that_fits == job.plan.require_evaluation().noise_multiplier
