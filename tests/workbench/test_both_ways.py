"""Rounds and synthetic records on one page, and how the demo splits one epsilon in two."""

import pytest
from plausible_run import plausible_run

from sordino.both_ways import both_ways, left_out
from sordino.built_in_job import hospitals_job_text
from sordino.demo_synthesis import planned, synthetic_job
from sordino.page import render
from sordino.result import RunResult, SyntheticSection
from sordino_protocols.accounting import epsilon_by_pld
from sordino_protocols.calibration import gaussian_noise
from sordino_protocols.errors import InputError
from sordino_protocols.files import parse_toml
from sordino_protocols.job import JobFile
from sordino_protocols.pricing import resolve
from sordino_protocols.privacy import Composed, Gaussian, Guarantee

JOB = parse_toml(hospitals_job_text(), JobFile, source="job.toml")


@pytest.fixture
def section() -> SyntheticSection:
    return SyntheticSection(
        run_id="synthesize-1",
        training_run_id="train-2",
        epsilon_release=3.76,
        epsilon_evaluation=1.1,
        exact={"accuracy": 0.807, "auc": 0.873},
        figures={
            "accuracy": {"value": 0.79, "interval": [0.74, 0.84]},
            "auc": {"value": 0.87, "interval": [0.82, 0.91]},
        },
        units=690.0,
        units_std=14.2,
        cells=6697,
        message_bytes=26788,
        seconds=12.3,
        left_out="",
    )


@pytest.fixture
def result(section: SyntheticSection) -> RunResult:
    return {**plausible_run(), "synthetic": section}


def test_compares_both_ways(result: RunResult) -> None:
    found = both_ways(result)
    assert found is not None
    rows = {row.title: (row.rounds, row.synthetic) for row in found.rows}
    assert rows["AUC, exact"] == ("0.886", "0.873")
    assert rows["Accuracy, as released"] == ("0.801 (0.752 to 0.850)", "0.790 (0.740 to 0.840)")
    assert rows["Messages of a site, evaluation aside"] == ("30", "1")


def test_the_page_shows_it_and_leads_to_the_synthesis(result: RunResult) -> None:
    html = render({**result, "synthetic_page": "synthetic.html"})
    assert "The same model without rounds" in html
    assert 'href="synthetic.html"' in html
    assert "6,697 noisy counts" in html
    assert "Synthetic records," in html  # in the drawing
    assert "690" in html


def test_a_page_without_synthetic_records_is_as_before() -> None:
    html = render(plausible_run())
    assert both_ways(plausible_run()) is None
    assert "without rounds" not in html


def test_says_why_there_are_none(result: RunResult, section: SyntheticSection) -> None:
    section["exact"], section["left_out"] = {}, "Synthetic records: <the> reason."
    told: RunResult = {**result, "synthetic": section}
    assert both_ways(told) is None
    assert "Synthetic records: <the> reason." in left_out(told)
    assert "Left out. Synthetic records: &lt;the&gt; reason." in render(told)


def test_both_jobs_together_cost_what_the_rounds_cost() -> None:
    synthesis, evaluation = planned(JOB)
    guarantee = JOB.guarantee
    noises = [gaussian_noise(Guarantee(each, guarantee.delta)) for each in (synthesis, evaluation)]
    together = Composed(tuple(Gaussian(noise) for noise in noises))
    assert 0.99 * guarantee.epsilon < epsilon_by_pld(together, guarantee.delta)
    assert epsilon_by_pld(together, guarantee.delta) <= guarantee.epsilon


def test_the_second_job_trains_the_same_model_without_rounds() -> None:
    file = synthetic_job(JOB, "synthesize-1", epsilon=1.0)
    assert file.model == JOB.model
    assert resolve(file).plan.training is None
    assert resolve(file).plan.require_evaluation().loss == "binary"


def test_a_model_of_whole_records_is_not_trained_twice() -> None:
    with pytest.raises(InputError, match="learns no label"):
        planned(JOB.model_copy(update={"model": None}))
