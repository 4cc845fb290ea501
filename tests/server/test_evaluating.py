"""What is published of an evaluation: figures of the task, and curves where there are scores."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sordino_protocols.plan import EvaluationPlan, LossName
from sordino_protocols.score_curves import calibration, roc_curve
from sordino_server.evaluating import evaluation_facts
from sordino_server.statement import EvaluationFacts

NOISE = 3.0


def tables(plan: EvaluationPlan, sites: int) -> dict[str, NDArray[np.float64]]:
    rng = np.random.default_rng(sites)
    return {f"s{i}": np.rint(rng.normal(20, NOISE, np.prod(plan.shape))) for i in range(sites)}


@pytest.mark.parametrize("sites", [1, 4])
def test_curves_are_of_all_sites_and_of_all_their_noise(sites: int) -> None:
    plan = EvaluationPlan("binary", 6, 1, NOISE)
    answers = tables(plan, sites)
    facts = evaluation_facts(plan, answers, label_scale=1.0, confidence=0.9)
    whole = np.sum([*answers.values()], axis=0).reshape(plan.shape)
    noise_std = NOISE * np.sqrt(sites)
    points = roc_curve(whole, noise_std=noise_std, confidence=0.9)
    assert [each.threshold for each in facts.roc] == [each.threshold for each in points]
    for told, point in zip(facts.roc, points, strict=True):
        for said, found in (
            (told.true_positive_rate, point.true_positive_rate),
            (told.false_positive_rate, point.false_positive_rate),
        ):
            assert (said.value, said.lower, said.upper) == (found.value, found.lower, found.upper)
    found_bins = calibration(whole, noise_std=noise_std, confidence=0.9)
    assert [each.observed_rate.value for each in facts.calibration] == [
        each.observed_rate.value for each in found_bins.bins
    ]
    assert facts.calibration_error is not None
    assert facts.calibration_error.upper == found_bins.expected_error.upper


@pytest.mark.parametrize(("loss", "classes"), [("cross_entropy", 3), ("squared", 1)])
def test_a_table_without_scores_has_no_curves(loss: LossName, classes: int) -> None:
    plan = EvaluationPlan(loss, 6, classes, NOISE)
    facts = evaluation_facts(plan, tables(plan, 2), label_scale=10.0, confidence=0.95)
    assert (facts.roc, facts.calibration, facts.calibration_error) == ((), (), None)


def test_what_is_published_reads_back() -> None:
    plan = EvaluationPlan("binary", 4, 1, NOISE)
    facts = evaluation_facts(plan, tables(plan, 2), label_scale=1.0, confidence=0.95)
    assert EvaluationFacts.model_validate_json(facts.model_dump_json()) == facts
