"""The bill before charged trials, and what their noisy evaluations say. The runs: tests/system."""

from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sordino import heart
from sordino.tuning_charged import SiteBill, make_bill, read_metrics
from sordino_protocols.accounting import epsilon_by_rdp, renyi_curve
from sordino_protocols.errors import SordinoError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import Job, JobFile
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import PoissonGaussian

TEXT = (files(heart) / "job.toml").read_text()


def job(epsilon: float = 1.0) -> Job:
    text = TEXT.replace("epsilon = 4.0", f"epsilon = {epsilon}")
    return resolve(parse_toml(text, JobFile, source="job.toml"))


def quote(left: float, *, refusal: str | None = None) -> dict[str, object]:
    return {
        "refusal": refusal,
        "rule": "policy.toml:11 budgets.heart.epsilon",
        "epsilon_pld": 1.0,
        "epsilon_rdp": 1.1,
        "budget_left": left,
    }


def answer(**sites: dict[str, object]) -> dict[str, object]:
    return {"quotes": sites, "refused": {}, "silent": {}}


def test_trials_add_up_as_curves_at_every_site() -> None:
    jobs = [job(), job(), job(2.0)]
    bill = make_bill(jobs, [answer(va=quote(3.0), cleveland=quote(2.0))] * 3)
    assert [each.site for each in bill] == ["cleveland", "va"]
    alone = [epsilon_by_rdp(each.plan.event, 1e-5) for each in jobs]
    for each in bill:
        assert each.trials == 3
        assert max(alone) < each.epsilon < sum(alone)
    assert [each.left for each in bill] == [2.0, 3.0]
    assert [each.fits for each in bill] == [False, True]


def test_one_trial_more_is_one_too_many() -> None:
    def fits(count: int) -> bool:
        (bill,) = make_bill([job()] * count, [answer(va=quote(2.0))] * count)
        return bill.fits

    assert fits(2)
    assert not fits(4)


def test_a_site_is_billed_for_the_trials_that_ask_it() -> None:
    bill = make_bill([job(), job()], [answer(va=quote(8.0)), answer(basel=quote(8.0))])
    assert [(each.site, each.trials) for each in bill] == [("basel", 1), ("va", 1)]


def test_one_trial_is_the_ledgers_to_judge() -> None:
    # After earlier runs a budget may fit a job that costs more, alone, than what is left.
    (bill,) = make_bill([job()], [answer(va=quote(0.5))])
    assert bill.epsilon > 0.5
    assert bill.fits


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer(va=quote(9.0, refusal="budget_exhausted")), "budget_exhausted (policy.toml"),
        ({"quotes": {}, "refused": {"va": "no_policy"}, "silent": {}}, "refused: no_policy"),
        ({"quotes": {}, "refused": {}, "silent": {"va": "timed_out"}}, "silent: timed_out"),
    ],
)
def test_a_site_that_would_not_take_one_of_them_stops_all(
    reply: dict[str, object], expected: str
) -> None:
    (bill,) = make_bill([job(), job()], [answer(va=quote(9.0)), reply])
    assert bill.refusal is not None
    assert expected in bill.refusal
    assert not bill.fits


_events = st.builds(
    PoissonGaussian,
    sampling_rate=st.sampled_from([0.01, 0.1, 1.0]),
    noise_multiplier=st.sampled_from([0.6, 1.0, 4.0, 30.0]),
    steps=st.sampled_from([1, 50, 2000]),
)


@settings(deadline=None)  # the first of its kind imports the accountant
@given(spent=_events, new=_events, delta=st.sampled_from([3e-4, 1e-5, 1e-9]))
def test_what_was_spent_never_grows_by_more_than_the_new_alone(
    spent: PoissonGaussian, new: PoissonGaussian, delta: float
) -> None:
    before, alone = renyi_curve(spent), renyi_curve(new)
    grown = (before + alone).epsilon(delta) - before.epsilon(delta)
    assert grown <= alone.epsilon(delta) + 1e-9


def test_a_site_without_an_answer_about_its_budget_does_not_fit() -> None:
    assert not SiteBill("va", 2, 1.0, None, None).fits


def test_a_statements_figures_become_measurements() -> None:
    figures = {"auc": {"value": 0.8, "lower": 0.7, "upper": 0.9}}
    found = read_metrics({"evaluation": {"metrics": figures, "confidence": 0.95}})
    assert (found["auc"].value, found["auc"].interval) == (0.8, (0.7, 0.9))


@pytest.mark.parametrize("statement", [{}, {"evaluation": {}}, {"evaluation": []}, None])
def test_a_statement_without_an_evaluation_is_an_error(statement: object) -> None:
    with pytest.raises(SordinoError, match="no evaluation"):
        read_metrics(statement)
